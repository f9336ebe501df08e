"""Checksums: what ties a stored value to its record, computed here from the words of the format."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore.checksum import mix32

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**63 - 1),
        st.integers(0, 255),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
    ),
    max_size=10,
)


def model(record: int, field: int, compression: int, raw_length: int, items: int) -> int:
    """Return the mix with plain integers."""
    wide = 2**64
    h = record * 0x9E3779B97F4A7C15
    h += raw_length * 0xC2B2AE3D27D4EB4F
    h += items * 0x165667B19E3779F9
    h = (h % wide) ^ (compression << 32 | field)
    for _ in range(2):
        h ^= h >> 32
        h = h * 0xD6E8FEB86659FD93 % wide
    return (h ^ h >> 32) % 2**32


def mixed(field: int, rows: list[tuple[int, int, int, int]]) -> list[int]:
    record, compression, raw_length, items = zip(*rows, strict=True) if rows else ((),) * 4
    found = mix32(
        np.array(record, np.int64),
        field,
        np.array(compression, np.uint8),
        np.array(raw_length, np.uint32),
        np.array(items, np.uint32),
    )
    assert found.dtype == np.uint32
    return [int(value) for value in found]


@settings(max_examples=80, deadline=None)
@given(field=st.integers(0, 999), rows=ROWS)
def test_the_mix_is_what_the_format_says(field: int, rows: list[tuple[int, int, int, int]]) -> None:
    expected = [model(row[0], field, *row[1:]) for row in rows]

    assert mixed(field, rows) == expected


@pytest.mark.parametrize("row", [(0, 0, 0, 0), (5, 1, 1000, 0), (2**63 - 2, 3, 2**32 - 2, 7)])
def test_whatever_decides_how_a_body_is_read_changes_the_mix(
    row: tuple[int, int, int, int],
) -> None:
    a, b, c, d = row
    changed = [(a + 1, b, c, d), (a, b + 1, c, d), (a, b, c + 1, d), (a, b, c, d + 1)]
    values = mixed(3, [row, *changed]) + mixed(4, [row])

    assert len(set(values)) == 6


def test_neighbouring_records_have_unlike_mixes() -> None:
    values = mixed(0, [(record, 0, 1024, 0) for record in range(100_000)])

    assert len(set(values)) > 99_990  # of 2**32, one or two pairs are alike by chance
    bits = np.unpackbits(np.array(values, np.uint32).view(np.uint8)).reshape(-1, 32).mean(axis=0)
    assert np.all(np.abs(bits - 0.5) < 0.01)


def test_the_index_holds_the_checksum_of_the_body_tied_to_its_place(tmp_path: Path) -> None:
    values: dict[str, list[bytes | None]]
    fields: dict[str, str | sqlstore.Field]
    values = {"first": [b"same", b"same", None, b""], "second": [b"same", bytes(1000), b"x", b""]}
    fields = {"first": sqlstore.Field("bytes", compression=None), "second": "bytes"}
    with sqlstore.create(tmp_path / "s", fields=fields) as store:
        rows = zip(*values.values(), strict=True)
        store.extend({"first": first, "second": second} for first, second in rows)
        locations = store.sql("SELECT * FROM record_locations").to_pylist()

    assert len(locations) == 7
    for row in locations:
        data = (tmp_path / "s" / row["file"]).read_bytes()
        body = data[row["offset"] : row["offset"] + row["length"]]
        number = {"first": 0, "second": 1}[row["field"]]
        compression = {"none": 0, "lz4": 1}[row["compression"]]
        mix = model(row["record"], number, compression, row["raw_length"], row["items"])
        assert row["checksum"] == zlib.crc32(body) ^ mix
        assert row["raw_length"] == len(values[row["field"]][row["record"]] or b"")
    assert len({row["checksum"] for row in locations}) == 7
