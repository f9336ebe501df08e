"""How much smaller small records get, and what it costs to write and to read them.

    python -m benchmarks.compression
    python -m benchmarks.compression --folder /mnt/disk --rounds 9

The records are real and of this machine: the functions and methods of Python's standard library as
text, and the file tables of the installed packages as JSON lines. Every record is a value of its
own, compressed by itself, and read by itself. What a dictionary takes is counted with the records.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import random
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import sqlstore
from benchmarks.measure import (
    Timing,
    formatted,
    interleaved,
    machine,
    sync_file,
    working_folder,
)

COMPRESSIONS: tuple[str | None, ...] = (None, "lz4", "gzip", "zstd", "dictionary")
HEADINGS = [
    "compression",
    "bytes per record",
    "smaller than lz4",
    "write one, us",
    "read one, us",
    "slowest - fastest",
]
Source = Callable[[], Iterator[bytes]]
"""Gives records."""

_MOST = 20_000
_FIELD = "body"


def functions() -> Iterator[bytes]:
    """Return every function and method of the standard library, without those inside others."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        if {"site-packages", "test", "tests"} & set(path.relative_to(library).parts):
            continue
        text = path.read_bytes()
        lines = text.splitlines(keepends=True)
        for node in _definitions(ast.parse(text).body):
            yield b"".join(lines[node.lineno - 1 : node.end_lineno])


def _definitions(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def json_lines() -> Iterator[bytes]:
    """Return a line for every file of the packages that are installed."""
    for package in importlib.metadata.distributions():
        for file in package.files or ():
            yield json.dumps(
                {
                    "package": package.metadata["Name"],
                    "version": package.version,
                    "path": str(file),
                    "size": file.size,
                    "sha256": file.hash.value if file.hash else None,
                }
            ).encode()


SOURCES: Mapping[str, Source] = {
    "functions of the standard library": functions,
    "files of installed packages, as JSON lines": json_lines,
}


def records_of(source: Source, most: int) -> list[bytes]:
    """Return records in an order that does not help."""
    found = list(source())
    random.Random(0).shuffle(found)
    return found[:most]


def write(folder: Path, records: Sequence[bytes], compression: str | None, _: bool) -> float:
    """Write a store, and return the seconds until all is durable."""
    path = _place(folder, compression)
    number = len(list(folder.glob(f"{path.name}*")))
    if path.exists():  # the first one is read later
        path = path.with_name(f"{path.name}-{number}")
    with sqlstore.create(path, fields={_FIELD: "bytes"}, compression=compression) as store:
        start = time.perf_counter()
        store.extend({_FIELD: record} for record in records)
        return time.perf_counter() - start


def _place(folder: Path, compression: str | None) -> Path:
    return folder / (compression or "none")


def read(store: sqlstore.Store, order: Sequence[int], _: bool) -> float:
    """Read every record by itself, in an order at random; the warm-up compares checksums."""
    raw = store.raw
    start = time.perf_counter()
    for position in order:
        raw(position, _FIELD)
    return time.perf_counter() - start


def stored_bytes(store: sqlstore.Store) -> int:
    """Return how many bytes the values take, with the dictionaries that they need."""
    sql = (
        "SELECT (SELECT sum(length) FROM record_locations) AS n, "
        "(SELECT coalesce(sum(length), 0) FROM dictionaries) AS d"
    )
    (row,) = store.sql(sql).to_pylist()
    return int(row["n"]) + int(row["d"])


def measure(folder: Path, records: Sequence[bytes], rounds: int) -> list[list[str]]:
    """Return the rows of the table for some records.

    Raises
    ------
    RuntimeError
        A record is read otherwise than it was written.
    """
    writes = {str(one): partial(write, folder, records, one) for one in COMPRESSIONS}
    written = interleaved(writes, rounds)
    sync_file(folder)
    stores = {str(one): sqlstore.open(_place(folder, one)) for one in COMPRESSIONS}
    order = list(range(len(records)))
    random.Random(1).shuffle(order)
    for name, store in stores.items():
        if [store.raw(i, _FIELD) for i in range(len(store))] != list(records):
            raise RuntimeError(f"{name}: a record is not as it was written")
    found = interleaved({name: partial(read, one, order) for name, one in stores.items()}, rounds)
    sizes = {name: stored_bytes(store) for name, store in stores.items()}
    for store in stores.values():
        store.close()
    return [_row(name, sizes, written[name], found[name], len(records)) for name in stores]


def _row(
    name: str, sizes: Mapping[str, int], written: Timing, found: Timing, count: int
) -> list[str]:
    slowest, fastest = (1e6 * one / count for one in (found.slowest, found.fastest))
    return [
        name.lower(),
        f"{sizes[name] / count:,.0f}",
        f"{sizes['lz4'] / sizes[name]:.2f} x",
        f"{1e6 * written.median / count:.1f}",
        f"{1e6 * found.median / count:.2f}",
        f"{slowest:.2f} - {fastest:.2f}",
    ]


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compression", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--records", type=int, default=_MOST, help=f"at most ({_MOST:,})")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: 5)")
    parsed = parser.parse_args(given)
    if parsed.rounds < 1 or parsed.records < 1:
        parser.error("rounds and records must be positive")
    return parsed


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = arguments(given)
    with working_folder(options.folder) as folder:
        print("; ".join(f"{name} {value}" for name, value in machine(folder).items()))
        for number, (name, source) in enumerate(SOURCES.items()):
            records = records_of(source, options.records)
            mean = sum(map(len, records)) / len(records)
            place = folder / str(number)
            place.mkdir()
            rows = measure(place, records, options.rounds)
            print(f"\n**{len(records):,} {name}, {mean:,.0f} bytes on average**\n")
            print(formatted(HEADINGS, rows), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
