"""Workloads as they are recorded, and what a store must hold after each of their steps."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.crash_states import programs
from tests.crash_states.check import State, Window, state_of
from tests.crash_states.disk import SEEN, Case, Disk
from tests.crash_states.programs import NOTES, STORE
from tests.crash_states.workloads import WORKLOADS
from tests.tracing import Template, Trace


@dataclass(frozen=True)
class Moment:
    """The disk after a call or acknowledgement, and the states that a crash then may leave."""

    disk: Disk
    window: Window
    after: str


@dataclass(frozen=True)
class Recording:
    """What a workload did to the disk.

    Attributes
    ----------
    states
        What the store holds after each step, counted from what the first process finds.
    moments
        Before the first call, after each that may have changed the disk, and after every
        acknowledgement.
    syncs
        How many of the calls made something durable.
    """

    name: str
    states: list[State]
    moments: list[Moment]
    syncs: int


def template_modules() -> list[str]:
    """Return what is imported once, before processes are forked to be recorded."""
    return ["alembic.command", "pandas", "sqlstore.index.ddl", programs.__name__]


def record(template: Template, name: str, scratch: Path, mutant: str | None = None) -> Recording:
    """Run a workload and record it.

    Parameters
    ----------
    scratch
        A folder that is made for it, and removed.
    mutant
        What is broken in the library meanwhile, if anything.
    """
    scratch = scratch.resolve()
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        firsts, states = _expected(name, scratch / "expected")
        return _recorded(template, name, scratch / "recorded", firsts, states, mutant)
    finally:
        shutil.rmtree(scratch)


def _expected(name: str, root: Path) -> tuple[list[int], list[State]]:
    """Return the number of the state that each process finds, and all states."""
    root.mkdir(parents=True)
    workload, path = WORKLOADS[name], root / STORE
    workload.prepare(path)
    states, firsts = [state_of(path)], []
    with workload.library():
        for session in workload.sessions:
            firsts.append(len(states) - 1)
            states.extend(state_of(path) for _ in session(path))
    return firsts, states


def _recorded(
    template: Template,
    name: str,
    root: Path,
    firsts: list[int],
    states: list[State],
    mutant: str | None,
) -> Recording:
    root.mkdir(parents=True)
    workload = WORKLOADS[name]
    workload.prepare(root / STORE)
    disk = Disk()
    disk.add_tree(root)
    moments = [Moment(disk.copy(), Window(0, 0), "the beginning")]
    acknowledged = syncs = 0
    for number, first in enumerate(firsts):
        killed_at = workload.killed_at if number == 0 else None
        trace = template.trace(
            programs.session, root, name, number, first, mutant,
            root=root, names=SEEN, decide=killed_at() if killed_at is not None else None,
        )  # fmt: skip
        _require_ran(trace, name, killed=killed_at is not None, mutated=mutant is not None)
        making = first + 1
        for call in trace.calls:
            what = f"{call.name} {Path(call.path).relative_to(root)}"
            if call.path == str(root / NOTES):
                if call.name != "write":
                    continue
                acknowledged = int(call.data)
                making = acknowledged + 1
                what = f"state {acknowledged} was acknowledged"
            elif not disk.apply(call, str(root)):
                continue
            syncs += "sync" in call.name
            window = Window(acknowledged, min(making, len(states) - 1))
            moments.append(Moment(disk.copy(), window, what))
        _require_same(disk, root)
    return Recording(name, states, moments, syncs)


def _require_same(disk: Disk, root: Path) -> None:
    """Raise unless what was recorded makes the files that are really there."""
    real = {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
        if path.name != NOTES
    }
    image = disk.image(Case(0))
    if different := [name for name in image.keys() | real if image.get(name, "") != real.get(name)]:
        raise RuntimeError(f"{sorted(different)} are otherwise on the disk than recorded")


def _require_ran(trace: Trace, name: str, *, killed: bool, mutated: bool) -> None:
    """Raise unless a process ran to where it should; one that is broken may fail."""
    as_due = trace.exit_code == -9 if killed else trace.exit_code == 0
    if not as_due and not (mutated and trace.exit_code == 1):
        raise RuntimeError(f"{name} ended with {trace.exit_code}: {trace.error}")
