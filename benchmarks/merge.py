"""What it costs to make one store of eight that eight processes have written.

    python -m benchmarks.merge

Each way is a process of its own, by turns: `sqlstore.merge` into a new store and into one that is
there; `Store.adopt` of the chunk files; and what people do otherwise, to read all records and to
append them again. Beside it, `shutil.copytree` of the eight folders. Everything is warm.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

import sqlstore
from benchmarks.measure import formatted, machine, working_folder

WRITERS: Final = 8
_CONTEXT: Final = multiprocessing.get_context("forkserver")


def create(path: Path) -> sqlstore.Store:
    """Create a store without records."""
    metadata = {"name": "string", "writer": "int32", "n": "int64", "score": "float64"}
    return sqlstore.create(path, fields={"payload": "bytes"}, metadata=metadata, key="name")


def write(path: Path, writer: int, count: int, size: int) -> None:
    """Write the store of one writer."""
    random = np.random.default_rng(writer)
    with create(path) as store:
        store.extend(
            {
                "payload": random.bytes(size),
                "name": f"{writer}/{n}",
                "writer": writer,
                "n": n,
                "score": n / count,
            }
            for n in range(count)
        )


def merged(target: Path, sources: Sequence[Path]) -> None:
    """Merge all into a store, which may be there."""
    sqlstore.merge(target, *sources)


def adopted(target: Path, sources: Sequence[Path]) -> None:
    """Adopt all chunk files."""
    with sqlstore.open(target, "a") as store:
        store.adopt(*(chunk for source in sources for chunk in sorted(source.glob("chunks/*"))))


def appended(target: Path, sources: Sequence[Path]) -> None:
    """Read all records and append them."""
    with sqlstore.open(target, "a") as store:
        for source in sources:
            with sqlstore.open(source) as opened:
                store.extend(iter(opened))


def copied(target: Path, sources: Sequence[Path]) -> None:
    """Copy the folders."""
    for source in sources:
        shutil.copytree(source, target / source.name)


WAYS: dict[str, tuple[Callable[[Path, Sequence[Path]], None], bool]] = {
    "merge, new store": (merged, False),
    "merge, store that is there": (merged, True),
    "adopt": (adopted, True),
    "read and append again": (appended, True),
    "copytree": (copied, False),
}
"""What is called, and whether there is a store before."""


def timed(way: str, target: Path, sources: Sequence[Path]) -> tuple[float, float]:
    """Return the seconds, and the peak of memory in MiB, of one way in this process."""
    call, is_there = WAYS[way]
    if is_there:
        create(target).close()
    start = time.perf_counter()
    call(target, sources)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Return seconds and MiB of every round, by way."""
    sources = [folder / str(writer) for writer in range(WRITERS)]
    figures: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with _CONTEXT.Pool(WRITERS) as pool:
        given = [(path, i, options.records, options.size) for i, path in enumerate(sources)]
        pool.starmap(write, given)
    with _CONTEXT.Pool(1, maxtasksperchild=1) as pool:
        for number in range(options.rounds + 1):
            for way, found in figures.items():
                target = folder / "target"
                figure = pool.apply(timed, (way, target, sources))
                if number:  # the first round warms up
                    found.append(figure)
                shutil.rmtree(target)
    return figures


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merge", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--records", type=int, default=10_000, help="of each store")
    parser.add_argument("--size", type=int, default=1024, help="bytes of each payload")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count (default: 9)")
    options = parser.parse_args(given)
    if min(options.records, options.size, options.rounds) < 1:
        parser.error("records, size and rounds must be positive")
    with working_folder(options.folder) as folder:
        facts = machine(folder)
        figures = measure(folder, options)
    print("; ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"{WRITERS} stores of {options.records:,} records of {options.size:,} bytes\n")
    rows = []
    for way, found in figures.items():
        seconds, peaks = zip(*found, strict=True)
        median, low, high = statistics.median(seconds), min(seconds), max(seconds)
        rows.append(
            [way, f"{median:.2f} ({low:.2f} to {high:.2f})", f"{statistics.median(peaks):,.0f}"]
        )
    print(formatted(["way", "s (lowest to highest)", "peak MiB"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
