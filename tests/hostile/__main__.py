"""Try every hostile store, or those with some words in their names; print what came of each."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.hostile.cases import CASES
from tests.hostile.run import Runner

_WIDEST = 110


def main(words: list[str]) -> int:
    """Print a line for every case and the verdict; return how many have done harm."""
    chosen = [case for case in CASES.values() if all(word in case.name for word in words)]
    failed = 0
    most = 0
    with tempfile.TemporaryDirectory() as place, Runner(Path(place)) as runner:
        for case in chosen:
            found = runner.outcome(case)
            most = max(most, found.memory)
            said = " ".join(found.said.split())
            said = said if case.gets else "harmless: all is as in a plain store"
            print(f"{case.name:<58} {said.replace(place, '')[:_WIDEST]}", flush=True)
            for what in found.wrong:
                print(f"    !!! {what}")
            failed += bool(found.wrong)
    print(
        f"hostile stores: {len(chosen)} tried, {failed} successes for the attacker, at most "
        f"{most >> 20} MiB of memory more than before"
    )
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
