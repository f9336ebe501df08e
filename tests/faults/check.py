"""Runs a program with one fault, and checks what it says of it and what it leaves."""

from __future__ import annotations

import errno
import mmap
import os
import re
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlstore
from sqlstore.cache.folder import CACHE_NAME
from tests.faults.cases import NAMES, Case
from tests.faults.workloads import (
    STORE,
    WORKLOADS,
    Contents,
    Workload,
    contents,
    of,
    prepare,
    snapshot_contents,
)
from tests.processes import NEXT, append, assert_clean, assert_rebuilds_equal
from tests.tracing import Call, Template, Trace

_SYNCS: Final = {"fsync", "fdatasync"}
MODULES: Final = (__name__, "pandas", "sqlstore.index.ddl")
"""What is imported before processes are forked."""
_SEEN: Final = "seen"  # the folder of which calls are seen


@dataclass(frozen=True)
class Met:
    """What a program has met, and what it has left open.

    Attributes
    ----------
    chain
        The classes of what was raised and of its causes.
    text
        The traceback.
    numbers
        The `errno` of each that has one.
    left_open
        Files of the store that are open still.
    """

    chain: tuple[type[BaseException], ...]
    text: str
    numbers: tuple[int | None, ...]
    left_open: tuple[str, ...]

    @property
    def kind(self) -> type[BaseException] | None:
        """Return the class of what was raised, if anything was."""
        return self.chain[0] if self.chain else None


def perform(name: str, path: Path, limit: int | None = None) -> Met:
    """Run a program in this process, which is traced, and say which error of ours it has met.

    Any other is raised. How many commits have returned is counted in memory that outlives it.
    """
    sys.settrace(None)  # coverage does not save what it measures here
    with _notes(path).open("r+b") as file:
        notes = mmap.mmap(file.fileno(), 1)
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def done() -> None:
        notes[0] += 1

    chain: list[BaseException] = []
    text = ""
    try:
        WORKLOADS[name].run(path, done)
    except sqlstore.SqlstoreError as error:
        chain, text = list(_with_causes(error)), traceback.format_exc()
    kinds = tuple(map(type, chain))
    numbers = tuple(getattr(error, "errno", None) for error in chain)
    chain.clear()
    return Met(kinds, text, numbers, tuple(_left_open(path.parent)))


def _notes(path: Path) -> Path:
    return path.parent.with_name("notes")


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _left_open(folder: Path) -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (one that is open while it is listed)
        try:
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 (no path for sockets)
        except FileNotFoundError:
            continue
        if target.startswith(f"{folder}/"):
            yield target


class Bench:
    """Runs cases, each in a folder of its own.

    Parameters
    ----------
    folder
        Where these folders are made; one stays if something is wrong.
    template
        What traced processes are forked from.
    """

    def __init__(self, folder: Path, template: Template) -> None:
        self._folder = folder
        self._template = template

    def calls(self, name: str) -> tuple[list[Call], int]:
        """Return the calls of a program that nothing disturbs, and the size of its largest file."""
        path = self._prepared(name)
        trace = self._trace(Case(name, "none", 0), path)
        assert trace.result == Met((), "", (), ()), f"{name} fails by itself: {trace.error}"
        largest = max(file.stat().st_size for file in path.rglob("*") if file.is_file())
        check_store(WORKLOADS[name], path, _notes(path).read_bytes()[0], may_go_on=False)
        shutil.rmtree(path.parents[1])
        return trace.calls, largest

    def run(self, case: Case) -> str | None:
        """Run a program with a fault, and check what comes of it.

        Returns
        -------
        str or None
            What it has met: the class of an error, or ``killed``, or ``nothing``; None if the fault
            did not come about.

        Raises
        ------
        AssertionError
            A violation.
        """
        path = self._prepared(case.workload)
        trace = self._trace(case, path)
        met = trace.result
        done = _notes(path).read_bytes()[0]
        if not _came_about(case, trace):
            shutil.rmtree(path.parents[1])
            return None
        try:
            if not case.is_kill:
                check_met(case, trace, done)
            kind = met.kind if met is not None else None
            unknown = case.is_kill or kind is sqlstore.CommitOutcomeUnknownError
            check_store(WORKLOADS[case.workload], path, done, may_go_on=unknown)
        except (AssertionError, sqlstore.SqlstoreError, OSError, sqlite3.Error) as error:
            said = f"the program met: {met.text}" if met is not None else trace.error
            raise AssertionError(f"{case}: {error!r}, in {path}; {said}") from error
        shutil.rmtree(path.parents[1])
        return "killed" if case.is_kill else "nothing" if kind is None else kind.__name__

    def _prepared(self, name: str) -> Path:
        path = Path(tempfile.mkdtemp(dir=self._folder)) / _SEEN / STORE
        path.parent.mkdir()
        _notes(path).write_bytes(b"\0")
        WORKLOADS[name].prepare(path, self._template)
        return path

    def _trace(self, case: Case, path: Path) -> Trace:
        arguments = case.workload, path, case.limit
        return self._template.trace(
            perform, *arguments, root=path.parent, names=NAMES, decide=case.decide
        )


def _came_about(case: Case, trace: Trace) -> bool:
    if case.is_kill:
        return trace.result is None
    return case.limit is not None or any(call.number == case.number for call in trace.calls)


def check_met(case: Case, trace: Trace, done: int) -> None:
    """Check what a program that was not killed has said, and what it has left open."""
    met = trace.result
    assert isinstance(met, Met), "it has raised what is no error of sqlstore"
    assert not met.left_open, f"it has left open {met.left_open}"
    workload = WORKLOADS[case.workload]
    if met.kind is None:
        assert done == len(workload.states) - 1, "it has not done all, and says nothing"
        refused = [call for call in trace.calls if _is_failed_sync(call)]
        assert not refused, f"it says nothing of {[(call.name, call.path) for call in refused]}"
        return
    allowed = _allowed(case, met)
    assert issubclass(met.kind, allowed), f"{met.kind} is none of {allowed}"
    number = errno.EFBIG if case.limit is not None else case.errno
    # SQLite tells no number, nor does Arrow of a file that cannot be mapped.
    is_untold = met.numbers[-1] is None and not issubclass(met.chain[-1], sqlstore.SqlstoreError)
    told = number is None or number in met.numbers or is_untold
    assert told, f"{number} is not in {met.numbers}"
    _check_no_sync_again(trace.calls)


def _allowed(case: Case, met: Met) -> tuple[type[BaseException], ...]:
    """Return what may be raised: beside what the program may raise, what names the cause better."""
    errors: list[type[BaseException]] = [*WORKLOADS[case.workload].errors]
    by_sqlite = issubclass(met.chain[-1], sqlite3.Error)
    was_refused = any(issubclass(kind, sqlstore.StorageError) for kind in met.chain)
    if case.errno == errno.EACCES or (by_sqlite and not was_refused):
        errors.append(sqlstore.ReadOnlyError)  # what SQLite cannot open to write, it opens to read
    if was_refused:
        errors.append(sqlstore.StoreClosedError)  # by what came after a commit that stands
    if case.errno == errno.EIO and by_sqlite:
        errors.append(sqlstore.CorruptIndexError)  # what SQLite cannot read, it calls malformed
    return tuple(errors)


def _is_failed_sync(call: Call) -> bool:
    """Return whether a sync has failed on which a commit depends.

    The cache is none of these. Nor is, for SQLite, the folder of a journal that it has begun: it
    goes on then, at the risk of the index, which the log outlives.
    """
    failed = call.result is not None and call.result < 0 and call.result != -errno.EINTR
    path = Path(call.path)
    by_sqlite = call.name == "fdatasync" and not re.search(r"\.chunk$|\.sqlite", path.name)
    return call.name in _SYNCS and failed and CACHE_NAME not in path.parts and not by_sqlite


def _check_no_sync_again(calls: Sequence[Call]) -> None:
    """Check that a chunk whose sync has failed is cut before it is synced again."""
    failed: set[str] = set()
    for call in calls:
        if call.name in _SYNCS and call.path.endswith(".chunk"):
            assert call.path not in failed, f"{call.path} is synced once more"
            if _is_failed_sync(call):
                failed.add(call.path)
        elif call.name == "ftruncate":
            failed.discard(call.path)


def check_store(workload: Workload, path: Path, done: int, *, may_go_on: bool) -> None:
    """Check what there is, before and after another writer has come.

    Parameters
    ----------
    done
        How many commits have returned.
    may_go_on
        Whether the next one may have happened as well.
    """
    workload.mend(path)
    possible = list(workload.states[done : done + 1 + may_go_on])
    before = contents(path)
    assert before in [*possible, *_settled(workload, possible)], f"after {done} it has {before}"
    if before is None:
        prepare(path)
    append(path, (NEXT, 0), count=2)
    after = contents(path)
    if before is not None and before == possible[-1]:
        possible = possible[-1:]  # what was seen does not go away
    expected = [state | of((NEXT, 0), size=64) for state in _settled(workload, possible)]
    assert after in expected, f"after {done} and another, it has {after}"
    if workload.snapshot is not None:
        _check_snapshot(path, workload.states[-1], workload.snapshot - done, may_go_on=may_go_on)
    assert_clean(path)
    assert_rebuilds_equal(path, path.parents[1])


def _check_snapshot(path: Path, shown: Contents | None, left: int, *, may_go_on: bool) -> None:
    """Check the snapshot that a program takes, when so many commits were left to be made."""
    found = snapshot_contents(path)
    assert found in ([shown] if left <= 0 else [shown, None] if left == may_go_on else [None])


def _settled(workload: Workload, states: Sequence[Contents | None]) -> list[Contents]:
    return [(state or {}) | workload.pending for state in states]
