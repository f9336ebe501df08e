"""What single encodings take, keep and refuse; encodings of one's own; pickle."""

from __future__ import annotations

import enum
import io
import math
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy
from PIL import Image

import sqlstore
from sqlstore import DecodeError, EncodeError
from sqlstore.encodings import ENCODINGS
from tests.values import (
    DTYPES_OF_ML,
    JPEGS,
    PICTURES,
    SPECIAL,
    VALUES,
    filled,
    same,
)


def kept(encoding: str, value: Any) -> Any:
    """Return what an encoding makes of a value."""
    return ENCODINGS[encoding].decode(bytes(ENCODINGS[encoding].encode(value)))


# Integers


@pytest.mark.parametrize(
    "number",
    [128, 255, -1, -128, 0, 2**64, -(2**64), 10**5000, -(1 << 9000)],
    ids=lambda n: f"{n.bit_length()} bits",
)
def test_int_holds_any_number(number: int) -> None:
    assert kept("int", number) == number


@pytest.mark.parametrize("encoding", ["int", "i64", "u64"])
def test_integers_of_numpy_are_integers(encoding: str) -> None:
    for value in (np.uint8(200), np.int64(7), np.array(9, ">i2")):
        found = kept(encoding, value)
        assert type(found) is int
        assert found == value


@pytest.mark.parametrize("encoding", ["int", "i64", "u64"])
@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", b"1", None, np.array([1]), [1]])
def test_what_is_no_integer_is_refused(encoding: str, value: object) -> None:
    with pytest.raises(EncodeError, match="expected an integer"):
        ENCODINGS[encoding].encode(value)


@pytest.mark.parametrize(
    ("encoding", "number"),
    [("i64", 2**63), ("i64", -(2**63) - 1), ("u64", -1), ("u64", 2**64), ("i64", 1 << 20_000)],
    ids=["above", "below", "negative", "above", "far above"],
)
def test_integers_of_eight_bytes_have_bounds(encoding: str, number: int) -> None:
    with pytest.raises(EncodeError, match="eight bytes"):
        ENCODINGS[encoding].encode(number)


# JSON and MessagePack: what would come back as something else is refused

_Pair = namedtuple("_Pair", "a b")


class _Number(enum.IntEnum):
    ONE = 1


def deep(kind: Callable[[Any], Any], depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = kind(value)
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        (1, 2), [(1,)], {"a": ()}, _Pair(1, 2), {1: "a"}, {None: 1}, {True: 1}, {1.5: 1}, {(1,): 2},
        b"a", {1, 2}, math.nan, [math.inf], "\ud800", object(), np.int64(1), np.zeros(2), 1j,
        10**5000, endless(), deep(lambda one: [one], 100_000),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_json_refuses_what_would_come_back_different(value: object) -> None:
    with pytest.raises(EncodeError, match="JSON"):
        ENCODINGS["json"].encode(value)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2), [(1,)], {"a": ()}, _Pair(1, 2), {(1,): 2}, {1, 2}, 2**64, -(2**63) - 1, "\ud800",
        object(), np.int64(1), np.float64(1), 1j, OrderedDict(a=1), _Number.ONE,
        endless(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_msgpack_refuses_what_would_come_back_different(value: object) -> None:
    with pytest.raises(EncodeError, match="MessagePack"):
        ENCODINGS["msgpack"].encode(value)


def test_msgpack_keeps_keys_that_json_has_not() -> None:
    value = {1: "int", -1: [], b"b": b"", False: math.inf, "": None, 1.5: {}}
    assert same(kept("msgpack", value), value)


def test_bytes_of_any_kind_come_back_as_bytes() -> None:
    for encoding in ("bytes", "msgpack"):
        for value in (b"a", bytearray(b"a"), memoryview(b"a")):
            assert same(kept(encoding, value), b"a")


# Trees


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(), _Pair(1, 2), {1}, bytearray(b"a"), object(), np.array([{}]), "\ud800", 1j,
        {"a": [object()]}, endless(), deep(lambda one: {"a": one}, 201), _Number.ONE,
        np.ma.masked_array([1], [True]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_trees_refuse_what_would_come_back_different(value: object) -> None:
    with pytest.raises(EncodeError):
        ENCODINGS["tree"].encode(value)


@pytest.mark.parametrize(
    "kind", [lambda one: [one], lambda one: (one,), lambda one: {"a": one}, lambda one: {(): one}]
)
def test_the_deepest_tree_can_be_read_from_deep_within_a_program(kind: Any) -> None:
    value = deep(kind, 199)

    def within(depth: int) -> Any:
        return within(depth - 1) if depth else kept("tree", value)

    assert within(200) == value


# Arrays


@pytest.mark.parametrize("name", SPECIAL)
def test_arrays_of_special_types_are_kept(name: str) -> None:
    for shape in ((), (3,), (0, 2), (2, 3)):
        array = filled(SPECIAL[name], shape)
        for given_ in (array, array.T, array[..., ::-1] if shape else array):
            assert same(kept("array", given_), given_)
    scalar: Any = filled(SPECIAL[name], ())[()]
    assert same(kept("tree", [scalar]), [scalar])


def test_nothing_of_the_memory_between_fields_is_stored() -> None:
    array = np.zeros((40, 2), SPECIAL["aligned"])[:, 0]
    for _ in range(20):
        assert bytes(ENCODINGS["array"].encode(array)).endswith(bytes(array.nbytes))


@pytest.mark.parametrize("name", ["overlapping", "other order", "bfloat16 within", *DTYPES_OF_ML])
def test_what_npy_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(EncodeError, match="npy has no dtype"):
        ENCODINGS["npy"].encode(filled(SPECIAL[name], (2,)))


def test_arrays_of_ml_dtypes_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlstore.encodings import dtypes

    data = bytes(ENCODINGS["array"].encode(np.zeros(3, ml_dtypes.float8_e5m2)))
    dtypes._parsed.cache_clear()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(sqlstore.MissingPackageError, match="pip install ml_dtypes"):
        ENCODINGS["array"].decode(data)


def test_the_bytes_of_an_npy_file_are_kept_as_they_are() -> None:
    stream = io.BytesIO()
    array = np.arange(6).reshape(2, 3)
    npy.write_array(stream, array, version=(2, 0))
    made = stream.getvalue()
    for given_ in (made, bytearray(made), memoryview(made)):
        assert ENCODINGS["npy"].encode(given_) == made
    assert same(ENCODINGS["npy"].decode(made), array)
    for wrong in (b"", b"PK\3\4", JPEGS[0], [1], "a", 1, np.array([{}])):
        with pytest.raises(EncodeError):
            ENCODINGS["npy"].encode(wrong)


def test_an_npy_file_of_objects_is_not_read() -> None:
    stream = io.BytesIO()
    npy.write_array(stream, np.array([{}]), allow_pickle=True)
    data = bytes(ENCODINGS["npy"].encode(stream.getvalue()))
    with pytest.raises(DecodeError, match="objects"):
        ENCODINGS["npy"].decode(data)


# JPEG


def test_the_bytes_of_a_jpeg_are_kept_as_they_are() -> None:
    for made in JPEGS:
        for given_ in (made, bytearray(made), memoryview(made)):
            assert ENCODINGS["jpg"].encode(given_) == made
        np.testing.assert_array_equal(
            ENCODINGS["jpg"].decode(made), np.array(Image.open(io.BytesIO(made)))
        )


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
def test_arrays_become_a_jpeg_that_is_close_to_them(shape: tuple[int, ...]) -> None:
    ramps = np.arange(math.prod(shape)).reshape(shape) * 255 // math.prod(shape)
    array = ramps.astype(np.uint8)
    for given_ in (array, Image.fromarray(array), np.asfortranarray(array)):
        found = kept("jpg", given_)
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        assert np.abs(found.astype(int) - array).max() <= 8


def test_a_jpeg_of_inks_is_read_as_colours() -> None:
    assert kept("jpg", Image.new("CMYK", (3, 2))).shape == (2, 3, 3)


@pytest.mark.parametrize(
    "value",
    [
        b"", PICTURES[2], np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2)), np.zeros((0, 2), "u1"),
        Image.new("RGBA", (1, 1)), Image.new("I;16", (1, 1)), "a", [1], b"\x89PNG\r\n\x1a\n",
        np.zeros((1, 70_000), np.uint8),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_jpeg_is_refused(value: object) -> None:
    with pytest.raises(EncodeError):
        ENCODINGS["jpg"].encode(value)


# Damage that a checksum would have found


@pytest.mark.parametrize("encoding", sorted(ENCODINGS.keys() - {"pickle"}))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_bytes_make_decoding_raise_anything_but_a_decode_error(
    encoding: str, data: st.DataObject
) -> None:
    value = VALUES[encoding].filter(lambda one: one is not None)
    found = bytearray(ENCODINGS[encoding].encode(data.draw(value)))
    for _ in range(data.draw(st.integers(0, 3))):
        if found:
            found[data.draw(st.integers(0, len(found) - 1))] = data.draw(st.integers(0, 255))
    del found[data.draw(st.integers(0, len(found))) :]
    for damaged in (bytes(found), data.draw(st.binary(max_size=40))):
        try:
            ENCODINGS[encoding].decode(damaged)
        except DecodeError:
            continue
