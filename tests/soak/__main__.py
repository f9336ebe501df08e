"""Run the soak: `SQLSTORE_SECONDS=60 SQLSTORE_SEED=1 python -m tests.soak`."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import sqlstore
from tests.soak.rounds import Tally, soak
from tests.soak.story import Violation


def main() -> int:
    seconds = float(os.environ.get("SQLSTORE_SECONDS", "60"))
    seed = int(os.environ.get("SQLSTORE_SEED") or random.SystemRandom().randrange(10**9))
    print(f"soak: seed {seed}, {seconds:.0f} seconds", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    tally, start = Tally(), time.monotonic()
    try:
        soak(folder, seconds, seed, tally)
        verdict = "no violation"
    except (Violation, AssertionError, sqlstore.SqlstoreError) as error:
        verdict = f"VIOLATION in round {tally.rounds}: {error}"
    print(
        f"soak: {tally.rounds} stores in {time.monotonic() - start:.0f} seconds, "
        f"{tally.kills} kills ({tally.early} of them while opening and recovering), "
        f"{tally.commits} commits, {tally.checked} records checked: {verdict}"
    )
    if verdict != "no violation":
        print(f"the store is kept in {folder}; again, though at other moments:")
        print(f"SQLSTORE_SEED={seed} SQLSTORE_SECONDS={seconds:.0f} make soak")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
