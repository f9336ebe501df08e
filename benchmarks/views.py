"""How long it takes to choose among many records, and how much memory: each in its own process.

    python -m benchmarks.views
    python -m benchmarks.views --count 100000

The records have five metadata columns, one of them with an SQL index; groups have about ten records
of any of six labels. Seconds are those of one call of a public method on an opened store, of which
nothing is in memory but what the system keeps of its files; memory is the highest that the whole
process had.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import sqlstore
from benchmarks.measure import formatted, machine, working_folder
from benchmarks.reading.memory import peak_bytes, warm_cache

_ROOT = Path(__file__).resolve().parents[1]
_AT_ONCE = 1 << 18
_PER_GROUP = 10
_LABELS = pa.array(["owl", "wren", "kestrel", "house sparrow", "grey heron", "kingfisher"])
_METADATA = {
    "label": "string", "patient": sqlstore.Column("int64", index=True), "path": "string",
    "width": "int32", "score": "float64",
}  # fmt: skip
_RATIOS = {"train": 0.8, "val": 0.1, "test": 0.1}
CALLS: dict[str, Callable[[sqlstore.Store], object]] = {
    "where, 100 groups, indexed": lambda store: store.where("patient < 100"),
    "where, 1 in 4,000, a scan": lambda store: store.where("width = 100"),
    "where, half of all, a scan": lambda store: store.where("score < 0.5"),
    "order_by, all": lambda store: store.order_by("width"),
    "shuffle": lambda store: store.shuffle(0),
    "a tenth of a shuffle, ordered": lambda s: s.sample(fraction=0.1, seed=0).order_by("width"),
    "two halves, union": lambda s: s.sample(fraction=0.5, seed=0) | s.sample(fraction=0.5, seed=1),
    "split": lambda store: store.split(_RATIOS),
    "split, stratified": lambda store: store.split(_RATIOS, stratify="label"),
    "split, grouped": lambda store: store.split(_RATIOS, group="patient"),
    "split, grouped, stratified": lambda s: s.split(_RATIOS, group="patient", stratify="label"),
    "split by path": lambda store: store.split(_RATIOS, by="path"),
    "5 folds, grouped, stratified": lambda s: s.folds(5, group="patient", stratify="label"),
}


def write(path: Path, count: int) -> None:
    """Write a store of so many records."""
    random = np.random.default_rng(0)
    with sqlstore.create(path, metadata=_METADATA) as store:
        schema = pa.schema([(name, store.schema.columns[name].kind.arrow) for name in _METADATA])
        store.extend(pa.RecordBatchReader.from_batches(schema, _batches(count, schema, random)))


def _batches(
    count: int, schema: pa.Schema, random: np.random.Generator
) -> Iterator[pa.RecordBatch]:
    for start in range(0, count, _AT_ONCE):
        n = min(_AT_ONCE, count - start)
        columns = [
            _LABELS.take(pa.array(random.choice(6, n, p=[0.5, 0.2, 0.15, 0.1, 0.04, 0.01]))),
            pa.array(random.integers(0, max(count // _PER_GROUP, 1), n)),
            pa.array([f"images/{i:09d}.jpg" for i in range(start, start + n)]),
            pa.array(random.integers(64, 4096, n, dtype=np.int32)),
            pa.array(random.random(n)),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def measure(path: Path, name: str) -> dict[str, Any]:
    """Return what one new process tells.

    Raises
    ------
    RuntimeError
        The process failed.
    """
    command = [sys.executable, "-m", "benchmarks.views", "--run", name, str(path.resolve())]
    ended = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"a process failed:\n{ended.stderr.decode()}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def _run(name: str, path: str) -> None:
    with sqlstore.open(path) as store:
        start = time.perf_counter()
        made = CALLS[name](store)
        seconds = time.perf_counter() - start
        chosen = made.values() if isinstance(made, dict) else [made]
        sizes = [len(one) for one in chosen if isinstance(one, sqlstore.View)]
    print(json.dumps({"seconds": seconds, "gib": peak_bytes() / (1 << 30), "sizes": sizes}))


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--count", type=int, default=10_000_000, help="how many records")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is shown")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.run:
        _run(*options.run)
        return 0
    with working_folder(options.folder) as folder:
        path = folder / "store"
        write(path, options.count)
        warm_cache(path)
        rounds = [[measure(path, name) for name in CALLS] for _ in range(options.rounds)]
        facts = machine(folder)
    lines = []
    for name, runs in zip(CALLS, zip(*rounds, strict=True), strict=True):
        seconds = float(np.median([run["seconds"] for run in runs]))
        gib = max(run["gib"] for run in runs)
        lines.append([name, f"{seconds:.3f}", f"{gib:.2f}", str(runs[0]["sizes"] or "-")])
    print("; ".join(f"{name} {value}" for name, value in facts.items()))
    headings = [f"{options.count:,} records", "seconds", "peak GiB", "records"]
    print(f"\n{formatted(headings, lines)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
