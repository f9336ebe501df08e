"""Take into the log what other SQLite tools have changed in the index.

What the log says of every record is compared with its row in the index, column by column; what
differs is committed as if it had been edited here. The rows themselves stay as they are. No lock is
held meanwhile: a commit of others in between is noticed when it is committed, and the comparison
begins anew. Whatever a tool changes in between stays a difference, for the next time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from sqlstore import recover
from sqlstore.arrow import int64_array
from sqlstore.commit import Committer
from sqlstore.edits import in_steps
from sqlstore.encodings import Encodings
from sqlstore.errors import CorruptIndexError, SchemaError, StoreBusyError
from sqlstore.index import changes, records, versions
from sqlstore.index.engine import Index
from sqlstore.log import files
from sqlstore.log.edits import Edit
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.maintenance import check_index, foreign
from sqlstore.maintenance.report import Report
from sqlstore.opening import opening
from sqlstore.positions import as_array, is_among
from sqlstore.progress import counted
from sqlstore.schema import Column, Schema
from sqlstore.source import Source
from sqlstore.staged import EditedSinceError, StagedEdit
from sqlstore.types import Ids, SqlValue, StrPath

_ROWS: Final = 1 << 17
"""Rows that are compared at once."""
_ATTEMPTS: Final = 5


@dataclass(slots=True)
class Absorbed:
    """What `absorb` has taken into the log; true if there was anything.

    Attributes
    ----------
    updated
        How many values were changed, by column.
    deleted
        How many records were deleted.
    """

    updated: dict[str, int] = field(default_factory=dict)
    deleted: int = 0

    def __bool__(self) -> bool:
        return bool(self.updated or self.deleted)

    def count(self, column: str, values: int) -> None:
        """Count values of a column."""
        self.updated[column] = self.updated.get(column, 0) + values

    def __str__(self) -> str:
        parts = [f"{count:,} changed in {name}" for name, count in self.updated.items()]
        parts += [f"{self.deleted:,} deleted"] if self.deleted else []
        return ", ".join(parts) or "nothing"


@dataclass(frozen=True, slots=True)
class Changed:
    """Values of one column that differ: as SQLite stores them, and as the column holds them."""

    column: Column
    ids: Ids
    stored: pa.Array
    values: pa.Array


@dataclass(frozen=True, slots=True)
class _Found:
    """What differs between the log and the index, and which index and commit that was."""

    changed: list[Changed]
    deleted: Ids
    generation: int
    commit: int

    def add_to(self, absorbed: Absorbed) -> None:
        for one in self.changed:
            absorbed.count(one.column.name, len(one.ids))
        absorbed.deleted += len(self.deleted)


def absorb(path: StrPath, *, dry_run: bool = False) -> Absorbed:
    """Take edits that other SQLite tools have made in ``index.sqlite`` into the log.

    Values that were changed in the table ``records`` are committed as updates, rows that were
    deleted as deletes. Whatever else was changed is refused, or stays as it is: `verify` says so,
    and `rebuild` undoes it. The index counts for all that differs, so it is checked first that
    SQLite finds no damage in it; which values differ, ``dry_run`` tells before anything is changed.

    Parameters
    ----------
    path
        The folder of the store.
    dry_run
        Change nothing, and return what would be taken.

    Returns
    -------
    Absorbed
        How many values of each column, and how many records.

    Raises
    ------
    SchemaError
        Records were inserted, or a column cannot hold what it was given. Nothing is changed.
    CorruptIndexError
        Tables, indices, views or triggers are not as sqlstore has made them. Nothing is changed.
    StoreBusyError
        Others commit so often that no comparison was finished between two commits.
    """
    root = Path(path).absolute()
    files.check_has_chunks(root)
    if not dry_run:
        recover.end_wal(root)
    with contextlib.ExitStack() as stack:
        how = opening(root, None, "once", Encodings(None, allow_pickle=False), "r")
        source = stack.enter_context(contextlib.closing(Source.open(how)))
        index = recover.open_index_to_read(root)
        stack.callback(index.close)
        versions.check(index)
        absorbed = Absorbed()
        for _ in range(_ATTEMPTS):
            found = _compared(source, index)
            if found is None:
                continue
            if dry_run:
                found.add_to(absorbed)
                return absorbed
            with contextlib.suppress(EditedSinceError):  # what was committed differs no more
                _commit(root, found, absorbed)
                return absorbed
    raise StoreBusyError(f"others commit to {root} all the time; try again when they do not")


def _compared(source: Source, index: Index) -> _Found | None:
    """Return what differs; None if somebody has committed meanwhile, and it means nothing."""
    source.refresh()
    if index.is_replaced():
        index.reopen()
    generation = records.store(index).generation

    def is_overtaken() -> bool:
        last = records.last_commit(index).number
        return index.is_replaced() or last != source.seen.commit

    try:
        _refuse_other_objects(source, index)
        held = Held(as_array(source.ids()), source.next_record, source.schema, source.metadata)
        changed, deleted = differences(held, index)
    except (SchemaError, CorruptIndexError):
        if is_overtaken():
            return None
        raise
    found = _Found(changed, deleted, generation, source.seen.commit)
    return None if is_overtaken() else found


def _refuse_other_objects(source: Source, index: Index) -> None:
    report = Report()
    check_index.check_sqlite(index, source.schema, report)
    if not report:
        raise CorruptIndexError(
            f"{report.faults[0].message}, which drops what other tools have changed; nothing was "
            "taken into the log"
        )


@dataclass(frozen=True, slots=True)
class Held:
    """What the log says: live records, the id behind them, and what returns their metadata."""

    ids: Ids
    next_record: int
    schema: Schema
    metadata: Callable[[Ids, Sequence[Column]], list[list[pa.Array]]]


def differences(held: Held, index: Index) -> tuple[list[Changed], Ids]:
    """Return what differs between the log and the index: values, and records that are gone.

    Raises
    ------
    SchemaError
        It cannot be taken into the log.
    """
    live, schema = held.ids, held.schema
    deleted: list[Ids] = [np.empty(0, np.int64)]
    parts: dict[str, list[tuple[Ids, pa.Array]]] = {}
    foreign.refuse_outside(index, held.next_record)
    with counted(len(live), "comparing", "records") as advance:
        for first in range(0, held.next_record, _ROWS):
            expected = live[slice(*np.searchsorted(live, [first, first + _ROWS]))]
            there, rows = foreign.rows(index, schema, first, _ROWS)
            foreign.refuse_inserted(there[~is_among(there, expected)])
            is_there = is_among(expected, there)
            deleted.append(expected[~is_there])
            for name, ids, stored in _changed(held, there, rows):
                parts.setdefault(name, []).append((ids, stored))
            advance(len(expected))
    changed = []
    for name, pieces in parts.items():
        ids = np.concatenate([ids for ids, _ in pieces])
        stored = pa.concat_arrays([stored for _, stored in pieces])
        column = schema.columns[name]
        values = foreign.declared(column, stored, ids)
        changed.append(Changed(column, ids, stored, values))
    return changed, np.concatenate(deleted)


def _changed(held: Held, ids: Ids, rows: list[pa.Array]) -> Iterator[tuple[str, Ids, pa.Array]]:
    """Return for every column that differs the records, and what the index has of them."""
    columns = list(held.schema.columns.values())
    for column, pieces, found in zip(columns, held.metadata(ids, columns), rows, strict=True):
        expected = [foreign.as_stored(column, piece) for piece in pieces]
        differs = foreign.differing(pa.chunked_array(expected, found.type), found)
        if len(differs):
            yield column.name, ids[differs], found.take(int64_array(differs))


def _commit(root: Path, found: _Found, absorbed: Absorbed) -> None:
    """Commit what differs, and count it.

    Deletes come first: a record may have got the key of one that is gone.

    Raises
    ------
    EditedSinceError
        Others have committed behind the commit that it was compared with.
    """
    last = found.commit

    def acknowledge(trailer: Trailer) -> None:
        nonlocal last
        last = trailer.number

    if not (found.changed or len(found.deleted)):
        return
    with contextlib.closing(Committer(root)) as committer:
        schema = committer.schema
        if len(found.deleted):
            edit = Edit(CommitKind.DELETE, found.deleted, {})
            committer.commit(_StagedAbsorbed(edit, schema, found.generation, last), acknowledge)
            absorbed.deleted += len(found.deleted)
        for one in found.changed:
            how = one.column.name, _rounded(one)
            for edit in in_steps(one.ids, {one.column.number: one.values}):
                staged = _StagedAbsorbed(edit, schema, found.generation, last, *how)
                committer.commit(staged, acknowledge)
                absorbed.count(one.column.name, len(edit.ids))


def _rounded(one: Changed) -> list[tuple[SqlValue, int, SqlValue]]:
    """Return what the column rounds: new value, record, present value."""
    stored = foreign.as_stored(one.column, one.values)
    return [
        (stored[row].as_py(), int(one.ids[row]), one.stored[row].as_py())
        for row in foreign.differing(stored, one.stored).tolist()
    ]


class _StagedAbsorbed(StagedEdit):
    """What another tool has done to the rows of records, on its way into the log.

    The rows are as they shall be, except for values that the column rounds.

    Parameters
    ----------
    generation, after
        The generation of the index, and the number of the commit, that they were compared with.
    column
        The column of an update.
    rounded
        New value, record and present value, for each value that the column rounds.
    """

    def __init__(
        self,
        edit: Edit,
        schema: Schema,
        generation: int,
        after: int,
        column: str = "",
        rounded: Sequence[tuple[SqlValue, int, SqlValue]] = (),
    ) -> None:
        super().__init__(edit, schema)
        self._seen = generation, after + 1
        self._column = column
        self._rounded = rounded

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Round values, and remove what is left of deleted records.

        Raises
        ------
        EditedSinceError
            There has been another commit, or a rebuild.
        """
        if (records.store(index).generation, trailer.number) != self._seen:
            raise EditedSinceError("another commit, or a rebuild, has come in between")
        if self.kind == CommitKind.DELETE:
            changes.delete_records(index, self._schema, self._edit.ids)
        changes.round_values(index, self._column, self._rounded)
