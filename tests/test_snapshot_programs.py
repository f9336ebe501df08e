"""Random programs in which snapshots are taken: each stays equal to its model; and crashes."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import copies
from tests import test_edit_programs as edits
from tests.edited import assert_edited, new_store
from tests.processes import COMMIT_STEPS, Child, Steps, kill_self

PROGRAMS = int(os.environ.get("SQLSTORE_PROGRAMS", "6"))


class Program(edits.Program):
    """The same with snapshots: what they should show, by name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.taken: dict[str, tuple[edits.Model, dict[str, str]]] = {}

    def snapshot(self, given: list[int]) -> None:
        name = f"v{given[0] % 5}"
        if name in self.taken:
            self.store.drop_snapshot(name)
            del self.taken[name]
        if given[-1] % 4:
            self.store.snapshot(name)
            self.taken[name] = copy.deepcopy((self.model, self.columns))

    def check_snapshots(self) -> None:
        assert [one.name for one in self.store.snapshots()] == list(self.taken)
        for name, (model, columns) in self.taken.items():
            with sqlstore.open(self.store.path, snapshot=name) as store:
                seen = Program.__new__(Program)
                seen.store, seen.model, seen.columns = store, model, columns
                seen.check()
                self.check_diff(name, seen)

    def check_diff(self, name: str, old: edits.Program) -> None:
        had, has = old.store.schema.columns, self.store.schema.columns
        by_number = {column.number: column.name for column in had.values()}
        both = {by_number[c.number]: c.name for c in has.values() if c.number in by_number}
        compared = {**both, "note": "note"}
        common = [record for record in self.model if record in old.model]
        changed = {
            new: ids
            for before, new in compared.items()
            if (ids := [r for r in common if self.model[r][new] != old.model[r][before]])
        }
        found = self.store.diff(name)
        assert found.added.ids.tolist() == [r for r in self.model if r not in old.model]
        assert found.deleted.ids.tolist() == [r for r in old.model if r not in self.model]
        assert {column: ids.tolist() for column, ids in found.changed.items()} == changed
        assert set(found.columns_added) == set(has) - set(both.values())
        assert set(found.columns_dropped) == set(had) - set(both)
        assert found.columns_renamed == {a: b for a, b in both.items() if a != b}


STEPS = (
    *(Program.append, Program.update, Program.delete, Program.change_columns),
    *(Program.begin_anew, Program.snapshot, Program.snapshot, Program.replace),
    *(Program.compact, Program.compact),
)


@settings(max_examples=PROGRAMS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(STEPS), edits.numbers), min_size=3, max_size=10))
def test_snapshots_stay_equal_to_their_models(steps: list[tuple[Any, list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = Program(Path(folder) / "s")
        program.append([1, 2, 3, 4, 6, 7])
        program.snapshot([0, 1])
        for step, given_numbers in steps:
            step(program, given_numbers)
            if step is Program.begin_anew:
                program.check_snapshots()
        program.check()
        program.check_snapshots()
        program.store.close()
        assert_edited(program.store.path)


# Crashes

COPY_STEPS = (*COMMIT_STEPS, (Path, "replace"), (Path, "unlink"), (copies, "put"))


def change_killed(_: Connection, path: Path, what: str, kill_at: int | None) -> list[str]:
    """Take or drop a snapshot, killed at one of its steps, and return the steps."""
    steps = Steps(kill_self, kill_at)
    with sqlstore.open(path, "a") as store, steps.around(*COPY_STEPS):
        if what == "take":
            store.snapshot("v1")
        else:
            store.drop_snapshot("v0")
    return steps.names


def names_of(path: Path) -> list[str]:
    with sqlstore.open(path) as store:
        return [one.name for one in store.snapshots()]


@pytest.mark.parametrize("what", ["take", "drop"])
def test_what_is_killed_has_happened_or_has_not(tmp_path: Path, what: str) -> None:
    path = new_store(tmp_path / "s", 8)
    with sqlstore.open(path, "a") as store:
        store.snapshot("v0")
        store[:2].delete()
    before, after = ["v0"], ["v0", "v1"] if what == "take" else []
    whole = shutil.copytree(path, tmp_path / "whole")
    with Child(change_killed, whole, what, None) as child:
        names = child.result()
    assert names_of(whole) == after
    found = set()
    # Every sixteenth moment, as all of them take long; and those around the copy itself.
    near = [at for at, name in enumerate(names) if name.split()[1] in ("put", "replace", "unlink")]
    for moment in sorted({*range(0, len(names), 16), *near}):
        copied = shutil.copytree(path, tmp_path / f"killed {moment}")
        with Child(change_killed, copied, what, moment) as child, pytest.raises(EOFError):
            child.result()
        for name in names_of(copied):  # before anybody has mended anything
            with sqlstore.open(copied, snapshot=name) as old:
                assert len(old) == (8 if name == "v0" else 6)
        with sqlstore.open(copied, "a") as store:
            store.extend([{"n": 100, "needed": 1}])
        then = names_of(copied)
        assert then in (before, after), names[moment]
        found.add(then == after)
        assert sqlstore.verify(copied)
        with sqlstore.open(copied, "a") as store:
            if what == "take" and "v1" not in then:
                store.snapshot("v1")
            else:
                store.snapshot("v2")
            then = [one.name for one in store.snapshots()]
        assert [one.stem for one in copies.paths(copied)] == sorted(then)
        assert sqlstore.verify(copied)
        shutil.rmtree(copied)
    assert found == {False, True}
