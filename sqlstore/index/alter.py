"""Bring the tables of an index from one schema to the next."""

from __future__ import annotations

from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.index.records import quoted
from sqlstore.schema import Column, Schema


def change(index: Index, before: Schema, after: Schema) -> None:
    """Alter ``records`` and what the index says of the schema, in a transaction of the caller's.

    Columns are told apart by their numbers: one that has another name was renamed.
    """
    old = {column.number: column for column in before.columns.values()}
    new = {column.number: column for column in after.columns.values()}
    for number, column in old.items():
        if column.index and not (number in new and new[number].index):
            index.run(f"DROP INDEX {_index_of(column)}")
    for number, column in old.items():
        if number not in new:
            index.run(f"ALTER TABLE main.records DROP COLUMN {quoted(column.name)}")
        elif new[number].name != column.name:
            renamed = f"{quoted(column.name)} TO {quoted(new[number].name)}"
            index.run(f"ALTER TABLE main.records RENAME COLUMN {renamed}")
    for number, column in new.items():
        if number not in old:
            declared = f"{quoted(column.name)} {column.kind.storage}"
            index.run(f"ALTER TABLE main.records ADD COLUMN {declared}")
        if column.index and not (number in old and old[number].index):
            index.run(f"CREATE INDEX {_index_of(column)} ON records ({quoted(column.name)})")
    records.put_columns(index, after)


def _index_of(column: Column) -> str:
    return f"index_{column.number}"
