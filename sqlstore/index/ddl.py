"""Create an index: the fixed tables, the view for people, and `records` as the schema says."""

from __future__ import annotations

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from sqlstore.index import records, versions
from sqlstore.index.engine import Index
from sqlstore.index.tables import METADATA, RECORD_LOCATIONS, records_table
from sqlstore.schema import Schema


def statements(schema: Schema) -> list[str]:
    """Return the SQL that creates every table, index and view of a store."""
    dialect = sqlite.dialect()
    table = records_table(schema)
    created: list[DDLElement] = [
        *(CreateTable(fixed) for fixed in METADATA.sorted_tables),
        CreateTable(table),
        *(CreateIndex(index) for index in sorted(table.indexes, key=lambda index: str(index.name))),
    ]
    return [str(one.compile(dialect=dialect)).strip() for one in created] + [
        RECORD_LOCATIONS.strip()
    ]


def create(index: Index, schema: Schema, row: records.StoreRow) -> None:
    """Fill an empty database, inside a transaction of the caller's.

    Parameters
    ----------
    row
        What the table ``store`` holds.
    """
    for statement in statements(schema):
        index.run(statement)
    index.run("INSERT INTO alembic_version VALUES (?)", (versions.head(),))
    records.insert_store(index, row)
    records.insert_schema(index, schema)
