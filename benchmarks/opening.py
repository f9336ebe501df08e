"""What it takes to open a store of many records, and what memory each further reader costs.

    python -m benchmarks.opening
    python -m benchmarks.opening --counts 10000,1000000

Records are small, so that their number is what counts. Every reader is a new process that has only
imported sqlstore. Its memory is what no other process shares, while another process has the whole
store mapped.
"""

from __future__ import annotations

import argparse
import base64
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import sqlstore
from benchmarks.data import ARROW_SCHEMA, METADATA_TYPES
from benchmarks.measure import formatted, machine, sync_file, working_folder
from benchmarks.reading.measures import cell
from benchmarks.reading.memory import disk_bytes, warm_cache

_ROOT = Path(__file__).resolve().parents[1]
_BODY_BYTES = 16
_AT_ONCE = 1 << 18
_LABELS = pa.array(["owl", "wren", "kestrel", "house sparrow", "grey heron", "kingfisher"])
KINDS = {
    "opened": "opens the store",
    "pickled": "is sent the store, pickled",
    "forked": "is forked from one that has it open",
}
HEADINGS = {
    "open.ms": "open ms",
    "first.ms": "first record ms",
    "open.mb": "private MB after it",
    "read.mb": "after 20,240 random reads",
    "all.mb": "with Python and packages",
}


def tables(count: int) -> Iterator[pa.RecordBatch]:
    """Return as many records as asked for, some at a time, with five metadata columns."""
    random = np.random.default_rng(0)
    for start in range(0, count, _AT_ONCE):
        n = min(_AT_ONCE, count - start)
        bounds = np.arange(0, (n + 1) * _BODY_BYTES, _BODY_BYTES, dtype=np.int32)
        data = pa.py_buffer(random.bytes(n * _BODY_BYTES))
        columns = [
            pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(bounds), data]),
            _LABELS.take(pa.array(random.integers(0, len(_LABELS), n))),
            pa.array(random.integers(64, 4096, n, dtype=np.int32)),
            pa.array(random.random(n)),
            pa.array(np.arange(start, start + n)),
            pa.array(random.random(n) < 0.9),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=ARROW_SCHEMA)


def write(path: Path, count: int) -> float:
    """Write a store and return the seconds."""
    start = time.perf_counter()
    with sqlstore.create(
        path, fields={"body": "bytes"}, metadata=METADATA_TYPES, compression=None
    ) as store:
        store.extend(pa.RecordBatchReader.from_batches(ARROW_SCHEMA, tables(count)))
    return time.perf_counter() - start


def read(path: Path, kind: str) -> dict[str, float]:
    """Return what one new process tells.

    Raises
    ------
    RuntimeError
        The process failed.
    """
    given = str(path.resolve())
    if kind == "pickled":
        with sqlstore.open(path) as store:
            given = base64.b64encode(pickle.dumps(store)).decode()
    ended = subprocess.run(_command(kind, given), cwd=_ROOT, capture_output=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"a reader failed:\n{ended.stderr.decode()}")
    found: dict[str, float] = json.loads(ended.stdout)
    return found


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Have the whole store mapped by another process."""
    command = _command("hold", str(path.resolve()))
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError("the process that holds the store failed")
            yield
        finally:
            process.stdin.close()


def _command(kind: str, given: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.reading.reader", kind, given]


def measure(path: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the figures of all rounds, by the kind of reader."""
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    with held(path):
        for number in range(rounds + 1):
            for kind, figures in found.items():
                for key, value in read(path, kind).items():
                    if number:  # the first round does not count
                        figures.setdefault(key, []).append(value)
    return found


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opening", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--counts", default="10000,1000000,10000000", help="how many records")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (default: 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parsed = parser.parse_args(given)
    try:
        parsed.counts = [int(count) for count in parsed.counts.split(",")]
    except ValueError:
        parser.error("--counts takes numbers, with commas between them")
    if parsed.rounds < 1 or min(parsed.counts) < 1:
        parser.error("rounds and counts must be positive")
    return parsed


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = arguments(given)
    lines: list[list[str]] = []
    plain: list[dict[str, Any]] = []
    with working_folder(options.folder) as folder:
        facts = machine(folder)
        for count in options.counts:
            path = folder / str(count)
            seconds = write(path, count)
            sync_file(folder)
            warm_cache(path)
            found = measure(path, options.rounds)
            disk = disk_bytes(path) / 1e6
            plain.append({"records": count, "write_s": seconds, "disk_mb": disk, "readers": found})
            for kind, text in KINDS.items():
                cells = [cell(found[kind].get(key, ())) for key in HEADINGS]
                lines.append([f"{count:,}: {text}", *cells])
            print(f"{count:,} records: {disk:,.0f} MB, written in {seconds:,.1f} s", flush=True)
    print("; ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"\n{formatted(['records: a process that', *HEADINGS.values()], lines)}")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "stores": plain}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
