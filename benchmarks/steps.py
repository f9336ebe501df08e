"""Where the time of sqlstore's own writing goes, seen from outside: nothing in it is changed."""

from __future__ import annotations

import cProfile
import io
import pstats
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import sqlstore.replay
import sqlstore.staged
from benchmarks.data import Dataset
from benchmarks.measure import formatted, warm_memory
from benchmarks.peers import SYSTEMS, Entry
from benchmarks.systems import System
from sqlstore.commit import Committer
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.log import files
from sqlstore.log.lock import WriterLock
from sqlstore.log.writer import ChunkWriter
from sqlstore.rows import RowBuffer
from sqlstore.writer import Writer

Result = TypeVar("Result")

_TOP = 15
_RUNS = 3
_OUTSIDE = "before the commit: convert and encode"

_STEPS: tuple[tuple[str, object, str], ...] = (
    ("rows into columns, compress, checksum", RowBuffer, "take"),
    ("commit: everything else", Committer, "commit"),
    ("begin a chunk file", ChunkWriter, "create"),
    ("segment table: build", sqlstore.staged, "build_append"),
    ("bodies and table: write", ChunkWriter, "write"),
    ("bodies and table: sync", files, "sync_data"),
    ("SQL: rows of records", records, "insert_records"),
    ("SQL: rows of blobs", records, "insert_blobs"),
    ("checksums of blobs", sqlstore.replay, "blob_rows"),
    ("name as pending, clear", WriterLock, "_write"),
    ("trailer: write", ChunkWriter, "write_trailer"),
    ("trailer: sync", files, "sync_file"),
    ("folder: sync", files, "sync_folder"),
    ("SQLite: COMMIT", Index, "commit"),
    ("the reading side sees the commit", Writer, "_acknowledge"),
)
"""What is timed: what it is called, and the owner and name of the function."""


class Clock:
    """Adds up how long each step takes, without the steps inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inner = [0.0]

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its own time added to a step."""

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.perf_counter() - start
                own = taken - self._inner.pop()
                self._inner[-1] += taken
                self.seconds[step] = self.seconds.get(step, 0.0) + own
                self.calls[step] = self.calls.get(step, 0) + 1

        return wrapper

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time all steps inside the block."""
        with ExitStack() as stack:
            for step, owner, name in _STEPS:
                function = vars(owner)[name]
                wrapper: object
                if isinstance(function, classmethod):
                    wrapper = classmethod(self.timed(step, function.__func__))
                else:
                    wrapper = self.timed(step, function)
                stack.enter_context(mock.patch.object(owner, name, wrapper))
            yield


def show(style: str, folder: Path, data: Dataset, batch: int) -> None:
    """Print the steps of a commit, and the functions that take longest, for each of our systems."""
    for entry in SYSTEMS:
        if entry.is_ours and entry.style == style:
            _run(entry, folder, data, batch, System.write)  # warm-up
            print(f"{entry.name}\n")
            clocks = [_run(entry, folder, data, batch, _timed) for _ in range(_RUNS)]
            fastest = min(clocks, key=lambda clock: sum(clock.seconds.values()))
            print(_steps(fastest, len(data)) + "\n")
            _run(entry, folder, data, batch, _show_functions)


def _run(
    entry: Entry, folder: Path, data: Dataset, batch: int, action: Callable[[System], Result]
) -> Result:
    place = folder / "run"
    place.mkdir()
    system = entry.make(place, data, batch)
    try:
        warm_memory(folder, 2 * data.n_bytes)
        return action(system)
    finally:
        system.close()
        shutil.rmtree(place)


def _timed(system: System) -> Clock:
    """Write, and return where the time went; the steps add up to all of it."""
    clock = Clock()
    with clock.watching():
        start = time.perf_counter()
        system.write()
        total = time.perf_counter() - start
    clock.seconds[_OUTSIDE] = total - sum(clock.seconds.values())
    return clock


def _steps(clock: Clock, count: int) -> str:
    total = sum(clock.seconds.values())
    lines = [
        [
            step,
            str(clock.calls.get(step, "")),
            f"{1e3 * seconds:.1f}",
            f"{1e6 * seconds / count:.2f}",
            f"{seconds / total:.0%}",
        ]
        for step, seconds in sorted(clock.seconds.items(), key=lambda one: -one[1])
    ]
    lines.append(["total", "", f"{1e3 * total:.1f}", f"{1e6 * total / count:.2f}", ""])
    return formatted(["step", "calls", "ms", "us per record", "share"], lines)


def _show_functions(system: System) -> None:
    profile = cProfile.Profile()
    profile.runcall(system.write)
    text = io.StringIO()
    statistics = pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime")
    statistics.print_stats(_TOP)
    table = text.getvalue().partition("ncalls")
    print("".join(table[1:]).rstrip() + "\n")
