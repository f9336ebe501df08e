"""Statements that change or remove rows of records that are there."""

from __future__ import annotations

from collections.abc import Sequence

from sqlstore.errors import RecordNotFoundError
from sqlstore.index.engine import Index
from sqlstore.index.records import quoted
from sqlstore.index.statement import ids_as_json
from sqlstore.schema import Schema
from sqlstore.types import Ids, SqlValue


def update_records(
    index: Index, names: Sequence[str], values: Sequence[Sequence[SqlValue]], ids: Ids
) -> None:
    """Give metadata columns of records other values.

    Parameters
    ----------
    names
        Of the columns.
    values
        For every column a sequence of what SQLite stores, in the order of the ids.
    ids
        Of the records, each once.

    Raises
    ------
    sqlite3.IntegrityError
        A constraint does not allow it.
    RecordNotFoundError
        A record is not there.
    """
    _update(index, "main.records", names, values, ids)


def _update(
    index: Index,
    table: str,
    names: Sequence[str],
    values: Sequence[Sequence[SqlValue]],
    ids: Ids,
) -> None:
    if names:
        given = ", ".join(f"{quoted(name)} = ?" for name in names)
        sql = f"UPDATE {table} SET {given} WHERE id = ?"
        refuse_missing(index, index.run_many(sql, zip(*values, ids.tolist(), strict=True)), ids)


def rekey_records(
    index: Index, names: Sequence[str], values: Sequence[Sequence[SqlValue]], ids: Ids
) -> None:
    """Do the same where the unique key is among the columns.

    The rows are taken out and put back, since records may exchange their keys, and SQLite looks at
    the key after every row.
    """
    index.run("CREATE TEMP TABLE rekeyed AS SELECT * FROM main.records LIMIT 0")
    try:
        index.run("CREATE UNIQUE INDEX temp.rekeyed_by_id ON rekeyed (id)")
        index.run_many(
            "INSERT INTO temp.rekeyed SELECT * FROM main.records WHERE id = ?",
            ((record,) for record in ids.tolist()),
        )
        _update(index, "temp.rekeyed", names, values, ids)
        index.run("DELETE FROM main.records WHERE id IN (SELECT id FROM temp.rekeyed)")
        index.run("INSERT INTO main.records SELECT * FROM temp.rekeyed ORDER BY id")
    finally:
        index.run("DROP TABLE temp.rekeyed")


def delete_records(index: Index, schema: Schema, ids: Ids) -> int:
    """Remove records, and where their values lie; return how many records were there."""
    sql = "DELETE FROM main.records WHERE id = ?"
    found = index.run_many(sql, ((record,) for record in ids.tolist()))
    for field in schema.fields.values():
        delete_blobs(index, field.number, ids)
    return found


def delete_blobs(index: Index, field: int, ids: Ids) -> None:
    """Remove where the values of one field of records lie, as far as they have one."""
    sql = f"DELETE FROM blobs WHERE field = {field} AND record = ?"
    index.run_many(sql, ((record,) for record in ids.tolist()))


def move_values(
    index: Index,
    field: int,
    ids: Ids,
    before: tuple[Sequence[int], Sequence[int]],
    after: tuple[int, Sequence[int]],
) -> int:
    """Say that values of one field lie elsewhere, as far as they lie where they are said to.

    Parameters
    ----------
    before
        In which chunks they lie, and where there, in the order of the ids.
    after
        In which chunk they lie from now on, and where there.

    Returns
    -------
    int
        How many lay there.
    """
    sql = (
        f"UPDATE blobs SET chunk = {after[0]}, offset = ? "
        f"WHERE field = {field} AND record = ? AND chunk = ? AND offset = ?"
    )
    return index.run_many(sql, zip(after[1], ids.tolist(), *before, strict=True))


def refuse_deleted(index: Index, ids: Ids) -> None:
    """Raise unless all records are there.

    Raises
    ------
    RecordNotFoundError
        One is not.
    """
    sql = "SELECT count(*) FROM main.records WHERE id IN (SELECT value FROM json_each(?))"
    row = index.row(sql, (ids_as_json(ids),))
    refuse_missing(index, int(row[0]) if row else 0, ids)


def round_values(index: Index, name: str, values: Sequence[tuple[SqlValue, int, SqlValue]]) -> None:
    """Give a column its values as it holds them: for each the new one, the record, the old one."""
    if values:
        column = quoted(name)
        sql = f"UPDATE main.records SET {column} = ? WHERE id = ? AND {column} = ?"
        index.run_many(sql, values)


def refuse_missing(index: Index, found: int, ids: Ids) -> None:
    """Raise unless as many records were found as there should be.

    Raises
    ------
    RecordNotFoundError
        Some are not there.
    """
    if found != len(ids):
        raise RecordNotFoundError(
            f"{len(ids) - found} of {len(ids)} records are not in {index.path} any more; choose "
            "them anew"
        )
