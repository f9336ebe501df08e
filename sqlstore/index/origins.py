"""Which columns of a result are metadata columns, and not computed from them.

SQLite says of every column of a view which declared type it has, and of a computed one that it has
none of ours. So the statement becomes a view in an empty copy of the database, in memory, in which
every metadata column has a type of its own; it is compiled there and never run.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from functools import cached_property
from typing import Final

from sqlstore.index.engine import Index, in_memory
from sqlstore.index.joined import Joined
from sqlstore.index.records import quoted
from sqlstore.schema import Column, Schema

_TYPE: Final = re.compile(r"SQLSTORE_(?P<number>\d+)_[A-Z]+")
_COMPOUND: Final = re.compile(r"\b(union|intersect|except)\b", re.IGNORECASE)
_OTHER_TABLES: Final = """
SELECT sql FROM main.sqlite_schema
WHERE type IN ('table', 'view') AND name <> 'records' AND name NOT LIKE 'sqlite%'
"""


class Origins:
    """Describes the results of statements over one index.

    Parameters
    ----------
    index
        Says which other tables there are.
    schema
        The metadata columns.
    """

    def __init__(self, index: Index, schema: Schema) -> None:
        self._index = index
        self._columns = {column.number: column for column in schema.columns.values()}

    @cached_property
    def _empty_copy(self) -> sqlite3.Connection:
        connection = in_memory()
        declared = [f"{quoted(c.name)} {_declared(c)}" for c in self._columns.values()]
        columns = ", ".join(["id INTEGER PRIMARY KEY", *declared])
        connection.execute(f"CREATE TABLE records ({columns})")
        for (sql,) in self._index.rows(_OTHER_TABLES):
            connection.execute(sql)
        return connection

    def of(self, sql: str, tables: Sequence[Joined] = ()) -> list[Column | None]:
        """Return for every result column the metadata column that it is, or None.

        Parameters
        ----------
        sql
            A statement that is known to run, with NULL in place of its parameters, which a view
            cannot have.
        tables
            The tables of the user's own that it joins. Their columns count as metadata columns.

        Returns
        -------
        list
            Empty for a statement that cannot be a view, such as EXPLAIN, and for one that joins
            several by UNION, INTERSECT or EXCEPT: SQLite describes only the first of them.
        """
        if _COMPOUND.search(sql):
            return []
        known = dict(self._columns)
        with self._index.mutex:
            connection = self._empty_copy
            connection.execute("SAVEPOINT result")
            try:
                for table in tables:
                    connection.execute(table.create(_numbered(table, known)))
                connection.execute(f"CREATE TEMP VIEW result AS {sql}")
                described = connection.execute("PRAGMA temp.table_info(result)").fetchall()
            except (sqlite3.Error, sqlite3.Warning):
                return []
            finally:
                connection.execute("ROLLBACK TO result")
                connection.execute("RELEASE result")
        matches = [_TYPE.fullmatch(storage or "") for _, _, storage, *_ in described]
        return [match and known[int(match["number"])] for match in matches]


def _numbered(table: Joined, known: dict[int, Column]) -> list[str]:
    """Give the columns of a table numbers of their own; return what they are declared as."""
    declared = []
    for column in table.columns:
        number = max(known, default=-1) + 1
        known[number] = Column(column.kind.name, name=column.name, number=number)
        declared.append(_declared(known[number]))
    return declared


def _declared(column: Column) -> str:
    return f"SQLSTORE_{column.number}_{column.kind.storage}"
