"""The rows of dictionaries for compression."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sqlstore.index.engine import Index
from sqlstore.index.row import Row


@dataclass(frozen=True, slots=True)
class DictionaryRow(Row):
    """A row of the table ``dictionaries``: where one lies that values are compressed with."""

    number: int
    field: int
    chunk: int
    offset: int
    length: int
    crc: int


_NAMES = [field.name for field in dataclasses.fields(DictionaryRow)]
_COLUMNS = ", ".join(_NAMES)


def insert(index: Index, row: DictionaryRow) -> None:
    """Insert where a dictionary lies."""
    index.insert("dictionaries", _NAMES, [[value] for value in values(row)])


def move(index: Index, row: DictionaryRow) -> bool:
    """Say that a dictionary lies elsewhere; return whether there is one of its number."""
    place = row.chunk, row.offset, row.length, row.crc, row.number
    sql = "UPDATE dictionaries SET chunk = ?, offset = ?, length = ?, crc = ? WHERE number = ?"
    return index.run_many(sql, [place]) == 1


def values(row: DictionaryRow) -> tuple[int, ...]:
    """Return the values of a row, in order."""
    return dataclasses.astuple(row)


def listed(index: Index) -> list[DictionaryRow]:
    """Return every dictionary, by number."""
    sql = f"SELECT {_COLUMNS} FROM dictionaries ORDER BY number"
    return [DictionaryRow(*row) for row in index.rows(sql)]


def newest(index: Index, field: int) -> DictionaryRow | None:
    """Return the newest dictionary of a field, or None."""
    row = index.row(
        f"SELECT {_COLUMNS} FROM dictionaries WHERE field = ? ORDER BY number DESC LIMIT 1",
        (field,),
    )
    return DictionaryRow(*row) if row else None


def next_number(index: Index) -> int:
    """Return the number that the next dictionary gets."""
    row = index.row("SELECT coalesce(max(number) + 1, 0) FROM dictionaries")
    return int(row[0]) if row else 0
