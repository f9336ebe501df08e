"""The run: images by the thousand through worker processes, and the mutants."""

from __future__ import annotations

import gc
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Self

from tests.crash_states.cases import hash_of, in_turn, text_of
from tests.crash_states.check import State, Window, check
from tests.crash_states.disk import Case, Image
from tests.crash_states.recording import Recording
from tests.crash_states.workloads import WORKLOADS

_BATCH: Final = 20
_DEEP: Final = 12  # one image of so many is checked deeply
_TOLD: Final = 10_000  # after so many checks it says how far it is
_ENOUGH: Final = 100  # so many violations, and no more are looked for
_IN_VAIN: Final = 3000  # so many known images in a row, and a workload has no more to offer


@dataclass(frozen=True)
class Task:
    """One image to be checked.

    Attributes
    ----------
    mutant
        What was broken in the library that made it, if anything.
    deep
        As in `check`.
    """

    workload: str
    case: Case
    window: Window
    image: Image
    digest: bytes
    mutant: str | None
    deep: bool


@dataclass(frozen=True)
class Violation:
    """An image that the library does not cope with, and what it said."""

    task: Task
    after: str
    message: str

    def __str__(self) -> str:
        mutant = f" --mutant {self.task.mutant}" if self.task.mutant else ""
        return (
            f"{self.message.rstrip()}\n  after {self.after}; run it again by\n"
            f"  python -m tests.crash_states --workload {self.task.workload}{mutant} "
            f"--case '{text_of(self.task.case)}'"
        )


@dataclass
class Outcome:
    """What a run has found.

    Attributes
    ----------
    images
        How many unique images there were, by workload.
    digests
        Of the images.
    checks
        How many were checked; one image may be checked before and after an acknowledgement.
    """

    images: Counter[str] = field(default_factory=Counter)
    digests: set[bytes] = field(default_factory=set)
    checks: int = 0
    violations: list[Violation] = field(default_factory=list)


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder in memory, where there is one."""
    in_memory = Path("/dev/shm")
    parent = in_memory if os.access(in_memory, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="sqlstore-crash-", dir=parent)


def tasks_of(recording: Recording, seed: int, mutant: str | None = None) -> Iterator[Task]:
    """Return the images of a workload, each once for what a crash may leave, till none are new."""
    chance = random.Random(f"{seed} {recording.name}")
    disks = [moment.disk for moment in recording.moments]
    seen: set[bytes] = set()
    in_vain = 0
    for case in in_turn(disks, chance):
        window = recording.moments[case.call].window
        image = disks[case.call].image(case)
        digest = hash_of(image)
        known = digest + bytes([window.lower, window.upper])
        in_vain = in_vain + 1 if known in seen else 0
        if in_vain == _IN_VAIN:
            return
        if in_vain == 0:
            seen.add(known)
            deep = chance.randrange(_DEEP) == 0
            yield Task(recording.name, case, window, image, digest, mutant, deep)


class Checker:
    """Checks images, in this process or in several.

    Parameters
    ----------
    states
        What the store of each workload may hold.
    scratch
        A folder for the images.
    workers
        How many processes; 0: it happens here.
    """

    def __init__(
        self, states: Mapping[str, Sequence[State]], scratch: Path, workers: int = 0
    ) -> None:
        self._states = states
        self._scratch = scratch
        self._width = max(1, 3 * workers)
        self._pool: ProcessPoolExecutor | None = None
        if workers:
            self._pool = ProcessPoolExecutor(
                workers, get_context("spawn"), _begin, (states, scratch)
            )

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, str]]:
        """Return each image, in any order, with what is wrong with it, else nothing."""
        if self._pool is None:
            for task in tasks:
                yield task, _check(task, self._states, self._scratch)
            return
        waiting = iter(tasks)
        running: dict[Future[list[str]], list[Task]] = {}
        while True:
            while len(running) < self._width and (batch := list(islice(waiting, _BATCH))):
                running[self._pool.submit(_check_batch, batch)] = batch
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield from zip(running.pop(done), done.result(), strict=True)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_given: tuple[Mapping[str, Sequence[State]], Path] = {}, Path()


def _begin(states: Mapping[str, Sequence[State]], scratch: Path) -> None:
    global _given
    gc.freeze()
    _given = states, scratch / f"worker-{os.getpid()}"


def _check_batch(batch: list[Task]) -> list[str]:
    return [_check(task, *_given) for task in batch]


def _check(task: Task, states: Mapping[str, Sequence[State]], scratch: Path) -> str:
    return check(
        task.image,
        task.window,
        states[task.workload],
        WORKLOADS[task.workload],
        scratch / "image",
        deep=task.deep,
    )


def taken_in_turn(sources: Iterable[Iterator[Task]]) -> Iterator[Task]:
    """Return a task of each source in turn, until all are at their end."""
    left = list(sources)
    while left:
        for source in list(left):
            task = next(source, None)
            if task is None:
                left.remove(source)
            else:
                yield task


def search(recordings: Sequence[Recording], checker: Checker, seed: int, count: int) -> Outcome:
    """Check so many unique images of some workloads, or all there are; many violations end it."""
    outcome = Outcome()
    tasks = taken_in_turn(tasks_of(recording, seed) for recording in recordings)
    after = {recording.name: recording.moments for recording in recordings}

    def enough() -> Iterator[Task]:
        for task in tasks:
            outcome.images[task.workload] += task.digest not in outcome.digests
            outcome.digests.add(task.digest)
            yield task
            if len(outcome.digests) >= count:
                return

    start = time.monotonic()
    for task, message in checker.run(enough()):
        outcome.checks += 1
        if outcome.checks % _TOLD == 0:
            seconds = time.monotonic() - start
            told = f"{outcome.checks:,} checks in {seconds:.0f} s"
            print(f"  {told}, {len(outcome.violations)} violations", flush=True)
        if message:
            what = after[task.workload][task.case.call].after
            outcome.violations.append(Violation(task, what, message))
            if len(outcome.violations) == _ENOUGH:
                break
    return outcome


def caught_after(
    recording: Recording, mutant: str, checker: Checker, seed: int, most: int
) -> int | None:
    """Return how many images it took to find that the library is broken; None if it was not."""
    tasks = islice(tasks_of(recording, seed, mutant), most)
    for number, (_, message) in enumerate(checker.run(tasks), 1):
        if message:
            return number
    return None
