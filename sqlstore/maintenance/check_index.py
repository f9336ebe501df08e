"""Check the index against the log: the rows that every commit became, and nothing else."""

from __future__ import annotations

import pyarrow as pa

from sqlstore import replay
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.log.segment import Trailer
from sqlstore.maintenance.report import Report
from sqlstore.schema import Schema
from sqlstore.types import SqlValue

_ADVICE = "run `sqlstore rebuild`"


def check_sqlite(index: Index, schema: Schema, report: Report) -> None:
    """Check the SQLite file by itself: its pages, and that it holds our tables and no others."""
    with report.catching():
        for (line,) in index.rows("PRAGMA integrity_check(20)"):
            if line != "ok":
                report.add(f"index.sqlite is damaged: {line}; {_ADVICE}")
    from sqlstore.index import ddl  # SQLAlchemy is imported where tables are declared

    with report.catching():
        found = {
            str(name): str(sql or "")
            for name, sql in index.rows("SELECT name, sql FROM sqlite_schema")
            if not str(name).startswith("sqlite_autoindex_")
        }
        expected = ddl.objects(schema)
        for name in sorted(expected.keys() - found.keys()):
            report.add(f"index.sqlite lacks {name}; {_ADVICE}")
        for name in sorted(found.keys() - expected.keys()):
            message = f"index.sqlite has something that is not sqlstore's, {name}: {found[name]}"
            report.add(f"{message}; {_ADVICE}")
        for name in sorted(expected.keys() & found.keys()):
            if _squeezed(found[name]) != _squeezed(expected[name]):
                report.add(f"index.sqlite declares {name} otherwise: {found[name]}; {_ADVICE}")


def _squeezed(sql: str) -> str:
    """Return SQL without what may differ between versions of SQLAlchemy."""
    return "".join(sql.split()).replace('"', "").lower()


def check_rows(
    index: Index, schema: Schema, trailer: Trailer, batch: pa.RecordBatch, report: Report
) -> None:
    """Compare the rows of an append with its segment table."""
    first, count = trailer.first_record, trailer.records
    with report.catching():
        expected = zip(range(first, first + count), *replay.sql_columns(batch, schema), strict=True)
        found = {row[0]: row for row in records.record_rows(index, schema, first, count)}
        for row in expected:
            _compare_record(schema, tuple(map(_as_stored, row)), found.pop(row[0], None), report)
    for field in schema.fields.values():
        with report.catching(field=field.name):
            values = replay.all_values(batch, schema)[field.number]
            expected_rows = zip(
                *records.blob_columns(replay.blob_rows(trailer, field.number, values)), strict=True
            )
            found_rows = {
                row[1]: row for row in records.blob_rows(index, field.number, first, count)
            }
            for expected_row in expected_rows:
                _compare_blob(
                    expected_row, found_rows.pop(expected_row[1], None), field.name, report
                )
            for record in found_rows:
                report.add(
                    f"the index has a value that the log has not; {_ADVICE}",
                    record=record,
                    field=field.name,
                )


def _as_stored(value: SqlValue) -> SqlValue:
    return None if value != value else value  # NaN is NULL for SQLite


def _compare_record(
    schema: Schema,
    expected: tuple[SqlValue, ...],
    found: tuple[SqlValue, ...] | None,
    report: Report,
) -> None:
    if found is None:
        report.add(f"the index lacks the record; {_ADVICE}", record=int(expected[0] or 0))
    elif found != expected:
        names = ["id", *schema.columns]
        differing = [n for n, e, f in zip(names, expected, found, strict=True) if e != f]
        for name in differing:
            message = f"the index has other metadata than the log in column {name}; {_ADVICE}"
            report.add(message, record=int(expected[0] or 0), field=name)


def _compare_blob(
    expected: tuple[int, ...], found: tuple[int, ...] | None, field: str, report: Report
) -> None:
    if found is None:
        report.add(f"the index lacks the value; {_ADVICE}", record=expected[1], field=field)
    elif found != expected:
        pairs = zip(records.BLOB_NAMES, expected, found, strict=True)
        wrong = ", ".join(f"{name} {f} instead of {e}" for name, e, f in pairs if e != f)
        report.add(f"the index has {wrong}; {_ADVICE}", record=expected[1], field=field)


def check_totals(index: Index, n_records: int, n_values: int, report: Report) -> None:
    """Check that the index has no rows that the log does not have.

    Parameters
    ----------
    n_records, n_values
        What the commits that were checked hold; later commits are not counted.
    """
    with report.catching():
        found = index.row(
            "SELECT (SELECT count(*) FROM main.records WHERE id < :n), "
            "(SELECT count(*) FROM blobs WHERE record < :n), "
            "(SELECT count(*) FROM main.records WHERE id >= (SELECT next_record_id FROM store)), "
            "(SELECT count(*) FROM blobs WHERE record >= (SELECT next_record_id FROM store))",
            {"n": n_records},
        )
        expected = (n_records, n_values, 0, 0)
        names = "records", "values", "records of no commit", "values of no commit"
        for name, want, have in zip(names, expected, found or expected, strict=True):
            if want != have:
                report.add(f"the index has {have} {name} instead of {want}; {_ADVICE}")
