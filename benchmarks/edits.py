"""What edits of a few among many records cost, and a computed column that is killed half-way.

    python -m benchmarks.edits

A hundredth of the records, chosen at random, is updated in one column, or deleted: how long that
takes, how many bytes it writes to the log, and what `to_arrow` takes before it, right after it,
which brings the cache up to date, and once more. Every round begins with a copy of one store.

Of a store of 1 KiB records half are deleted, at random, and it is compacted and rebuilt.

Then `add_column` computes a column by a function in another process, which is killed with SIGKILL
half-way; the same call again computes the rest. All calls of the function are counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

import sqlstore
from benchmarks.measure import formatted, machine, sync_file, working_folder
from benchmarks.opening import write

_ROOT = Path(__file__).resolve().parents[1]
_SHARE: Final = 100
HEADINGS = (
    "edit",
    "s",
    "bytes in the log",
    "to_arrow before, ms",
    "right after",
    "second after",
    "second / before",
)
Edit = Callable[[sqlstore.View], None]


def update(view: sqlstore.View) -> None:
    """Give every record of a view a score of its own."""
    view.update(score=np.random.default_rng(2).random(len(view)))


EDITS: dict[str, Edit] = {"1 % updated": update, "1 % deleted": sqlstore.View.delete}


def log_bytes(path: Path) -> int:
    """Return how large the chunk files of a store are."""
    return sum(chunk.stat().st_size for chunk in path.glob("chunks/*.chunk"))


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def edited(path: Path, edit: Edit) -> dict[str, float]:
    """Edit a hundredth of a store, and return what it took."""
    with sqlstore.open(path, "a") as store:
        store.to_arrow()  # maps the mirror, and looks at its checksums
        before = seconds(store.to_arrow)
        size, count = log_bytes(path), len(store)
        chosen = np.random.default_rng(1).choice(count, max(count // _SHARE, 1), replace=False)
        taken = seconds(partial(edit, store.take(np.sort(chosen))))
        return {
            "edit": taken,
            "bytes": log_bytes(path) - size,
            "before": before,
            "first": seconds(store.to_arrow),
            "second": seconds(store.to_arrow),
        }


def rows(store: Path, folder: Path, rounds: int) -> Iterator[list[str]]:
    """Return the rows of the table: medians of all rounds."""
    for name, edit in EDITS.items():
        found: dict[str, list[float]] = {}
        for _ in range(rounds):
            copy = folder / "copy"
            shutil.copytree(store, copy)
            sync_file(folder)
            for key, value in edited(copy, edit).items():
                found.setdefault(key, []).append(value)
            shutil.rmtree(copy)
        median = {key: statistics.median(values) for key, values in found.items()}
        yield [
            name,
            f"{median['edit']:.2f}",
            f"{median['bytes']:,.0f}",
            *(f"{1000 * median[key]:.1f}" for key in ("before", "first", "second")),
            f"{median['second'] / median['before']:.2f}",
        ]


def compacted(path: Path, count: int) -> str:
    """Write records of 1 KiB, delete half of them, compact the store, and say what that took."""
    rng = np.random.default_rng(3)
    records = ({"body": rng.bytes(1024), "number": number} for number in range(count))
    with sqlstore.create(
        path, fields={"body": "bytes"}, metadata={"number": "int64"}, compression=None
    ) as store:
        store.extend(records)
        store.take(np.sort(rng.permutation(count)[::2])).delete()
        start = time.perf_counter()
        done = store.compact()
        taken = time.perf_counter() - start
    rebuilt = seconds(partial(sqlstore.rebuild, path))
    return (
        f"{count:,} records of 1 KiB, half of them deleted: compact {taken:.1f} s, "
        f"{done.copied:,} bytes copied, {done.freed:,} freed; rebuild after it {rebuilt:.1f} s"
    )


def computed(record: dict[str, Any], calls: int, kill_at: int) -> float:
    """Note that it was called, be killed if it is time for that, and return a value."""
    os.write(calls, b".")
    if kill_at and os.fstat(calls).st_size >= kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(record["width"]) / 2


def compute(path: Path, calls: Path, kill_at: int) -> None:
    """Add the column, or go on with it; this is what the other process runs."""
    descriptor = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    function = partial(computed, calls=descriptor, kill_at=kill_at)
    with sqlstore.open(path, "a") as store:
        store.add_column("half", "float64", function, select=("width",))
    os.close(descriptor)


def killed_and_resumed(path: Path, count: int, calls: Path) -> dict[str, float]:
    """Compute a column, killed half-way, and again; return what was counted.

    Raises
    ------
    RuntimeError
        The other process did not end as it should, or a value is missing or wrong.
    """
    found: dict[str, float] = {}
    for name, kill_at, expected in (("first", count // 2, -signal.SIGKILL), ("second", 0, 0)):
        before = calls.stat().st_size if calls.exists() else 0
        command = [sys.executable, "-m", "benchmarks.edits", "--compute", str(path), str(calls)]
        start = time.perf_counter()
        ended = subprocess.run([*command, str(kill_at)], cwd=_ROOT, check=False)
        found[f"{name}.s"] = time.perf_counter() - start
        if ended.returncode != expected:
            raise RuntimeError(f"the {name} run ended with {ended.returncode}")
        found[f"{name}.calls"] = calls.stat().st_size - before
        with sqlstore.open(path) as store:
            found[f"{name}.there"] = count - store.to_arrow()["half"].null_count
    with sqlstore.open(path) as store:
        table = store.to_arrow()
    if not np.array_equal(table["half"].to_numpy(), table["width"].to_numpy() / 2):
        raise RuntimeError("a value is missing or wrong")
    return found


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edits", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--records", type=int, default=1_000_000, help="how many are edited")
    parser.add_argument("--computed", type=int, default=100_000, help="how many are computed")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--compute", nargs=3, help=argparse.SUPPRESS)
    parsed = parser.parse_args(given)
    if min(parsed.rounds, parsed.records, parsed.computed) < 1:
        parser.error("rounds and counts must be positive")
    return parsed


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = arguments(given)
    if options.compute:
        path, calls, kill_at = options.compute
        compute(Path(path), Path(calls), int(kill_at))
        return 0
    with working_folder(options.folder) as folder:
        facts = ", ".join(f"{name} {value}" for name, value in machine(folder).items())
        print(f"{facts}; {options.records:,} records; medians of {options.rounds}\n", flush=True)
        write(folder / "store", options.records)
        table = list(rows(folder / "store", folder, options.rounds))
        print(f"{formatted(HEADINGS, table)}\n", flush=True)
        print(f"{compacted(folder / 'compacted', options.computed)}\n", flush=True)
        write(folder / "computed", options.computed)
        found = killed_and_resumed(
            (folder / "computed").resolve(), options.computed, (folder / "calls").resolve()
        )
    print(
        f"add_column by a function over {options.computed:,} records: killed after "
        f"{found['first.calls']:,} calls and {found['first.s']:.1f} s, with "
        f"{found['first.there']:,} values committed; run again, {found['second.calls']:,} calls "
        f"in {found['second.s']:.1f} s, and {found['second.there']:,} values are there"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
