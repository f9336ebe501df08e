"""The rows of named subsets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from sqlstore.index.engine import Index
from sqlstore.index.row import Row


@dataclass(frozen=True, slots=True)
class SubsetRow(Row):
    """A row of the table ``subsets``: ``number`` is that of the commit that saved it."""

    number: int
    name: str
    sql: str | None
    parameters: str | None
    note: str | None
    records: int
    fingerprint: str
    content: str
    saved_at: int


_NAMES = [field.name for field in dataclasses.fields(SubsetRow)]
_COLUMNS = ", ".join(_NAMES)


def insert(index: Index, row: SubsetRow, ids: Sequence[int]) -> None:
    """Insert a subset and its members.

    Raises
    ------
    sqlite3.IntegrityError
        There is one of that name.
    """
    index.insert("subsets", _NAMES, [[value] for value in dataclasses.astuple(row)])
    if ids:
        columns = [[row.number] * len(ids), range(len(ids)), ids]
        index.insert("subset_records", ["subset", "position", "record"], columns)


def delete(index: Index, name: str) -> bool:
    """Delete a subset and its members; return whether there was one."""
    found = named(index, name)
    if found is not None:
        index.run("DELETE FROM subset_records WHERE subset = ?", (found.number,))
        index.run("DELETE FROM subsets WHERE number = ?", (found.number,))
    return found is not None


def listed(index: Index) -> list[SubsetRow]:
    """Return all subsets, in the order in which they were saved."""
    sql = f"SELECT {_COLUMNS} FROM subsets ORDER BY number"
    return [SubsetRow(*row) for row in index.rows(sql)]


def named(index: Index, name: str) -> SubsetRow | None:
    """Return the subset of this name, or None."""
    row = index.row(f"SELECT {_COLUMNS} FROM subsets WHERE name = ?", (name,))
    return SubsetRow(*row) if row else None


def members(index: Index, number: int) -> list[int]:
    """Return the members of a subset, in order."""
    sql = "SELECT record FROM subset_records WHERE subset = ? ORDER BY position"
    return [record for (record,) in index.rows(sql, (number,))]
