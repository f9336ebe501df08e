"""What reads items and stores their records: in this process, or one of several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlstore.encodings import OwnEncoding
from sqlstore.errors import DuplicateKeyError, SchemaError
from sqlstore.ingest.report import BuildReport
from sqlstore.ingest.tasks import Entry, checked_key, failure, found_keys
from sqlstore.processes import NoSignals, Signals, trace_of
from sqlstore.store import Store
from sqlstore.store import open as open_store
from sqlstore.types import Record
from sqlstore.writer import Writer


@dataclass(frozen=True)
class Job:
    """What every worker is told at first.

    Attributes
    ----------
    path
        The store.
    read
        Makes the record of an item, or None.
    skip_failed
        Whether to go on after an item that fails.
    before
        How many records there were when the build began.
    encodings, allow_pickle
        As in `sqlstore.open`.
    """

    path: str
    read: Callable[[Any], Record | None]
    skip_failed: bool
    before: int
    encodings: Mapping[str, OwnEncoding] | None
    allow_pickle: bool

    def open(self) -> Store:
        """Open the store to append."""
        return open_store(self.path, "a", encodings=self.encodings, allow_pickle=self.allow_pickle)

    @contextmanager
    def working(self, signals: Signals) -> Iterator[Callable[[Sequence[Entry]], Outcome]]:
        """Open the store, and give what stores the items of one task."""
        with self.open() as store, store.writer() as writer:
            yield Worker(self, store, writer, signals).run

    def where(self, item: Entry) -> dict[str, object]:
        """Return what an error says of an item."""
        return {"item": item.name}


@dataclass
class Outcome(BuildReport):
    """What a worker did with a task, all of it committed.

    Attributes
    ----------
    seconds
        How long it took.
    trace
        Where the failure arose that stopped it.
    """

    seconds: float = 0.0
    trace: str = ""


@dataclass
class Worker:
    """Reads the items of task after task, and commits their records.

    Every task is a commit of its own, or several where the records are large. A key that has come
    into the store since the build began, by another process, shows at the commit: then the other
    records are committed alone.
    """

    job: Job
    store: Store
    writer: Writer
    signals: Signals = field(default_factory=NoSignals)

    def run(self, task: Sequence[Entry]) -> Outcome:
        """Store the records of a task; a failed item that is not skipped ends it."""
        outcome = Outcome()
        start = time.perf_counter()
        entries = [entry._replace(number=number) for number, entry in enumerate(task)]
        self._seen: set[Any] = set()
        while entries:
            entries = self._attempt(entries, outcome)
        outcome.seconds = time.perf_counter() - start
        return outcome

    def _attempt(self, entries: list[Entry], outcome: Outcome) -> list[Entry]:
        """Store records until a commit fails on a key; return what is still to do."""
        before = len(self.writer.ids)
        taken: list[Entry] = []
        left = iter(entries)
        try:
            for entry in left:
                if self.signals.stop or outcome.trace:
                    break
                self.signals.at = entry.number
                self._take(entry, taken, outcome)
            self.writer.commit()
        except DuplicateKeyError:
            waiting = taken[len(self.writer.ids) - before :]
            self.store.refresh()
            there = found_keys(self.store, [entry.key for entry in waiting])
            if not any(entry.key in there for entry in waiting):
                raise
            outcome.repeated += sum(entry.key in there for entry in waiting)
            again = [entry for entry in waiting if entry.key not in there]
            self._seen -= {entry.key for entry in again}
            return [*again, *left]
        finally:
            outcome.stored += len(self.writer.ids) - before
        return []

    def _take(self, entry: Entry, taken: list[Entry], outcome: Outcome) -> None:
        """Read an item and append its record; ``taken`` gets it before a commit can fail."""
        try:
            record = self.job.read(entry.item)
            if record is None:
                outcome.dropped += 1
                return
            record, key = self._keyed(entry, record)
        except Exception as error:  # noqa: BLE001 - the function is the user's
            self._failed(entry, error, outcome)
            return
        if key in self._seen:
            outcome.repeated += 1
            return
        if entry.key is None and (found := found_keys(self.store, [key])):
            old = found[key]["id"] < self.job.before
            outcome.skipped += old
            outcome.repeated += not old
            return
        self._seen.add(key)
        taken.append(entry._replace(key=key))
        try:
            self.writer.append(record)
        except DuplicateKeyError:  # of a commit: what waited, this record too, is to be done again
            raise
        except SchemaError as error:
            taken.pop()
            self._seen.discard(key)
            self._failed(entry, error, outcome)

    def _keyed(self, entry: Entry, record: Any) -> tuple[Record, Any]:
        """Return a record with its key in it, and the key."""
        name = self.store.schema.key
        if not isinstance(record, Mapping):
            raise TypeError(f"expected a mapping or None, got {type(record).__name__}")
        key = record.get(name)
        if key is None:
            if entry.key is None:
                raise SchemaError(f"the record has no {name}, which is the key")
            return {**record, str(name): entry.key}, entry.key
        checked_key(self.store, key)
        if entry.key is not None and key != entry.key:
            raise SchemaError(f"the record has the key {key!r}, the item {entry.key!r}")
        return record, key

    def _failed(self, entry: Entry, error: Exception, outcome: Outcome) -> None:
        outcome.failed.append(failure(entry, error))
        if not self.job.skip_failed:
            outcome.trace = trace_of(error)
