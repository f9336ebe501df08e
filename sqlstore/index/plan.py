"""How SQLite would find what a statement asks for, and which index would help."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlstore.index.engine import Index, in_memory
from sqlstore.index.records import quoted
from sqlstore.index.statement import Statement
from sqlstore.schema import Schema

_STEP: Final = re.compile(
    r"(?P<how>SCAN|SEARCH) (?:main\.|temp\.)?(?P<table>.+?)"
    r"(?: USING (?:(?P<own>INTEGER PRIMARY KEY|PRIMARY KEY)"
    r"|(?:AUTOMATIC )?(?:PARTIAL )?(?:COVERING )?INDEX (?P<index>\S+)).*)?"
)
_CANDIDATE: Final = "sqlstore_candidate_"
_EVERYTHING: Final = """
SELECT sql FROM main.sqlite_schema
WHERE type IN ('table', 'index', 'view') AND sql IS NOT NULL AND name NOT LIKE 'sqlite%'
ORDER BY rowid
"""
_INDEXED: Final = """
SELECT s.name, i.name FROM main.sqlite_schema AS s JOIN pragma_index_info(s.name) AS i
WHERE s.type = 'index' AND s.tbl_name = 'records' AND i.seqno = 0
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a filter finds its records, as SQLite plans it. ``print`` it, or look at its parts.

    Made by `View.explain`.

    Attributes
    ----------
    indices
        The metadata columns whose index is used to find records; ``"id"`` for the record id, by
        which the records of a small view are found.
    scans
        The tables that are read from the first row to the last.
    suggestions
        The metadata columns on which indices would be used, together, where ``records`` is scanned.
    plan
        What SQLite itself says: its EXPLAIN QUERY PLAN.
    """

    indices: tuple[str, ...]
    scans: tuple[str, ...]
    suggestions: tuple[str, ...]
    plan: str

    @property
    def uses_index(self) -> bool:
        """Return whether records are found by an index, and not by looking at every one."""
        return bool(self.indices) and "records" not in self.scans

    def __str__(self) -> str:
        lines = [f"uses the index on {name}" for name in self.indices]
        lines += [
            "scans records: every record is looked at" if table == "records" else f"scans {table}"
            for table in self.scans
        ]
        if self.suggestions:
            calls = " and ".join(f"store.create_index({name!r})" for name in self.suggestions)
            lines.append(f"an index would be used: {calls}")
        return "\n".join([*lines, "", *(f"    {line}" for line in self.plan.splitlines())])


class _Step(NamedTuple):
    """A line of a plan."""

    detail: str
    depth: int
    is_correlated: bool

    @property
    def parts(self) -> dict[str, str | None]:
        """Return how it reads which table by which index, as far as it does."""
        match = _STEP.fullmatch(self.detail)
        return match.groupdict() if match else dict.fromkeys(("how", "table", "own", "index"))


def _steps(connection: sqlite3.Connection, statement: Statement) -> list[_Step]:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", statement.bound).fetchall()
    known: dict[int, _Step] = {0: _Step("", -1, False)}
    for number, parent, _, detail in rows:
        above = known.get(parent, known[0])
        correlated = above.is_correlated or detail.startswith("CORRELATED")
        known[number] = _Step(detail, above.depth + 1, correlated)
    return list(known.values())[1:]


def _searched(steps: Iterable[_Step]) -> Iterator[str]:
    for step in steps:
        parts = step.parts
        if parts["how"] == "SEARCH" and parts["index"]:
            yield parts["index"]


def searched_again_and_again(connection: sqlite3.Connection, statement: Statement) -> set[str]:
    """Return the indices by which a statement searches for each of many rows.

    Those are in subqueries that depend on the row; for a join, SQLite makes an index by itself, and
    what is searched once is as well scanned. A statement that is wrong has none: it is to fail
    where it is run.
    """
    with contextlib.suppress(sqlite3.Error, sqlite3.Warning, ValueError):
        return set(_searched(s for s in _steps(connection, statement) if s.is_correlated))
    return set()


def planned(index: Index, schema: Schema, statement: Statement, tables: Sequence[str]) -> Plan:
    """Return the plan of a statement that is known to be allowed.

    Parameters
    ----------
    index
        The connection, on which every table of the statement is.
    tables
        The SQL that makes the temporary tables.
    """
    steps = _steps(index.connection, statement)
    indexed: dict[str | None, str] = dict(index.rows(_INDEXED))
    found: dict[str, None] = {}
    scans: dict[str, None] = {}
    for step in steps:
        parts = step.parts
        table = parts["table"] or ""
        if parts["how"] == "SCAN" and "VIRTUAL TABLE" not in table:
            scans[table] = None
        elif parts["own"] and table == "records":
            found["id"] = None
        elif parts["index"] in indexed:
            found[indexed[parts["index"]]] = None
    lines = "\n".join(f"{'  ' * step.depth}{step.detail}" for step in steps)
    wanted: tuple[str, ...] = ()
    if "records" in scans:
        others = [column for column in schema.columns if column not in indexed.values()]
        wanted = _suggested(index, others, statement, tables)
    return Plan(tuple(found), tuple(scans), wanted, lines)


def _suggested(
    index: Index, columns: Sequence[str], statement: Statement, tables: Sequence[str]
) -> tuple[str, ...]:
    """Return the columns, of some without an index, whose index would be used: SQLite says so.

    It is asked in an empty copy of the database, in memory, where every column has an index.
    """
    by_name = {f"{_CANDIDATE}{number}": column for number, column in enumerate(columns)}
    with contextlib.closing(in_memory()) as copy:
        for sql in (*(row[0] for row in index.rows(_EVERYTHING)), *tables):
            with contextlib.suppress(sqlite3.Error):  # what others have added may need more
                copy.execute(sql)
        for name, column in by_name.items():
            copy.execute(f"CREATE INDEX {name} ON records ({quoted(column)})")
        used = list(_searched(_steps(copy, statement)))
    return tuple(dict.fromkeys(by_name[name] for name in used if name in by_name))
