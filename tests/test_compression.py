"""Compression: it never changes a value; damage to what it made is an error, not other bytes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore.compression import COMPRESSIONS, NAMES, compress_many, decompress
from sqlstore.types import Buffer

NUMBERS = {"lz4": 1, "zstd": 2, "gzip": 3}
NOISE = np.random.default_rng(0).bytes(5_000)
ZEROS = bytes(100_000)

DATA = st.one_of(
    st.sampled_from([b"", b"a"]),
    st.builds(lambda: ZEROS),
    st.builds(lambda: NOISE),
    st.builds(lambda: NOISE + ZEROS),
    st.binary(max_size=300),
    st.binary(min_size=1, max_size=3).map(lambda piece: piece * 400),
)


def compress(data: Buffer, number: int) -> tuple[Buffer, int]:
    """Compress one value."""
    (body,), used = compress_many([data], number)
    return body, int(used[0])


def test_the_numbers_on_disk_are_these() -> None:
    assert list(COMPRESSIONS.items()) == [(None, 0), *NUMBERS.items()]
    assert {number: name for name, number in COMPRESSIONS.items()} == NAMES


@pytest.mark.parametrize("number", [0, 1, 2, 3])
@settings(max_examples=50, deadline=None)
@given(data=DATA)
def test_what_was_compressed_comes_back(number: int, data: bytes) -> None:
    body, used = compress(data, number)

    assert used in (0, number)
    assert bytes(decompress(body, used, len(data))) == data
    assert len(body) < len(data) if used else bytes(body) == data


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_does_not_get_smaller_is_kept_as_it_is(number: int) -> None:
    for data in (b"", b"a", NOISE):
        assert compress(data, number) == (data, 0)
    assert compress(ZEROS, number)[1] == number


def test_what_is_too_long_for_lz4_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlstore.compression._LZ4_MOST", len(ZEROS) - 1)

    assert compress(ZEROS, 1) == (ZEROS, 0)
    assert compress(ZEROS[1:], 1)[1] == 1


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("wrong", [0, 1, len(ZEROS) - 1, len(ZEROS) + 1, 2**32 - 1])
def test_another_length_than_was_compressed_is_a_decode_error(number: int, wrong: int) -> None:
    body, used = compress(ZEROS, number)
    assert used == number

    with pytest.raises(sqlstore.DecodeError):
        decompress(body, number, wrong)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_bytes_of_no_compression_are_a_decode_error(number: int) -> None:
    body = bytes(compress(b"sqlstore " * 100, number)[0])
    for damaged in (b"", b"\0", NOISE[:100], body[:-1], body[:3]):
        with pytest.raises(sqlstore.DecodeError):
            decompress(damaged, number, 900)


def test_a_length_that_is_wrong_without_compression_is_a_decode_error() -> None:
    with pytest.raises(sqlstore.DecodeError, match=r"3 bytes .* instead of 4"):
        decompress(b"abc", 0, 4)


@pytest.mark.parametrize("number", [4, 63])
def test_an_unknown_compression_is_a_decode_error(number: int) -> None:
    with pytest.raises(sqlstore.DecodeError, match="newer sqlstore"):
        decompress(b"abc", number, 3)


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=60), number=st.integers(0, 4), length=st.integers(0, 2_000))
def test_no_bytes_raise_anything_but_a_decode_error(data: bytes, number: int, length: int) -> None:
    try:
        assert len(decompress(data, number, length)) == length
    except sqlstore.DecodeError:
        return


def test_what_is_stored_can_be_read_without_this_library() -> None:
    value = b"sqlstore " * 100

    assert zlib.decompress(bytes(compress(value, 3)[0]), wbits=31) == value
    assert gzip.decompress(bytes(compress(value, 3)[0])) == value
    assert compress(value, 3) == compress(value, 3)  # no time of day in it
    assert pa.decompress(compress(value, 2)[0], len(value), "zstd", asbytes=True) == value
    assert pa.decompress(compress(value, 1)[0], len(value), "lz4_raw", asbytes=True) == value


@pytest.mark.parametrize("compression", [None, "lz4", "zstd", "gzip"])
def test_a_store_says_what_is_compressed_how(tmp_path: Path, compression: str | None) -> None:
    values = {"small": b"a", "noise": NOISE, "zeros": ZEROS, "empty": b""}
    fields = dict.fromkeys([*values, "missing"], "bytes")
    with sqlstore.create(tmp_path / "s", fields=fields, compression=compression) as store:
        store.extend([values])
        table = store.sql("SELECT field, compression, length, raw_length FROM record_locations")
        found = {row.pop("field"): row for row in table.to_pylist()}

        assert store[0] == {**values, "missing": None}
        assert set(found) == set(values)
        for name, value in values.items():
            assert store.raw(0, name) == value
            assert found[name]["raw_length"] == len(value)
            is_smaller = name == "zeros" and compression is not None
            assert found[name]["compression"] == (compression if is_smaller else "none")
            assert (found[name]["length"] < len(value)) is is_smaller
        assert store.verify().faults == []
