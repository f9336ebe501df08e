"""Runs cases in long-lived processes, begun anew when one dies or hangs; counts what came of it."""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from tests.fuzz import cases, small
from tests.fuzz.check import paths, serve

SECONDS: Final = 5.0
"""What a case may take."""
_START_SECONDS: Final = 60.0
_SPAWN: Final = multiprocessing.get_context("spawn")


class Worker:
    """A process that runs cases, and another one once it has died.

    Parameters
    ----------
    template, folder
        As `Bench` takes them.
    target
        What the process does.
    """

    def __init__(
        self, template: Path, folder: Path, target: Callable[[Connection, Path, Path], None] = serve
    ) -> None:
        self._how = template, folder
        self._target = target
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def run(self, case: str, seconds: float) -> tuple[str, str]:
        """Return what caught a damage, and what is wrong."""
        seconds = seconds if self._process is not None else seconds + _START_SECONDS
        connection = self._connection or self._begun()
        try:
            connection.send(case)
            if connection.poll(seconds):
                what, violation = connection.recv()
                return str(what), str(violation)
            problem = f"not done within {seconds:.0f} s"
        except (EOFError, OSError):
            problem = "the interpreter died"
        self.end()
        return "violation", problem

    def _begun(self) -> Connection:
        self._connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=self._target, args=(theirs, *self._how), daemon=True)
        self._process.start()
        theirs.close()
        return self._connection

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def all_cases(root: Path, flips: int, seed: int) -> list[str]:
    """Return every case of one chunk, and of the other files all but some bits and bytes.

    Parameters
    ----------
    flips
        How many bits and bytes of the index, and a quarter as many of the other chunk.
    """
    sizes = {name: path.stat().st_size for name, path in paths(root).items()}
    found = [case for name, size in sizes.items() for case in cases.of_file(name, size)]
    found += ["chunk0:exchange", *cases.of_bytes("chunk0", sizes["chunk0"])]
    choice = random.Random(seed)
    for name, count in (("index", flips), ("chunk1", flips // 4)):
        every = list(cases.of_bytes(name, sizes[name]))
        found += choice.sample(every, min(count, len(every)))
    return found


def run(
    root: Path, folder: Path, chosen: Iterable[str], processes: int, seconds: float = math.inf
) -> Counter[tuple[str, str]]:
    """Run cases; return how many of each target and kind were caught by what.

    Violations are printed with how to run them again. After so many seconds no case is begun.
    """
    end = time.monotonic() + seconds
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for case in chosen:
        waiting.put(case)
    seen: Counter[tuple[str, str]] = Counter()
    mutex = threading.Lock()

    def work(number: int) -> None:
        worker = Worker(root, folder / f"worker{number}")
        while not waiting.empty() and time.monotonic() < end:
            try:
                case = waiting.get_nowait()
            except queue.Empty:
                break
            what, violation = worker.run(case, SECONDS)
            with mutex:
                seen[":".join(case.split(":")[:2]), what] += 1
                if violation:
                    print(f"VIOLATION {violation}\nagain: python -m tests.fuzz {case}", flush=True)
        worker.end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


CHECKS: Final = ("open", "read", "filter", "verify", "nothing: all is right", "violation")


def table(seen: Counter[tuple[str, str]]) -> list[str]:
    """Return the detection table: damage by which check caught it first."""
    names = ["open", "read", "filter", "verify", "no effect", "VIOLATION"]
    lines = ["| damage | " + " | ".join(names) + " |", "| --- " + "| ---: " * len(names) + "|"]
    for kind in sorted({kind for kind, _ in seen}):
        counts = " | ".join(f"{seen[kind, check]:,}" for check in CHECKS)
        lines.append(f"| {kind.replace(':', ' ')} | {counts} |")
    return lines


def main(arguments: list[str]) -> int:
    """Run the cases that are named, or all that the environment asks for."""
    seed = int(os.environ.get("SQLSTORE_SEED") or random.SystemRandom().randrange(10**9))
    flips = int(os.environ.get("SQLSTORE_CASES", "20000"))
    seconds = float(os.environ.get("SQLSTORE_SECONDS", "inf"))
    processes = int(os.environ.get("SQLSTORE_PROCESSES", str(os.cpu_count() or 1)))
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "private")
        template = folder / "store"
        if kept := os.environ.get("SQLSTORE_KEPT"):
            shutil.copytree(kept, folder, dirs_exist_ok=True)
        else:
            small.make(template)
        chosen = arguments or all_cases(template, flips, seed)
        random.Random(seed).shuffle(chosen)
        print(f"fuzz: seed {seed}, {len(set(chosen))} unique cases", flush=True)
        seen = run(template, folder, chosen, processes, seconds)
        violations = sum(count for (_, what), count in seen.items() if what == "violation")
        if violations:  # its bytes are others every time
            kept = tempfile.mkdtemp(prefix="fuzz-")
            shutil.copytree(template, Path(kept) / template.name)
            shutil.copy(folder / small.STALE, kept)
            print(f"the store is kept: SQLSTORE_KEPT={kept}")
    print(*table(seen), sep="\n")
    print(f"fuzz: {sum(seen.values())} of {len(chosen)} cases, {violations} violations")
    return 1 if violations else 0
