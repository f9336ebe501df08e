"""Create an index: the fixed tables, the view for people, and `records` as the schema says."""

from __future__ import annotations

from functools import cache

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from sqlstore.index import records, versions
from sqlstore.index.declared import RECORD_LOCATIONS
from sqlstore.index.engine import Index
from sqlstore.index.tables import METADATA, records_table
from sqlstore.schema import Schema


def objects(schema: Schema) -> dict[str, str]:
    """Return every table, index and view of a store: its name, and the SQL that creates it."""
    table = records_table(schema)
    created = {**_fixed_tables(), "records": _compiled(CreateTable(table))}
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        created[str(index.name)] = _compiled(CreateIndex(index))
    return {**created, "record_locations": RECORD_LOCATIONS.strip()}


@cache
def _fixed_tables() -> dict[str, str]:
    return {fixed.name: _compiled(CreateTable(fixed)) for fixed in METADATA.sorted_tables}


def _compiled(statement: DDLElement) -> str:
    return str(statement.compile(dialect=sqlite.dialect())).strip()


def create(index: Index, schema: Schema, row: records.StoreRow) -> None:
    """Fill an empty database, inside a transaction of the caller's.

    Parameters
    ----------
    row
        What the table ``store`` holds.
    """
    for statement in objects(schema).values():
        index.run(statement)
    index.run("INSERT INTO alembic_version VALUES (?)", (versions.head(),))
    records.insert_store(index, row)
    records.insert_schema(index, schema)


def drop_key(index: Index, schema: Schema) -> None:
    """Let keys be there twice, until `make_key`."""
    if schema.key is not None:
        index.run(f"DROP INDEX IF EXISTS {_key_of(schema)}")


def make_key(index: Index, schema: Schema) -> None:
    """Make keys unique again.

    Raises
    ------
    sqlite3.IntegrityError
        One is there twice.
    """
    if schema.key is not None:
        index.run(objects(schema)[_key_of(schema)])


def _key_of(schema: Schema) -> str:
    return f"key_{schema.columns[str(schema.key)].number}"
