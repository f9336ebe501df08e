"""Random programs of appends, edits and changes of the schema, against a plain model; and crashes.

``SQLSTORE_PROGRAMS`` says how many programs are run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore.compaction import plan
from tests.edited import assert_edited, new_store
from tests.processes import COMMIT_STEPS, Child, Steps, kill_self

PROGRAMS = int(os.environ.get("SQLSTORE_PROGRAMS", "10"))
Model = dict[int, dict[str, Any]]
NAMES = ("a", "b", "c")


class Program:
    """A store and what it should hold, changed step by step in the same way."""

    def __init__(self, path: Path) -> None:
        columns = {"a": "int64", "b": "string"}
        self.store = sqlstore.create(path, fields={"note": "utf8"}, metadata=columns)
        self.model: Model = {}
        self.columns: dict[str, str] = dict(columns)
        self.next = 0

    def chosen(self, numbers: list[int]) -> list[int]:
        """Return some of the records that there are: their positions, each once."""
        count = len(self.model)
        return list(dict.fromkeys(number % count for number in numbers)) if count else []

    def append(self, values: list[int]) -> None:
        records = [{"note": f"note {v}", **self.row(v)} for v in values]
        assert self.store.extend(records).tolist() == [*range(self.next, self.next + len(values))]
        for record in records:
            self.model[self.next] = record
            self.next += 1

    def row(self, value: int) -> dict[str, Any]:
        return {name: self.value(name, value) for name in self.columns}

    def value(self, name: str, value: int) -> Any:
        if value % 5 == 0:
            return None
        return value if self.columns[name] == "int64" else f"text {value}"

    def update(self, numbers: list[int]) -> None:
        positions = self.chosen(numbers)
        ids = [list(self.model)[position] for position in positions]
        for name in self.columns:
            values = [self.value(name, number) for number in numbers[: len(ids)]]
            if not ids:
                continue
            if len(set(values)) == 1:
                self.store.take(np.array(positions, int)).update(**{name: values[0]})
            elif None not in values:
                self.store.take(np.array(positions, int)).update(**{name: np.array(values)})
            else:
                continue
            for record, value in zip(ids, values, strict=True):
                self.model[record][name] = value

    def replace(self, numbers: list[int]) -> None:
        positions = self.chosen(numbers)
        notes = [None if number % 7 == 0 else f"new {number}" for number in numbers]
        for position, note in zip(positions, notes, strict=False):
            self.model[list(self.model)[position]]["note"] = note
        chosen = self.store.take(np.array(positions, int))
        chosen.replace("note", notes[: len(positions)])

    def delete(self, numbers: list[int]) -> None:
        positions = self.chosen(numbers)
        for record in [list(self.model)[position] for position in positions]:
            del self.model[record]
        self.store.take(np.array(positions, int)).delete()

    def change_columns(self, numbers: list[int]) -> None:
        name = NAMES[numbers[0] % len(NAMES)]
        if name not in self.columns:
            kind = ("int64", "string")[numbers[-1] % 2]
            self.store.add_column(name, sqlstore.Column(kind, index=numbers[0] % 2 == 0))
            self.columns[name] = kind
            for record in self.model.values():
                record[name] = None
        elif numbers[-1] % 2 and len(self.columns) > 1:
            self.store.drop_column(name)
            del self.columns[name]
            for record in self.model.values():
                del record[name]
        elif free := [other for other in NAMES if other not in self.columns]:
            self.store.rename_column(name, free[0])
            self.columns = {free[0] if n == name else n: k for n, k in self.columns.items()}
            for record in self.model.values():
                record[free[0]] = record.pop(name)
        elif self.store.schema.columns[name].index:
            self.store.drop_index(name)
        else:
            self.store.create_index(name)

    def compact(self, numbers: list[int]) -> None:
        """Compact, however little there is to gain."""
        with mock.patch.object(plan, "LEAST_FREED", -sqlstore.GiB):
            done = self.store.compact(min_garbage=numbers[0] % 2)
        assert done.done == bool(done.chunks)

    def begin_anew(self, numbers: list[int]) -> None:
        """Open the store anew, with or without its cache and index."""
        path = self.store.path
        self.store.close()
        if numbers[0] % 3:
            shutil.rmtree(path / "cache", ignore_errors=True)
        if numbers[0] % 3 == 1:
            assert sqlstore.rebuild(path) == len(self.model)
        self.store = sqlstore.open(path, "a")

    def check(self) -> None:
        assert self.store.ids.tolist() == list(self.model)
        assert list(self.store.schema.columns) == list(self.columns)
        assert [dict(record) for record in self.store] == [
            {"note": r["note"], **{name: r[name] for name in self.columns}}
            for r in self.model.values()
        ]
        rows = [{"id": i, **{n: r[n] for n in self.columns}} for i, r in self.model.items()]
        assert self.store.to_arrow().to_pylist() == rows
        assert self.store.sql("SELECT * FROM records ORDER BY id").to_pylist() == rows


STEPS = (
    Program.append,
    Program.update,
    Program.replace,
    Program.delete,
    Program.change_columns,
    Program.compact,
    Program.begin_anew,
)
numbers = st.lists(st.integers(0, 1000), min_size=1, max_size=4)


@settings(max_examples=PROGRAMS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(STEPS), numbers), min_size=3, max_size=9))
def test_a_random_program_of_edits_equals_the_model(steps: list[tuple[Any, list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = Program(Path(folder) / "s")
        program.append([1, 2, 3, 4, 6, 7])
        for step, given_numbers in steps:
            step(program, given_numbers)
            program.check()
        program.store.close()
        assert_edited(program.store.path)


# Crashes


def edit_killed(_: Connection, path: Path, what: str, kill_at: int | None) -> list[str]:
    """Make one edit, killed at one of its steps, and return the steps."""
    steps = Steps(kill_self, kill_at)
    with sqlstore.open(path, "a") as store, steps.around(*COMMIT_STEPS):
        if what == "update":
            store[:5].update(n=-1)
        elif what == "replace":
            store[:5].replace("note", ["new"] * 5)
        elif what == "delete":
            store[:5].delete()
        elif what == "drop":
            store.drop_column("label")
        else:
            store.create_index("label")
    return steps.names


def state(path: Path) -> tuple[Any, ...]:
    with sqlstore.open(path) as store:
        notes = store.blobs("note").to_pylist()
        return notes, store.to_arrow().to_pylist(), store.schema.columns


@pytest.mark.parametrize("what", ["update", "replace", "delete", "drop", "index"])
def test_an_edit_that_is_killed_has_happened_or_has_not(tmp_path: Path, what: str) -> None:
    path = new_store(tmp_path / "s", 8)
    before = state(path)
    whole = shutil.copytree(path, tmp_path / "whole")
    with Child(edit_killed, whole, what, None) as child:
        names = child.result()
    after = state(whole)
    assert before != after
    found = set()
    # Some of the moments, and others for each kind of edit: all of them take minutes.
    for moment in {*range(len(what) % 12, len(names), 12), len(names) - 1}:
        copy = shutil.copytree(path, tmp_path / f"killed {moment}")
        with Child(edit_killed, copy, what, moment) as child, pytest.raises(EOFError):
            child.result()
        with sqlstore.open(copy, "a") as store:
            store.extend([{"n": 100, "needed": 1}])
            store[-1:].delete()
        then = state(copy)
        assert then in (before, after), names[moment]
        found.add(then == after)
        assert_edited(copy)
        shutil.rmtree(copy)
    assert found == {False, True}
