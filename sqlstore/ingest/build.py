"""`build`: a store from many items, read in parallel, each exactly once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa

from sqlstore import limits
from sqlstore.create import create
from sqlstore.encodings import Encodings, OwnEncoding
from sqlstore.errors import SchemaError, StoreExistsError
from sqlstore.ingest.report import BuildReport
from sqlstore.ingest.tasks import Entry, Tasks, item_error
from sqlstore.ingest.work import Job, Outcome, Worker
from sqlstore.processes import Pace, Processes, StartMethod, check_workers
from sqlstore.progress import counted
from sqlstore.schema import Column, Field, Schema, declare
from sqlstore.store import Store
from sqlstore.store import open as open_store
from sqlstore.types import Record, StrPath

T = TypeVar("T")
OnError = Literal["raise", "skip"]


def build(  # noqa: PLR0913 - what `create` takes, and how to go about it
    items: Iterable[T],
    read_fn: Callable[[T], Record | None],
    path: StrPath,
    *,
    key: str,
    fields: Mapping[str, str | Field] | None = None,
    metadata: Mapping[str, str | pa.DataType | Column] | None = None,
    key_of: Callable[[T], Any] | None = None,
    workers: int = 1,
    on_error: OnError = "raise",
    start_method: StartMethod = "spawn",
    compression: str | None = "lz4",
    chunk_size: int = limits.DEFAULT_CHUNK_SIZE,
    encodings: Mapping[str, OwnEncoding] | None = None,
    allow_pickle: bool = False,
) -> BuildReport:
    """Make a store of many items, or complete one; each item is stored exactly once.

    However it ends, by an error, Ctrl-C or a killed process, what was committed stays, and the same
    call goes on from there: items whose key is in the store are skipped. Two items with one key are
    one item. About a second's work is committed at once, so that much is lost at most.

    Parameters
    ----------
    items
        What is read, such as paths; any number of them, taken a few thousand at a time.
    read_fn
        Makes the record of an item, or None if there shall be none.
    path
        The folder of the store; made if there is none.
    key
        The metadata column that identifies an item.
    fields, metadata, compression, chunk_size, encodings, allow_pickle
        As in `create`. A store that is there must have the same schema; without `fields` and
        `metadata`, its own counts.
    key_of
        Gives the key of an item, so that items in the store are skipped without being read, and
        `read_fn` may leave it out of the record; ``str`` for paths. By default an item is read to
        learn its key.
    workers
        How many processes read, encode and write, each with a writer of its own. With one, this
        process does it; with more, `read_fn`, items and encodings must pickle, and the records are
        in the order in which they were committed.
    on_error
        ``"raise"`` stops at the first item that cannot be read, or whose record the store does not
        take; ``"skip"`` goes on and lists it in the report.
    start_method
        How worker processes are started.

    Returns
    -------
    BuildReport
        What was stored, skipped, and failed.

    Raises
    ------
    ItemError
        Names the item that failed, or at which a worker process died.
    SchemaError
        The store that is there was made otherwise.
    """
    check_way(workers, on_error, start_method)
    own = Encodings(encodings, allow_pickle=allow_pickle)
    schema = None
    if fields or metadata or not Path(path).exists():
        schema = declare(fields or {}, metadata or {}, key, compression, own)

    def made() -> Store:
        return create(
            path,
            fields=fields,
            metadata=metadata,
            key=key,
            compression=compression,
            chunk_size=chunk_size,
            encodings=encodings,
            allow_pickle=allow_pickle,
        )

    def opened() -> Store:
        return open_store(path, "a", encodings=encodings, allow_pickle=allow_pickle)

    with open_or_make(Path(path), opened, made) as store:
        check_made_alike(store, schema, key)
        job = Job(
            path=str(store.path),
            read=read_fn,
            skip_failed=on_error == "skip",
            before=len(store),
            encodings=encodings,
            allow_pickle=allow_pickle,
        )
        report = BuildReport()
        total = len(items) if isinstance(items, Sized) else None
        run(job, store, items, key_of, report, workers, start_method, total=total)
    return report


def check_way(workers: int, on_error: str, start_method: str) -> None:
    """Raise ValueError where there is no such way to go about it."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error is "raise" or "skip", not {on_error!r}')
    check_workers(workers, start_method)


def open_or_make(path: Path, opened: Callable[[], Store], made: Callable[[], Store]) -> Store:
    """Return the store that is there, or a new one if nothing is."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        with contextlib.suppress(StoreExistsError):  # somebody was faster
            return made()
    return opened()


def check_made_alike(store: Store, expected: Schema | None, key: str) -> None:
    """Raise unless a store is as this call would have made it.

    Raises
    ------
    SchemaError
        Tells what differs.
    """
    found = store.schema
    if found.key != key:
        raise SchemaError(
            f"the store at {store.path} was made otherwise: its key is {found.key}, not {key}"
        )
    if expected is None:
        return
    pairs = (found.fields, expected.fields), (found.columns, expected.columns)
    for there, wanted in pairs:
        for name in dict.fromkeys((*wanted, *there)):
            if there.get(name) != wanted.get(name):
                raise SchemaError(
                    f"the store at {store.path} was made otherwise: it has "
                    f"{_told(name, there.get(name))}, and this call asks for "
                    f"{_told(name, wanted.get(name))}"
                )


def _told(name: str, declared: Field | Column | None) -> str:
    if declared is None:
        return f"no {name!r}"
    if isinstance(declared, Field):
        how = f"field {declared.number}, {declared.encoding}, compression {declared.compression}"
    else:
        how = f"column {declared.number}, {declared.type}"
        how += ", index" * declared.index + ", nullable" * declared.nullable
    return f"{name!r} ({how})"


def run(  # noqa: PLR0913 - what `build` and `import_folder` have in common
    job: Job,
    store: Store,
    items: Iterable[Any],
    key_of: Callable[[Any], Any] | None,
    report: BuildReport,
    workers: int,
    start_method: StartMethod,
    *,
    total: int | Callable[[], int] | None = None,
    on_skipped: Callable[[list[Entry]], object] = len,
) -> None:
    """Read and store items, and count in a report what becomes of them."""
    with counted(total, "storing", "items") as advance:
        shown = 0

        def look() -> None:
            nonlocal shown
            if report.failed and not job.skip_failed:
                raise item_error(report.failed[0])
            advance(report.seen - shown)
            shown = report.seen

        def done(outcome: Outcome) -> None:
            report.add(outcome)
            if outcome.trace:
                raise item_error(outcome.failed[-1], outcome.trace)
            look()

        tasks = Tasks(store, items, key_of, report, on_skipped, look)
        if workers == 1:
            _run_here(job, store, tasks, done)
            return
        with Processes(job, workers, start_method) as processes:
            processes.run(tasks, done)


def _run_here(job: Job, store: Store, tasks: Tasks, done: Callable[[Outcome], object]) -> None:
    pace = Pace()
    with store.writer() as writer:
        worker = Worker(job, store, writer)
        while task := tasks.take(pace.count):
            outcome = worker.run(task)
            done(outcome)
            pace.took(len(task), outcome.seconds)
