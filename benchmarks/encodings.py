"""Reading decoded values at random, beside granular's reader, with one thread and several.

    python -m benchmarks.encodings

Pieces of the two photographs that scikit-learn brings are written by both: as files of JPEG and
PNG, as arrays, and the JPEG files as bytes. What both read is compared before anything is timed.
All threads read from one store; each has a reader of granular's for itself, which cannot be shared.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import granular
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

import sqlstore
from benchmarks.measure import formatted, interleaved, machine, working_folder

OURS, THEIRS = "sqlstore", "granular"
KINDS = {"jpg": "jpg", "png": "png", "npy": "array", "bytes": "bytes"}
"""Encodings of sqlstore, and those of granular that give the same."""
_FILES = {"jpg": "JPEG", "png": "PNG"}
THREADS = (1, 2, 4)
_QUALITY = 95
Read = Callable[[int], Any]


def pieces(count: int, size: int) -> list[NDArray[np.uint8]]:
    """Return square pieces of the photographs, of this many pixels a side."""
    random = np.random.default_rng(size)
    photographs = load_sample_images().images
    found = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        y, x = (int(random.integers(0, n - size)) for n in photograph.shape[:2])
        found.append(np.ascontiguousarray(photograph[y : y + size, x : x + size]))
    return found


def values_of(kind: str, arrays: Sequence[NDArray[np.uint8]]) -> list[Any]:
    """Return what is written of each piece: files of images, arrays, or bytes."""
    if kind == "npy":
        return list(arrays)
    return [_file(array, _FILES.get(kind, "JPEG")) for array in arrays]


def _file(array: NDArray[np.uint8], kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, quality=_QUALITY)
    return stream.getvalue()


def written(
    kind: str, values: Sequence[Any], folder: Path, stack: ExitStack
) -> dict[str, Callable[[], Read]]:
    """Write with both, and return what opens what reads one value, decoded."""
    store = folder / f"{kind}-store"
    with sqlstore.create(store, fields={"value": kind}, compression=None) as created:
        created.extend({"value": value} for value in values)
    ours = stack.enter_context(sqlstore.open(store))
    name = KINDS[kind]
    encoders = dict(granular.encoders)
    if kind in _FILES:
        encoders[name] = bytes  # the files as they are
    with granular.DatasetWriter(folder / f"{kind}-granular", {"value": name}, encoders) as writer:
        for value in values:
            writer.append({"value": value})

    def open_theirs() -> Read:
        theirs = granular.DatasetReader(folder / f"{kind}-granular", granular.decoders)
        stack.callback(theirs.close)
        return lambda i: theirs[i]["value"]

    return {OURS: lambda: lambda i: ours[i]["value"], THEIRS: open_theirs}


def check(openers: Mapping[str, Callable[[], Read]], count: int) -> None:
    """Compare what both give, which also brings everything into memory.

    Raises
    ------
    ValueError
        They differ.
    """
    ours, theirs = openers[OURS](), openers[THEIRS]()
    for record in range(count):
        if not np.array_equal(ours(record), theirs(record)):
            raise ValueError(f"record {record} differs")


def timed(
    opener: Callable[[], Read], order: Sequence[int], threads: int
) -> Callable[[bool], float]:
    """Return what reads records in an order with some threads, and tells the seconds."""
    parts = [order[start::threads] for start in range(threads)]
    readers = [opener() for _ in parts]

    def part(read: Read, records: Sequence[int]) -> None:
        for record in records:
            read(record)

    def run(_: bool) -> float:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, readers, [[]] * threads))  # the threads have begun
            start = time.perf_counter()
            list(pool.map(part, readers, parts))
            return time.perf_counter() - start

    return run


def rows(folder: Path, size: int, count: int, rounds: int) -> Iterator[list[str]]:
    """Return the rows of the table for pieces of one size."""
    arrays = pieces(count, size)
    order = np.random.default_rng(0).permutation(count).tolist()
    for kind in KINDS:
        with ExitStack() as stack:
            openers = written(kind, values_of(kind, arrays), folder, stack)
            check(openers, count)
            for threads in THREADS:
                runs = {name: timed(one, order, threads) for name, one in openers.items()}
                found = interleaved(runs, rounds)
                ours, theirs = (1e6 * found[name].median / count for name in (OURS, THEIRS))
                yield [
                    f"{kind}, {size} x {size}",
                    str(threads),
                    f"{ours:.1f}",
                    f"{theirs:.1f}",
                    f"{ours / theirs:.2f}",
                ]


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encodings", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (default: 7)")
    parser.add_argument("--records", type=int, default=2000, help="how many (default: 2,000)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 96, 256])
    options = parser.parse_args(given)
    with working_folder(options.folder) as folder:
        facts = ", ".join(f"{name} {value}" for name, value in machine(folder).items())
        print(f"{facts}; {options.records:,} records; µs per record, medians of {options.rounds}\n")
        table = []
        for size in options.sizes:
            (place := folder / str(size)).mkdir()
            table += list(rows(place, size, options.records, options.rounds))
        print(formatted(["values", "threads", OURS, THEIRS, "ratio"], table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
