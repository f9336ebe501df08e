"""How fast records are read, side by side with what people use instead.

    python -m benchmarks.read                       # everything, about twenty minutes
    python -m benchmarks.read --systems ours,bare --sizes 1024
    python -m benchmarks.read --write-docs          # also docs/performance.md and docs/reading.png

Every system writes the same records with the same five metadata columns, and is asked the same.
Before anything is timed, all answers are compared, every byte and every value.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import sqlstore
from benchmarks.data import make
from benchmarks.measure import machine, working_folder
from benchmarks.reading import chart, docs, report
from benchmarks.reading.registry import MODULES, Entry, load
from benchmarks.reading.results import Group, Results
from benchmarks.reading.results import load as load_results
from benchmarks.reading.run import Pace, measure
from sqlstore import KiB

COUNTS = {KiB: 100_000, 100 * KiB: 5_000}
"""How many records of which size."""
SMALL = {64: 2_000, 5 * KiB: 1_500}
"""A data set to try the benchmark with, which measures nothing."""
_DOCS = Path(__file__).resolve().parents[1] / "docs"


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.read", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--systems", default=",".join(MODULES), help="only these modules")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: 5)")
    parser.add_argument(
        "--patience", type=float, default=10, help="seconds for one system and measure (10)"
    )
    parser.add_argument("--small", action="store_true", help="a tiny data set, to try it")
    parser.add_argument("--sizes", help="bytes of a record, for example 1024,102400")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--render", type=Path, metavar="FILE", help="show those of another run")
    parser.add_argument("--write-docs", action="store_true", help="tables and chart into docs/")
    parser.add_argument("--docs", type=Path, default=_DOCS, help=argparse.SUPPRESS)
    parsed = parser.parse_args(given)
    counts = SMALL if parsed.small else COUNTS
    try:
        sizes = [int(size) for size in parsed.sizes.split(",")] if parsed.sizes else list(counts)
        parsed.counts = {size: counts[size] for size in sizes}
    except (ValueError, KeyError):
        parser.error(f"sizes are some of {', '.join(map(str, counts))}")
    parsed.systems = [name for name in parsed.systems.split(",") if name]
    if unknown := [name for name in parsed.systems if name not in MODULES]:
        parser.error(f"no such system: {', '.join(unknown)}; there are {', '.join(MODULES)}")
    if parsed.rounds < 1 or parsed.patience <= 0:
        parser.error("rounds and patience must be positive")
    return parsed


def compare(options: argparse.Namespace) -> Results:
    """Measure everything that the command line asks for."""
    entries, notes = load(options.systems)
    pace = Pace(options.rounds, options.patience)
    with working_folder(options.folder) as folder:
        facts = machine(folder)
        facts["sqlstore"] = sqlstore.__version__
        groups = [
            _group(entries, count, size, folder, pace) for size, count in options.counts.items()
        ]
    notes.append(f"{pace.rounds} rounds, fewer where a system needed {pace.patience:g} s before")
    return Results(facts, notes, groups)


def _group(entries: Sequence[Entry], count: int, size: int, folder: Path, pace: Pace) -> Group:
    place = folder / str(size)
    place.mkdir()
    try:
        return measure(entries, make(count, size, "random"), place, pace)
    finally:
        shutil.rmtree(place)


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark, or show what was measured before."""
    options = arguments(given)
    results = load_results(options.render) if options.render else compare(options)
    if options.json:
        results.save(options.json)
    pieces = list(report.pieces(results))
    print("\n\n".join(pieces))
    if options.write_docs:
        charts = chart.draw(results, options.docs)
        images = [f"![{title}]({path.name})" for title, path in charts.items()]
        docs.put(options.docs / "performance.md", [*images, *pieces])
    return 1 if any(group.failures for group in results.groups) else 0


if __name__ == "__main__":
    sys.exit(main())
