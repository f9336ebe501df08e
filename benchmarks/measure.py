"""What every benchmark needs: interleaved rounds, medians, tables, and what machine it ran on."""

from __future__ import annotations

import gc
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 20

Run = Callable[[bool], float]
"""Runs a system once and returns seconds; told whether it is the warm-up round."""


@dataclass(frozen=True)
class Timing:
    """The seconds of one system in every round that counts."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle of all rounds."""
        return statistics.median(self.seconds)

    @property
    def fastest(self) -> float:
        """Return the shortest round."""
        return min(self.seconds)

    @property
    def slowest(self) -> float:
        """Return the longest round."""
        return max(self.seconds)


def interleaved(systems: Mapping[str, Run], rounds: int) -> dict[str, Timing]:
    """Run all systems in turn, again and again, so that a slow minute hits all of them.

    A warm-up round comes first and does not count. Each round begins with another system, so that
    none always runs behind the same one.

    Parameters
    ----------
    systems
        By name.
    rounds
        How many rounds count.
    """
    names = list(systems)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            taken = systems[name](number == 0)
            if number:
                seconds[name].append(taken)
    return {name: Timing(name, tuple(values)) for name, values in seconds.items()}


def formatted(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column left, all others right, padded to be read as is."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return "| " + " | ".join(padded) + " |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(headings), "| " + " | ".join(rule) + " |", *map(line, rows)])


@contextmanager
def working_folder(given: Path | None) -> Iterator[Path]:
    """Return a new folder to write to, on the disk of the one given; it is removed at the end."""
    parent = Path.cwd() if given is None else given
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=parent) as name:
        yield Path(name)


def sync_file(path: Path) -> None:
    """Make a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def warm_memory(folder: Path, n_bytes: int) -> None:
    """Use as much memory as this, in the page cache and out of it, and give it back.

    A virtual machine may have returned its idle memory to the host, and then whoever uses it first
    pays ten times the price of a page. That is nothing to measure, and it must not hit one system
    and spare the next.
    """
    block = os.urandom(_BLOCK)
    held = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(0, n_bytes, _BLOCK):
            file.write(block)
            held.append(bytearray(block))


def machine(folder: Path) -> dict[str, str | int]:
    """Return what the figures depend on beside the code."""
    return {
        "cpus": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.machine()}",
        "file system": file_system(folder),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the type of the file system that a folder lies on, where that is cheap to know."""
    if not mounts.exists():
        return f"unknown ({sys.platform})"
    place = folder.resolve()
    found = [
        (len(Path(point).parts), kind)
        for _, point, kind, *_ in map(str.split, mounts.read_text().splitlines())
        if place.is_relative_to(point)
    ]
    return max(found, key=lambda one: one[0])[1] if found else "unknown"
