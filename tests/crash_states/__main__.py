"""Run the suite: `python -m tests.crash_states`, or `make crash`.

SQLSTORE_CASES says how many unique images are checked, 20,000 by default; SQLSTORE_SEED which.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

from tests.crash_states.cases import hash_of, parsed
from tests.crash_states.disk import write_image
from tests.crash_states.mutants import MUTANTS
from tests.crash_states.recording import Recording, record, template_modules
from tests.crash_states.suite import (
    Checker,
    Task,
    caught_after,
    scratch_folder,
    search,
)
from tests.crash_states.workloads import WORKLOADS
from tests.tracing import Template, unavailable

_CASES = 20_000
_MOST_OF_A_MUTANT = 20_000
_SHOWN = 5


def main() -> int:
    """Return the exit code: 0 if nothing is violated and every mutant is caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash_states", description=__doc__)
    parser.add_argument("--workload", choices=WORKLOADS, help="only this one")
    parser.add_argument("--mutant", choices=MUTANTS, help="the bug that the case was found with")
    parser.add_argument("--case", help="only this image, as a violation prints it")
    parser.add_argument("--keep", type=Path, help="where to put the image, a new folder")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if reason := unavailable():
        print(f"crash states: skipped: {reason}")
        return 0
    with scratch_folder() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/private"
        if given.case is not None:
            return run_again(given, Path(folder))
        names = [given.workload] if given.workload else list(WORKLOADS)
        return run(names, given.workers, Path(folder))


def run_again(given: argparse.Namespace, scratch: Path) -> int:
    """Check one image, and tell what is wrong with it."""
    with Template(template_modules()) as template:
        recording = record(template, given.workload, scratch / "recording", given.mutant)
    case = parsed(given.case)
    moment = recording.moments[case.call]
    image = moment.disk.image(case)
    if given.keep is not None:
        given.keep.mkdir(parents=True)
        write_image(image, given.keep)
    task = Task(recording.name, case, moment.window, image, hash_of(image), given.mutant, deep=True)
    print(f"after {moment.after}; states {moment.window.lower} to {moment.window.upper} are right")
    with Checker({recording.name: recording.states}, scratch) as checker:
        ((_, message),) = checker.run([task])
    print(message or "nothing is wrong with it")
    return 1 if message else 0


def run(names: list[str], workers: int, scratch: Path) -> int:
    """Check what the mutants leave, then images of all workloads."""
    seed = int(os.environ.get("SQLSTORE_SEED", random.SystemRandom().randrange(10**9)))
    count = int(os.environ.get("SQLSTORE_CASES", _CASES))
    print(f"crash states: seed {seed}, {count:,} images, {workers} processes", flush=True)
    chosen = [name for name, mutant in MUTANTS.items() if mutant.workload in names]
    with Template(template_modules()) as template:
        recordings = [record(template, name, scratch / "recording") for name in names]
        states = {recording.name: recording.states for recording in recordings}
        with Checker(states, scratch, workers) as checker:
            caught = [
                is_caught(
                    record(template, MUTANTS[name].workload, scratch / "recording", name),
                    name,
                    checker,
                    seed,
                )
                for name in chosen
            ]
            start = time.monotonic()
            outcome = search(recordings, checker, seed, count)
            seconds = time.monotonic() - start
    for recording in recordings:
        print(
            f"  {recording.name:20} {len(recording.moments):4} moments, {recording.syncs:3} syncs: "
            f"{outcome.images[recording.name]:7,} images"
        )
    for violation in outcome.violations[:_SHOWN]:
        print(violation)
    print(
        f"crash states: seed {seed}: {len(outcome.digests):,} unique images in {seconds:.0f} s "
        f"({outcome.checks:,} checks), {len(outcome.violations)} violations; "
        f"{sum(caught)} of {len(caught)} mutants caught"
    )
    return 1 if outcome.violations or not all(caught) else 0


def is_caught(broken: Recording, mutant: str, checker: Checker, seed: int) -> bool:
    """Return whether an image shows that the library is broken, and print which."""
    number = caught_after(broken, mutant, checker, seed, _MOST_OF_A_MUTANT)
    found = "NOT CAUGHT" if number is None else f"caught by image {number:,}"
    print(f"  mutant {mutant!r}: {found} of {broken.name}", flush=True)
    return number is not None


if __name__ == "__main__":
    sys.exit(main())
