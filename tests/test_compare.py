"""Named subsets compared: against a plain model, through all that can happen to their members."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlstore
from tests import test_edit_programs as edits
from tests.edited import assert_edited, new_store

PROGRAMS = int(os.environ.get("SQLSTORE_PROGRAMS", "10"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of ten records, whose column `n` is the id."""
    return new_store(tmp_path / "s", 10)


def told(store: sqlstore.Store, first: str, second: str) -> dict[str, Any]:
    """Return all that a comparison says."""
    found = store.compare(first, second)
    assert (found.first, found.second) == (first, second)
    return {
        "only_first": found.only_first.ids.tolist(),
        "only_second": found.only_second.ids.tolist(),
        "both": found.both.ids.tolist(),
        "repeats": found.repeats.tolist(),
        "reordered": found.reordered,
        "deleted": found.deleted.tolist(),
        "changed": (found.first_changed, found.second_changed),
        "differ": bool(found),
    }


def test_what_two_subsets_have_is_told(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.take([7, 2, 5, 0]).save("v1")
        store.take([5, 2, 9]).save("v2")
        found = store.compare("v1", "v2")
        assert [record["n"] for record in found.only_first] == [7, 0]
        assert [record["n"] for record in found.only_second] == [9]
        assert [record["n"] for record in found.both] == [2, 5]
        assert found
        assert found.reordered
        assert str(found).splitlines() == [
            "'v1' and 'v2':",
            "  only in 'v1': 2 records: 7, 0",
            "  only in 'v2': 1 record: 9",
            "  in both: 2 records: 2, 5",
            "  what is in both comes in another order",
            "  'v1' has not changed since it was saved",
            "  'v2' has not changed since it was saved",
        ]
        assert str(store.compare("v1", "v1")).splitlines() == [
            "'v1' and 'v1': the same members",
            "  in both: 4 records: 7, 2, 5, 0",
            "  'v1' has not changed since it was saved",
        ]


def test_what_became_of_the_members_is_told(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[:4].save("low")
        store[3:6].save("middle")
        store[6:].save("high")
        store[5:6].update(label="x")
        store[0:1].delete()
        store.where("n = 3").delete()
        assert told(store, "low", "middle")["deleted"] == [0, 3]
        found = store.compare("low", "middle")
        assert (found.first_changed, found.second_changed) == (None, None)
        assert str(found).splitlines()[-3:] == [
            "  deleted since: 2 records: 0, 3",
            "  'low' has deleted members; whether others have changed is not known",
            "  'middle' has deleted members; whether others have changed is not known",
        ]
        with pytest.raises(sqlstore.RecordNotFoundError, match="record 3"):
            found.both[0]
        assert told(store, "low", "high")["changed"] == (None, False)
        store[-1:].replace("note", ["another"])
        assert told(store, "high", "low")["changed"] == (True, None)
        assert "'high' has changed since" in str(store.compare("high", "low"))
        store[-1:].replace("note", ["note 9"])
        assert told(store, "high", "low")["changed"] == (False, None)
    assert_edited(path)


@pytest.mark.parametrize(
    ("first", "second", "repeats", "reordered"),
    [
        ([], [], [], False),
        ([1, 2], [1, 2], [], False),
        ([1, 2], [2, 1], [], True),
        ([1, 2], [0, 1, 9, 2, 3], [], False),
        ([1, 2], [0, 2, 9, 1, 3], [], True),
        ([1, 2, 1], [1, 1, 2], [], True),
        ([1, 2, 1], [1, 2], [1], False),
        ([1, 2], [2, 1, 1], [1], True),
        ([4, 4, 4, 2, 2], [2, 4, 2], [4], True),
        ([4, 2, 2, 4, 4], [4, 2, 2], [4], False),
        ([], [3, 3], [], False),
    ],
)
def test_order_and_repeats_are_compared(
    path: Path, first: list[int], second: list[int], repeats: list[int], reordered: bool
) -> None:
    with sqlstore.open(path, "a") as store:
        store.take(np.array(first, int)).save("a")
        store.take(np.array(second, int)).save("b")
        for names in (("a", "b"), ("b", "a")):
            found = told(store, *names)
            assert (found["repeats"], found["reordered"]) == (repeats, reordered)
            assert found["differ"] == (first != second)


def test_an_unknown_name_is_refused(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.save("a")
        for names in (("a", "b"), ("b", "a")):
            with pytest.raises(sqlstore.SubsetNotFoundError, match="'b'; there are 'a'"):
                store.compare(*names)
    with pytest.raises(sqlstore.StoreClosedError):
        store.compare("a", "a")


def test_a_snapshot_compares_what_it_shows(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[:5].save("a")
        store[4:].save("b")
        store.snapshot("v1")
        before = told(store, "a", "b")
        store[:1].delete()
        store[-1:].update(n=-1)
        store.drop_subset("a")
    with sqlstore.open(path, snapshot="v1") as store:
        assert told(store, "a", "b") == before
        assert before["changed"] == (False, False)


class Program(edits.Program):
    """The same with subsets: their members, and what those were when it was saved, by name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.saved: dict[str, tuple[list[int], Any]] = {}

    def content(self, ids: list[int]) -> Any:
        if any(record not in self.model for record in ids):
            return None
        columns = list(self.columns.items())
        names = ["note", *self.columns]
        return columns, [[self.model[record][name] for name in names] for record in ids]

    def save(self, given_numbers: list[int]) -> None:
        """Save a subset, which may have records twice, in the place of one of that name."""
        name = f"s{given_numbers[0] % 3}"
        if name in self.saved:
            self.store.drop_subset(name)
        count = len(self.model)
        positions = [number % count for number in given_numbers] if count else []
        ids = [list(self.model)[position] for position in positions]
        self.store.take(np.array(positions, int)).save(name)
        self.saved[name] = ids, self.content(ids)

    def has_changed(self, name: str) -> bool | None:
        ids, was = self.saved[name]
        now = self.content(ids)
        return None if now is None else bool(now != was)

    def check_comparisons(self) -> None:
        for a, (first, _) in self.saved.items():
            for b, (second, _) in self.saved.items():
                shared = Counter(first) & Counter(second)
                assert told(self.store, a, b) == {
                    "only_first": [i for i in dict.fromkeys(first) if i not in second],
                    "only_second": [i for i in dict.fromkeys(second) if i not in first],
                    "both": [i for i in dict.fromkeys(first) if i in second],
                    "repeats": [i for i in sorted(shared) if first.count(i) != second.count(i)],
                    "reordered": in_common(first, shared) != in_common(second, shared),
                    "deleted": sorted({*first, *second} - self.model.keys()),
                    "changed": (self.has_changed(a), self.has_changed(b)),
                    "differ": first != second,
                }


def in_common(ids: list[int], shared: Counter[int]) -> list[int]:
    left, found = shared.copy(), []
    for record in ids:
        if left[record]:
            left[record] -= 1
            found.append(record)
    return found


STEPS = (
    *(Program.append, Program.update, Program.replace, Program.delete, Program.change_columns),
    *(Program.begin_anew, Program.save, Program.save, Program.save),
)


@settings(max_examples=PROGRAMS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(STEPS), edits.numbers), min_size=3, max_size=10))
def test_comparisons_stay_equal_to_their_model(steps: list[tuple[Any, list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = Program(Path(folder) / "s")
        program.append([1, 2, 3, 4, 6, 7])
        program.save([0, 1, 2])
        program.save([4, 2, 1, 1])
        for step, given_numbers in steps:
            step(program, given_numbers)
            program.check_comparisons()
        program.begin_anew([1])  # from the log alone
        program.check_comparisons()
        program.store.close()
        assert_edited(program.store.path)
