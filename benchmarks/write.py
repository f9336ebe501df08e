"""How fast records become durable, side by side with what people use instead.

    python -m benchmarks.write                   # the tables
    python -m benchmarks.write --profile         # where sqlstore's own time goes

Every system writes the same records with the same five metadata columns and syncs them to the disk
equally often. In the first, uncounted round everything is read back and compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlstore
from benchmarks import steps
from benchmarks.data import Dataset, Kind, make
from benchmarks.measure import (
    Run,
    Timing,
    formatted,
    interleaved,
    machine,
    sync_file,
    warm_memory,
    working_folder,
)
from benchmarks.peers import SYSTEMS, Entry
from sqlstore import KiB, MiB

STYLES = {"rows": "row by row", "columns": "from an Arrow table"}


@dataclass(frozen=True)
class Group:
    """One table: systems that write the same records in the same style."""

    style: str
    data: Dataset
    kind: Kind
    batch: int

    @property
    def title(self) -> str:
        """Return what is in the table."""
        n_bytes = self.batch * self.data.size
        return (
            f"{STYLES[self.style]}: {len(self.data):,} x {self.data.size // KiB} KiB "
            f"of {self.kind}, synced every {self.batch:,} records ({n_bytes / MiB:.1f} MiB)"
        )

    def timings(self, entries: Sequence[Entry], folder: Path, rounds: int) -> dict[str, Timing]:
        """Run every system of the style that is installed."""
        chosen = [entry for entry in entries if entry.style == self.style]
        return interleaved({entry.name: self._runner(entry, folder) for entry in chosen}, rounds)

    def _runner(self, entry: Entry, folder: Path) -> Run:
        return lambda warm_up: self._run(entry, folder, check=warm_up)

    def _run(self, entry: Entry, folder: Path, *, check: bool) -> float:
        place = folder / "run"
        place.mkdir()
        try:
            return run(entry, place, self.data, self.batch, check=check)
        finally:
            shutil.rmtree(place)
            sync_file(folder)


def run(entry: Entry, folder: Path, data: Dataset, batch: int, *, check: bool) -> float:
    """Write all records with one system and return the seconds until they were durable.

    Parameters
    ----------
    check
        Whether to read everything back afterwards and compare it.

    Raises
    ------
    ValueError
        A record is not what was written.
    """
    system = entry.make(folder, data, batch)
    try:
        warm_memory(folder, 2 * data.n_bytes)
        start = time.perf_counter()
        system.write()
        seconds = time.perf_counter() - start
        if check:
            for number, (found, given) in enumerate(
                itertools.zip_longest(system.read(), data.rows)
            ):
                if found != given:
                    raise ValueError(f"{entry.name} gave back another record {number}")
    finally:
        system.close()
    return seconds


def rows_of(group: Group, timings: dict[str, Timing]) -> list[list[str]]:
    """Return the lines of the table of one group."""
    ours = [timing for name, timing in timings.items() if name.startswith("sqlstore")]
    lines = []
    for name, timing in timings.items():
        records = len(group.data) / timing.median
        rate = [
            group.data.n_bytes / 1e6 / s for s in (timing.median, timing.slowest, timing.fastest)
        ]
        ratios = [f"{timing.median / one.median:.2f}" for one in ours]
        spread = f"{rate[1]:,.0f} - {rate[2]:,.0f}"
        lines.append([name, f"{records:,.0f}", f"{rate[0]:,.0f}", spread, *ratios])
    return lines


def as_json(group: Group, timings: dict[str, Timing]) -> dict[str, Any]:
    """Return the figures of one group as plain values."""
    return {
        "style": group.style,
        "records": len(group.data),
        "record_bytes": group.data.size,
        "data": group.kind,
        "records_per_sync": group.batch,
        "systems": {
            name: {
                "seconds": list(timing.seconds),
                "records_per_second": len(group.data) / timing.median,
                "mb_per_second": group.data.n_bytes / 1e6 / timing.median,
            }
            for name, timing in timings.items()
        },
    }


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.write", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: 5)")
    parser.add_argument("--data", choices=("random", "text"), default="random")
    parser.add_argument("--sync-mib", type=float, default=8, help="MiB between syncs (default: 8)")
    parser.add_argument("--small", type=int, default=50_000, help="how many records of 1 KiB")
    parser.add_argument("--large", type=int, default=1_000, help="how many records of 100 KiB")
    parser.add_argument("--only", default="", help="run only systems whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--profile", action="store_true", help="show where our own time goes")
    parsed = parser.parse_args(given)
    if parsed.rounds < 1 or parsed.sync_mib <= 0 or min(parsed.small, parsed.large) < 0:
        parser.error("rounds and MiB must be positive, and counts not negative")
    return parsed


def groups(options: argparse.Namespace) -> list[Group]:
    """Return the tables that the command line asks for."""
    made = [
        make(count, size, options.data)
        for count, size in ((options.small, KiB), (options.large, 100 * KiB))
        if count
    ]
    return [
        Group(style, data, options.data, max(1, int(options.sync_mib * MiB) // data.size))
        for style in STYLES
        for data in made
    ]


def compare(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Run all groups and print their tables."""
    wanted = [entry for entry in SYSTEMS if options.only.lower() in entry.name.lower()]
    if absent := sorted({str(e.package) for e in wanted if not e.is_installed}):
        print(f"left out, not installed: {', '.join(absent)}; pip install 'sqlstore[bench]'\n")
    results = []
    for group in groups(options):
        entries = [entry for entry in wanted if entry.is_installed]
        timings = group.timings(entries, folder, options.rounds)
        headings = ["system", "records/s", "MB/s", "slowest - fastest"]
        headings += [f"{name} is x" for name in timings if name.startswith("sqlstore")]
        print(f"{group.title}\n\n{formatted(headings, rows_of(group, timings))}\n", flush=True)
        results.append(as_json(group, timings))
    return results


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = arguments(given)
    with working_folder(options.folder) as folder:
        facts = machine(folder)
        facts["sqlstore"] = sqlstore.__version__
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        if options.profile:
            for group in groups(options):
                print(f"\n{group.title}\n")
                steps.show(group.style, folder, group.data, group.batch)
            return 0
        print(f"median of {options.rounds} rounds; MB are 10^6 bytes of bodies\n", flush=True)
        results = compare(options, folder)
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "groups": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
