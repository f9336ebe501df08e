"""Check the index against the log: the rows that every commit became, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import replay
from sqlstore.identity import Identity
from sqlstore.index import dictionaries, records, subsets
from sqlstore.index.declared import squeezed
from sqlstore.index.engine import Index
from sqlstore.index.records import ChunkRow, CommitRow
from sqlstore.index.subsets import SubsetRow
from sqlstore.log import table
from sqlstore.log.dictionary import DictionaryPlace, row_of
from sqlstore.log.edits import Edited
from sqlstore.log.table import Values
from sqlstore.maintenance.report import Report
from sqlstore.positions import is_among
from sqlstore.schema import Schema
from sqlstore.types import Ids, SqlValue

_ADVICE = "run `sqlstore rebuild`"
_MOST_NAMED = 100


def check_sqlite(index: Index, schema: Schema, report: Report) -> None:
    """Check the SQLite file by itself: its pages, and that it holds our tables and no others."""
    with report.catching():
        for (line,) in index.rows("PRAGMA integrity_check(20)"):
            if line != "ok":
                report.add(f"{index.name} is damaged: {line}; {_ADVICE}")
    from sqlstore.index import ddl  # SQLAlchemy is imported where tables are declared

    with report.catching():
        found = {
            str(name): str(sql or "")
            for name, sql in index.rows("SELECT name, sql FROM sqlite_schema")
            if not str(name).startswith("sqlite_autoindex_")
        }
        expected = ddl.objects(schema)
        for name in sorted(expected.keys() - found.keys()):
            report.add(f"{index.name} lacks {name}; {_ADVICE}")
        for name in sorted(found.keys() - expected.keys()):
            message = f"{index.name} has something that is not sqlstore's, {name}: {found[name]}"
            report.add(f"{message}; {_ADVICE}")
        for name in sorted(expected.keys() & found.keys()):
            if squeezed(found[name]) != squeezed(expected[name]):
                report.add(f"{index.name} declares {name} otherwise: {found[name]}; {_ADVICE}")


class Segment(Protocol):
    """Records as a commit has them: those of an append, or live ones of a checkpoint."""

    @property
    def ids(self) -> Ids:
        """Return which records they are, ascending."""

    @property
    def batch(self) -> pa.RecordBatch:
        """Return their metadata, a column ``c<number>`` for each."""

    def values(self, field: int) -> tuple[Values, int | NDArray[np.uint32]]:
        """Return where the values of a field lie: places in chunks, and which chunks those are."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The records of an append."""

    ids: Ids
    batch: pa.RecordBatch
    chunk: int

    def values(self, field: int) -> tuple[Values, int]:
        """Return where the values of a field lie, and in which chunk."""
        return table.parse_values(self.batch, field), self.chunk


def check_rows(
    index: Index,
    schema: Schema,
    segment: Segment,
    between: tuple[int, int],
    number: int,
    edited: Edited,
    report: Report,
) -> None:
    """Compare the rows of some records with the log, and with what was edited since.

    Parameters
    ----------
    segment
        The records.
    between
        There are no others with an id from the first up to but not the second of these.
    number
        Of the commit whose state the segment is.
    edited
        What has become of them.
    """
    first, count, ids, batch = between[0], between[1] - between[0], segment.ids, segment.batch
    is_live = ~is_among(ids, edited.deleted)
    with report.catching():
        columns = [
            c.kind.to_sql(edited.laid_over(table.parse_column(batch, c), ids, c.number))
            for c in schema.columns.values()
        ]
        found = {row[0]: row for row in records.record_rows(index, schema, first, count)}
        for row in itertools.compress(zip(ids.tolist(), *columns, strict=True), is_live):
            _compare_record(schema, tuple(map(_as_stored, row)), found.pop(row[0], None), report)
        for record in found:
            message = f"the index has a record of no commit, or one that was deleted; {_ADVICE}"
            report.add(message, record=record)
    for field in schema.fields.values():
        with report.catching(field=field.name):
            expected_rows = itertools.chain.from_iterable(
                _expected_blobs(*of_commit, field.number, edited)
                for of_commit in _placed(segment, between, number, field.number, edited)
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


def _placed(
    segment: Segment, between: tuple[int, int], number: int, field: int, edited: Edited
) -> Iterator[tuple[int, int | NDArray[np.uint32], Ids, Values]]:
    """Return the commits that values of records are from: number, chunk, records and values."""
    values, chunk = segment.values(field)
    yield number, chunk, segment.ids, values
    for edit in edited.replacements(field, *between):
        inside = slice(*np.searchsorted(edit.ids, between))
        yield edit.number, edit.chunk, edit.ids[inside], edit.values[field].rows(inside)


def _expected_blobs(
    number: int,
    chunk: int | NDArray[np.uint32],
    ids: Ids,
    values: Values,
    field: int,
    edited: Edited,
) -> Iterator[tuple[int, ...]]:
    present = values.only(edited.still_of(ids, field, number))
    rows = replay.blob_rows(ids, chunk, field, present)
    return zip(*records.blob_columns(rows), strict=True)


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


def check_description(index: Index, is_of: Identity, checkpoint: int, report: Report) -> None:
    """Check what the index says of the store itself, and of its schema.

    Parameters
    ----------
    checkpoint
        The number of the commit that completed the last checkpoint, 0 if none did.
    """
    with report.catching():
        last = records.last_commit(index)
        found = records.store(index)
        next_record = last.first_record + last.records
        expected = replay.store_row(is_of, next_record, found.generation, checkpoint)
        for name in records.StoreRow.__slots__:
            have, want = getattr(found, name), getattr(expected, name)
            # A commit may come between the two reads above; what is gone back can only be damage.
            moved_on = name in ("next_record_id", "checkpoint") and have > want
            if have != want and not (moved_on and records.last_commit(index) != last):
                report.add(f"the index has {have} as {name}, the log {want}; {_ADVICE}")
    with report.catching():
        found_schema = records.schema(index)
        in_order = [list(s.fields) + list(s.columns) for s in (found_schema, is_of.schema)]
        if found_schema != is_of.schema or in_order[0] != in_order[1]:
            report.add(f"the index has another schema than the log; {_ADVICE}")


def check_dictionaries(
    index: Index, places: list[DictionaryPlace], last: int, report: Report
) -> None:
    """Check that the index places the dictionaries where the log has them.

    Parameters
    ----------
    last
        The number of the last commit that was looked at; there may be more dictionaries behind it.
    """
    with report.catching():
        found = {row.number: dictionaries.values(row) for row in dictionaries.listed(index)}
        is_all = records.last_commit(index).number == last
        for place in places:
            if found.pop(place.number, None) != row_of(place):
                message = f"the index has dictionary {place.number} elsewhere than the log"
                report.add(f"{message}; {_ADVICE}")
        for number in found if is_all else ():
            report.add(f"the index has dictionary {number}, which the log has not; {_ADVICE}")


def check_subsets(
    index: Index, saved: Mapping[str, tuple[SubsetRow, Ids]], last: int, report: Report
) -> None:
    """Check that the index has the subsets that the log has.

    Parameters
    ----------
    saved
        Their rows and members, by name.
    last
        The number of the last commit that was looked at; there may be more subsets behind it.
    """
    with report.catching():
        found = {row.name: row for row in subsets.listed(index) if row.number <= last}
        for name, (row, ids) in saved.items():
            have = found.pop(name, None)
            if have is not None and have != row:
                report.add(f"the index has another subset {name!r} than the log; {_ADVICE}")
            elif have is not None and subsets.members(index, row.number) != ids.tolist():
                report.add(f"the index has other members of subset {name!r}; {_ADVICE}")
            elif have is None and records.last_commit(index).number == last:
                report.add(f"the index lacks the subset {name!r}; {_ADVICE}")
        for name in found:
            report.add(f"the index has a subset {name!r}, which the log has not; {_ADVICE}")


def check_history(
    index: Index, commits: Sequence[CommitRow], chunks: Sequence[ChunkRow], report: Report
) -> None:
    """Check what the index says of what was before a checkpoint's state.

    Parameters
    ----------
    commits, chunks
        What the checkpoint says.
    """
    with report.catching():
        found = {row.number: row for row in records.commits(index)}
        for row in commits:
            if found.get(row.number) != row:
                report.add(f"the index has another commit {row.number} than the log; {_ADVICE}")
                break
    with report.catching():
        present = {row.chunk: row for row in records.chunks(index)}
        for chunk in chunks:
            have = present.get(chunk.chunk)
            if have is None or (have.uuid, have.retired) != (chunk.uuid, chunk.retired):
                message = f"the index has another chunk {chunk.chunk} than the log"
                report.add(f"{message}; {_ADVICE}", chunk=chunk.name)


def check_no_more(index: Index, schema: Schema, report: Report) -> None:
    """Check that the index has no rows of records or fields that do not exist."""
    beyond = "< 0 OR {0} >= (SELECT next_record_id FROM store)"
    with report.catching():
        for (record,) in index.rows(
            f"SELECT id FROM main.records WHERE id {beyond.format('id')} LIMIT {_MOST_NAMED}"
        ):
            report.add(f"the index has a record of no commit; {_ADVICE}", record=record)
    numbers = ", ".join(str(field.number) for field in schema.fields.values())
    with report.catching():
        for field, record in index.rows(
            f"SELECT field, record FROM blobs WHERE record {beyond.format('record')} "
            f"OR field NOT IN ({numbers}) LIMIT {_MOST_NAMED}"
        ):
            message = f"the index has a value of no commit, of field number {field}; {_ADVICE}"
            report.add(message, record=record)
