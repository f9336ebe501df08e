"""Runs many cases in several processes, and says what came of them."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Final

from tests.faults.cases import Case, all_of
from tests.faults.check import MODULES, Bench
from tests.faults.workloads import WORKLOADS
from tests.tracing import Template, unavailable

_DEFAULT: Final = 800
"""Faults of a run, beside a kill at every call."""
_MISSED: Final = "the call was not made"


@cache
def _bench(folder: Path) -> Bench:
    """Return what runs the cases of this process."""
    return Bench(folder, Template(MODULES))


def _run(folder: Path, case: Case) -> tuple[str, str]:
    """Return what the program has met, and what is wrong."""
    try:
        return _bench(folder).run(case) or _MISSED, ""
    except AssertionError as error:
        return "violation", f"{error}\nagain: python -m tests.faults {case}"


def chosen(cases: Iterable[Case], count: int, seed: int) -> list[Case]:
    """Return all kills among the cases, and so many of the others."""
    kills: list[Case] = []
    others: list[Case] = []
    for case in cases:
        (kills if case.is_kill else others).append(case)
    return kills + random.Random(seed).sample(others, min(count, len(others)))


def main(arguments: list[str]) -> int:
    if reason := unavailable():
        print(f"faults: not run, {reason}")
        return 1
    seed = int(os.environ.get("SQLSTORE_SEED") or random.SystemRandom().randrange(10**9))
    count = int(os.environ.get("SQLSTORE_CASES", _DEFAULT))
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "private")
    with Template(MODULES) as template:
        bench = Bench(folder, template)
        every = [case for name in WORKLOADS for case in all_of(name, *bench.calls(name))]
    cases = [Case.parsed(text) for text in arguments] or chosen(every, count, seed)
    print(f"faults: seed {seed}, {len(cases)} of {len(every)} cases", flush=True)
    met: Counter[str] = Counter()
    violations = 0
    with multiprocessing.get_context("spawn").Pool() as pool:
        for what, violation in pool.imap_unordered(partial(_run, folder), cases, chunksize=8):
            met[what] += 1
            violations += bool(violation)
            if violation:
                print(f"VIOLATION {violation}", flush=True)
    for what, times in met.most_common():
        print(f"  {times:6} {what}")
    verdict = f"{violations} VIOLATIONS, kept in {folder}" if violations else "no violation"
    kills, missed = met["killed"], met[_MISSED]
    print(f"faults: {kills} kills and {len(cases) - kills - missed} faults: {verdict}")
    if not violations:
        shutil.rmtree(folder)
    return bool(violations)
