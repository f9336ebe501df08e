"""Compute a metadata column record by record: in several processes, and resumable.

Whoever has computed values commits them, about once a second; a value that is there is not computed
again. So whatever ends it, the same call goes on where it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from sqlstore.arrow import presence
from sqlstore.columns import column_type
from sqlstore.commit import Committer
from sqlstore.edits import change_schema, commit_update, committing
from sqlstore.errors import ItemError, SchemaError, SqlstoreError
from sqlstore.given import MISFIT
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.pickling import SourceState, source_again, source_state
from sqlstore.positions import as_array
from sqlstore.processes import (
    NoSignals,
    Pace,
    Processes,
    Signals,
    check_travels,
    check_workers,
    trace_of,
)
from sqlstore.progress import counted
from sqlstore.schema import ID, Column, Schema, with_column
from sqlstore.source import Source
from sqlstore.types import Ids, SqlValue
from sqlstore.view import View

_SECONDS: Final = 1.0
"""After which time values are committed: that much work is lost when a process is killed."""

Function = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Job:
    """What every worker is told at first.

    Attributes
    ----------
    state
        The store to read from, at the commit at which the column was there.
    column
        The column.
    names
        What the function is given of a record.
    function
        Makes the value.
    """

    state: SourceState
    column: Column
    names: tuple[str, ...]
    function: Function

    @contextmanager
    def working(self, signals: Signals) -> Iterator[Callable[[Sequence[int]], Outcome]]:
        """Open the store, and give what computes the values of some records."""
        with (
            contextlib.closing(source_again(self.state)) as source,
            contextlib.closing(Committer(source.root)) as committer,
        ):
            yield Worker(self, source, committer, signals).run

    def where(self, item: int) -> dict[str, object]:
        """Return what an error says of a record."""
        return {"record": int(item)}


@dataclass
class Outcome:
    """What a worker did with some records, all of it committed.

    Attributes
    ----------
    seconds
        How long it took.
    computed
        How many records the function has returned for.
    error
        What stopped it.
    """

    seconds: float = 0.0
    computed: int = 0
    error: SqlstoreError | None = None


class Worker:
    """Computes values and commits them.

    Attributes
    ----------
    last
        Its last commit, or None.
    """

    def __init__(
        self, job: Job, source: Source, committer: Committer, signals: Signals | None = None
    ) -> None:
        if committer.schema.column(job.column.name) != job.column:
            raise SchemaError("the column is another one now", column=job.column.name)
        self.last: Trailer | None = None
        self._job = job
        self._source = source
        self._committer = committer
        self._signals = signals or NoSignals()
        self._values: dict[int, SqlValue] = {}

    def run(self, ids: Sequence[int]) -> Outcome:
        """Compute the values of some records, ascending; an error of the function ends it."""
        outcome = Outcome()
        start = committed = time.perf_counter()
        given = np.asarray(ids, np.int64)
        records = iter(View(self._source, given, self._job.names))
        try:
            for at, record in enumerate(given.tolist()):
                if self._signals.stop:
                    break
                self._signals.at = at
                read = next(records)
                try:
                    self._compute(record, read)
                except Exception as error:  # noqa: BLE001 - the function is the user's
                    outcome.error = self._failed(error, record)
                    break
                outcome.computed += 1
                if (now := time.perf_counter()) - committed >= _SECONDS:
                    self._commit()
                    committed = now
        finally:  # also at Ctrl-C
            self._commit()
        outcome.seconds = time.perf_counter() - start
        return outcome

    def _compute(self, record: int, read: dict[str, Any]) -> None:
        value = self._job.function(read)
        if value is None:
            return
        try:
            self._values[record] = self._job.column.kind.convert(value)
        except MISFIT as error:
            raise SchemaError(
                f"the function has returned what does not fit: {error}",
                column=self._job.column.name,
                record=record,
            ) from error

    def _failed(self, error: Exception, record: int) -> SqlstoreError:
        """Return the error that names the record; it travels, which that of others need not."""
        if isinstance(error, SchemaError) and error.where.get("record") == record:
            return error
        failed = ItemError(f"{type(error).__name__}: {error}", record=record)
        failed.add_note(trace_of(error))
        return failed

    def _commit(self) -> None:
        values, self._values = self._values, {}
        if values:
            array = self._job.column.kind.build(list(values.values()))
            arrays = {self._job.column.number: array}
            ids = np.fromiter(values, np.int64, len(values))
            commit_update(self._committer, ids, arrays, self._acknowledge)

    def _acknowledge(self, trailer: Trailer) -> None:
        # Not to the source: what it reads then would first have the cache laid over.
        self.last = trailer


class _Tasks:
    """Records that are left to do."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def take(self, count: int) -> Sequence[int]:
        """Return up to so many of them."""
        taken: list[int] = self._ids[:count].tolist()
        self._ids = self._ids[count:]
        return taken


def add_computed(
    source: Source,
    name: str,
    declared: str | pa.DataType | Column,
    function: Function,
    select: Iterable[str] | None,
    workers: int,
    start_method: str,
) -> None:
    """Add a metadata column whose values a function computes, or go on with it.

    Raises
    ------
    ItemError
        The function has failed; names the record.
    SchemaError
        A value does not fit, or there is another column of that name.
    """
    check_workers(workers, start_method)
    source.check_open()
    source.check_writable()
    source.refresh()  # the column that another process has begun is no other column
    names = _selected(source.schema, name, select)
    if workers > 1:
        check_travels(function)
    if _is_to_be_added(source.schema, name, declared):
        change_schema(
            source, CommitKind.ADD_COLUMN, partial(with_column, name=name, given=declared)
        )
        source.check_open()
    column = source.schema.columns[name]
    todo = _missing(source, column)
    job = Job(source_state(source), column, names, function)
    _run(job, source, todo, workers, start_method)


def _selected(schema: Schema, name: str, select: Iterable[str] | None) -> tuple[str, ...]:
    """Return what the function is given: by default all but what it computes."""
    others = [other for other in (*schema.fields, *schema.columns) if other != name]
    if select is None:
        return tuple(others)
    names = (select,) if isinstance(select, str) else tuple(select)
    if unknown := [one for one in names if one not in (*others, ID)]:
        raise schema.unknown(unknown)
    return names


def _is_to_be_added(schema: Schema, name: str, declared: str | pa.DataType | Column) -> bool:
    """Return whether there is no such column yet.

    Raises
    ------
    SchemaError
        There is one of another type, or such a column cannot be.
    """
    there = schema.columns.get(name)
    if there is None:
        with_column(schema, name, declared)
        return True
    wanted = column_type(declared.type if isinstance(declared, Column) else declared).name
    if wanted != there.kind.name:
        raise SchemaError(f"the column is there, and it is {there.type}, not {wanted}", column=name)
    return False


def _missing(source: Source, column: Column) -> Ids:
    """Return the ids of the records that have no value, ascending."""
    ids = source.ids()
    (pieces,) = source.metadata(ids, [column])
    lacking = [np.empty(0, bool), *(~presence(array) for array in pieces)]
    todo: Ids = as_array(ids)[np.concatenate(lacking)]
    return todo


def _run(job: Job, source: Source, todo: Ids, workers: int, start_method: str) -> None:
    with counted(len(todo), "computing", "records") as advance:

        def done(outcome: Outcome) -> None:
            advance(outcome.computed)
            if outcome.error is not None:
                raise outcome.error

        if workers == 1:
            _run_here(job, source, todo, done)
            return
        try:
            with Processes(job, workers, start_method) as processes:
                processes.run(_Tasks(todo), done)
        finally:
            source.refresh()  # workers commit what they have, however it ends


def _run_here(job: Job, source: Source, todo: Ids, done: Callable[[Outcome], object]) -> None:
    tasks, pace = _Tasks(todo), Pace()
    with committing(source) as committer:
        worker = Worker(job, source, committer)
        try:
            while task := tasks.take(pace.count):
                outcome = worker.run(task)
                done(outcome)
                pace.took(len(task), outcome.seconds)
        finally:
            if worker.last is not None:
                source.committed(worker.last)
