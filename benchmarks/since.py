"""How fast records become durable, beside an earlier commit of sqlstore itself.

    python -m benchmarks.since COMMIT

Both versions write the same records, in turn and each time in a new process, so that a slow minute
hits both. A ratio is taken within each round; the table shows the median of them and an interval
that holds the true median in at least 95 of 100 such runs, whatever the distribution (from the
binomial one: Conover, Practical Nonparametric Statistics, 1999, section 3.2).
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import sqlstore
from benchmarks.data import make
from benchmarks.measure import formatted, machine, sync_file, working_folder
from benchmarks.peers import SYSTEMS
from benchmarks.write import STYLES, run
from sqlstore import KiB

_ROOT = Path(__file__).resolve().parents[1]
_SYSTEM = "sqlstore, none"
"""Without compression, which would hide what the rest costs."""
_COVERAGE = 0.95
_FEWEST_ROUNDS = 6
"""With fewer, no interval between two of the ratios covers the median as often as that."""


@dataclass(frozen=True)
class Workload:
    """Records of one size, written in one style.

    Attributes
    ----------
    batch
        After how many records there is a commit.
    """

    style: str
    count: int
    size: int
    batch: int

    @property
    def title(self) -> str:
        """Return what is written."""
        per = f"{self.batch:,} in a commit"
        return f"{STYLES[self.style]}: {self.count:,} x {self.size // KiB} KiB, {per}"


WORKLOADS = (
    Workload("rows", 40_000, KiB, 8192),
    Workload("columns", 80_000, KiB, 8192),
    Workload("rows", 1_000, 100 * KiB, 81),
    Workload("columns", 1_000, 100 * KiB, 81),
    Workload("rows", 2_000, KiB, 10),
)


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = arguments(given)
    if options.once:
        workloads = [Workload(**fields) for fields in json.loads(options.once)]
        print(json.dumps(asdict(once(options.folder, workloads))))
        return 0
    with working_folder(options.folder) as folder:
        facts = ", ".join(f"{name} {value}" for name, value in machine(folder).items())
        print(f"{facts}\n{options.rounds} rounds, against {options.commit}\n", flush=True)
        before = folder / "before"
        unpack(options.commit, before)
        versions = {"before": before, "now": _ROOT}
        rounds = [
            {name: in_new_process(versions[name], folder, WORKLOADS) for name in order(number)}
            for number in range(options.rounds)
        ]
    print(formatted(HEADINGS, [line(w, rounds, i) for i, w in enumerate(WORKLOADS)]))
    return 0


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.since", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("commit", help="the earlier commit, as git knows it")
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--rounds", type=int, default=15, help="how many rounds (default: 15)")
    parser.add_argument("--once", metavar="WORKLOADS", help=argparse.SUPPRESS)
    parsed = parser.parse_args(given)
    if parsed.rounds < _FEWEST_ROUNDS:
        parser.error(f"fewer than {_FEWEST_ROUNDS} rounds give no interval")
    return parsed


def unpack(commit: str, folder: Path) -> None:
    """Write the library as it was in a commit."""
    command = ["git", "archive", "--format=tar", commit, "sqlstore"]
    packed = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def order(number: int) -> tuple[str, str]:
    """Return which version comes first in a round, and which second."""
    return ("before", "now") if number % 2 else ("now", "before")


def in_new_process(version: Path, folder: Path, workloads: Sequence[Workload]) -> list[float]:
    """Return the seconds of each workload, written by the library that lies in a folder."""
    asked = json.dumps([asdict(workload) for workload in workloads])
    # Without -P the library of the working folder would come first, whatever the path says.
    command = [sys.executable, "-P", "-m", "benchmarks.since", "-"]
    command += ["--once", asked, "--folder", str(folder)]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join([str(version), str(_ROOT)])}
    done = subprocess.run(command, env=given, stdout=subprocess.PIPE, check=True)
    found = Found(**json.loads(done.stdout))
    if Path(found.library).parents[1] != version.resolve():
        raise RuntimeError(f"{found.library} was measured, which is not in {version}")
    return found.seconds


@dataclass(frozen=True)
class Found:
    """How long each workload took, and which library wrote it."""

    library: str
    seconds: list[float]


def once(folder: Path, workloads: Sequence[Workload]) -> Found:
    """Write every workload once."""
    return Found(sqlstore.__file__, [_seconds(workload, folder) for workload in workloads])


def _seconds(workload: Workload, folder: Path) -> float:
    (entry,) = [e for e in SYSTEMS if (e.name, e.style) == (_SYSTEM, workload.style)]
    seconds = 0.0
    # Two commits come first and do not count: they import what is imported late.
    for count in (2 * workload.batch, workload.count):
        data = make(count, workload.size, "random")
        with tempfile.TemporaryDirectory(dir=folder) as place:
            seconds = run(entry, Path(place), data, workload.batch, check=False)
        sync_file(folder)
    return seconds


HEADINGS = ("what is written", "before, records/s", "now, records/s", "now is x", "interval")


def line(workload: Workload, rounds: Sequence[dict[str, list[float]]], position: int) -> list[str]:
    """Return the line of the table of one workload."""
    before, now = ([each[name][position] for each in rounds] for name in ("before", "now"))
    ratios = [old / new for old, new in zip(before, now, strict=True)]
    low, high = interval(ratios)
    rates = [f"{workload.count / statistics.median(seconds):,.0f}" for seconds in (before, now)]
    return [
        workload.title,
        *rates,
        f"{statistics.median(ratios):.2f}",
        f"{low:.2f} - {high:.2f}",
    ]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the narrowest pair of values, as far from both ends, that covers the median.

    Parameters
    ----------
    values
        At least six.

    Raises
    ------
    ValueError
        Too few values.
    """
    if len(values) < _FEWEST_ROUNDS:
        raise ValueError(f"an interval takes {_FEWEST_ROUNDS} values, not {len(values)}")
    ordered = sorted(values)
    left_out, outside = 0, 0.0
    while True:
        # How likely it is that at most as many of the values lie below the median, or above it.
        outside += 2 * math.comb(len(values), left_out) / 2 ** len(values)
        if outside > 1 - _COVERAGE:
            return ordered[left_out - 1], ordered[-left_out]
        left_out += 1


if __name__ == "__main__":
    sys.exit(main())
