"""What traced processes run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.crash_states import mutants
from tests.crash_states.workloads import WORKLOADS

STORE: Final = "store"
NOTES: Final = "notes"


def session(root: Path, workload: str, number: int, first: int, mutant: str | None) -> None:
    """Do what one process of a workload does, noting every state that is acknowledged.

    Parameters
    ----------
    root
        The folder in which the store lies, or will.
    number
        Of the process.
    first
        The number of the state that the process finds.
    mutant
        What is broken in the library, if anything.
    """
    notes = os.open(root / NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledge(state: int) -> None:
        os.write(notes, b"%d\n" % state)

    state = first
    chosen = WORKLOADS[workload]
    with chosen.library(), mutants.applied(mutant, lambda: acknowledge(state + 1)):
        for _ in chosen.sessions[number](root / STORE):
            state += 1
            acknowledge(state)
    os.close(notes)
