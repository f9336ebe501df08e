"""What lies in the chunks of a store, and how it is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlstore


def bodies(path: Path) -> list[tuple[Any, ...]]:
    """Return every value as it lies in the chunks, by field and record."""
    with sqlstore.open(path) as store:
        found = store.sql(
            "SELECT field, record, compression, raw_length, items, file, offset, length "
            "FROM record_locations ORDER BY field, record"
        ).to_pylist()
    chunks = {p.name: p.read_bytes() for p in (path / "chunks").iterdir()}
    values = []
    for row in found:
        start, file = row["offset"], Path(row.pop("file")).name
        row["offset"] = chunks[file][start : start + row["length"]]
        values.append(tuple(row.values()))
    return values


def damage(path: Path, field: str) -> None:
    """Change a byte of the last value of a field."""
    with sqlstore.open(path) as store:
        sql = "SELECT file, offset FROM record_locations WHERE field = :field AND length > 0"
        *_, place = store.sql(f"{sql} ORDER BY record", field=field).to_pylist()
    chunk = path / "chunks" / Path(place["file"]).name
    data = bytearray(chunk.read_bytes())
    data[place["offset"]] ^= 1
    chunk.write_bytes(data)
