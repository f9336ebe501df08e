"""Columns that a function computes: each value once, whatever happens on the way."""

from __future__ import annotations

import datetime as dt
import io
import math
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sqlstore
from sqlstore import computing
from tests.compute_programs import (
    COUNT,
    FATAL,
    called,
    compute,
    double_as_numpy,
    double_but_one,
    double_noting,
    given_names,
    new_store,
)
from tests.edited import assert_edited

FORKSERVER: dict[str, Any] = {"workers": 2, "start_method": "forkserver"}
WAYS = [{"workers": 1}, FORKSERVER]


def values(path: Path, name: str = "twice") -> list[Any]:
    with sqlstore.open(path) as store:
        found: list[Any] = store.to_arrow()[name].to_pylist()
    return found


@pytest.mark.parametrize("way", WAYS, ids=["here", "forkserver"])
def test_every_record_gets_its_value(tmp_path: Path, way: dict[str, Any]) -> None:
    path = new_store(tmp_path / "s", 500)
    with sqlstore.open(path, "a") as store:
        store[100:103].delete()
        store.add_column("twice", "int64", double_as_numpy, **way)
        left = [n for n in range(500) if n not in (100, 101, 102)]
        assert store.to_arrow()["twice"].to_pylist() == [2 * n for n in left]
        assert store.where("twice = 998").ids.tolist() == [499]
    assert_edited(path)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (None, "note,n,label"),
        (("label", "id"), "id,label"),
        ("note", "note"),
        ((), ""),
    ],
)
def test_the_function_is_given_what_is_selected(tmp_path: Path, select: Any, expected: str) -> None:
    path = new_store(tmp_path / "s", 3)
    for _ in range(2):
        with sqlstore.open(path, "a") as store:
            store.add_column("names", "string", given_names, select=select)
            assert store.to_arrow()["names"].to_pylist() == [expected] * 3
            store[1:2].update(names=None)


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s", 50)
    asked: list[int] = []

    def ask(record: dict[str, Any]) -> float | None:
        asked.append(record["n"])
        return None if record["n"] % 10 == 3 else math.nan if record["n"] == 4 else record["n"]

    with sqlstore.open(path, "a") as store:
        store.add_column("x", "float32", ask)
        assert asked == list(range(50))
        asked.clear()
        store.extend([{"n": 50}, {"n": 53}])
        store.add_column("x", "float32", ask)
        assert asked == [3, 13, 23, 33, 43, 50, 53]  # NaN is a value
        assert store.to_arrow()["x"].null_count == 6
        with pytest.raises(sqlstore.SchemaError, match="it is float32, not int8"):
            store.add_column("x", "int8", ask)
    assert_edited(path)


def test_a_column_that_another_process_has_begun_is_gone_on_with(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s", 5)
    with sqlstore.open(path, "a") as store:
        with sqlstore.open(path, "a") as other:
            other.add_column("x", "int64")
            other[:3].update(x=7)
            other.extend([{"n": 5}])
        store.add_column("x", "int64", lambda record: record["n"])
        assert store.to_arrow()["x"].to_pylist() == [7, 7, 7, 3, 4, 5]


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("bool", np.True_),
        ("json", {"a": [1, None]}),
        ("timestamp[us, UTC]", dt.datetime(2024, 5, 1, tzinfo=dt.UTC)),
        ("date32", dt.date(2024, 5, 1)),
        ("binary", b"x"),
        ("uint64", 2**62),
    ],
)
def test_values_of_every_type_come_back(tmp_path: Path, declared: str, value: Any) -> None:
    with sqlstore.open(new_store(tmp_path / "s", 2), "a") as store:
        store.add_column("x", declared, lambda _: value)
        assert [record["x"] for record in store] == [value] * 2


@pytest.mark.parametrize("way", WAYS, ids=["here", "forkserver"])
def test_a_failure_names_the_record_and_what_was_computed_stays(
    tmp_path: Path, way: dict[str, Any]
) -> None:
    path = new_store(tmp_path / "s")
    with sqlstore.open(path, "a") as store:
        with pytest.raises(sqlstore.ItemError, match=rf"thing as {FATAL} \(record {FATAL}\)") as e:
            store.add_column("twice", "int64", double_but_one, select=("n",), **way)
        assert "in double_but_one" in e.value.__notes__[0]
        seen = store.to_arrow()["twice"].to_pylist()  # without a refresh
    there = [n for n, value in enumerate(seen) if value is not None]
    assert len(there) >= 1000
    assert FATAL not in there
    if way["workers"] == 1:
        assert there == list(range(FATAL))
    calls = tmp_path / "calls"
    compute(path, partial(double_noting, calls=str(calls)))
    assert called(calls) == sorted(set(range(COUNT)) - set(there))
    assert values(path) == [2 * n for n in range(COUNT)]
    assert_edited(path)


@pytest.mark.parametrize("value", ["text", 2**40, 1.5, [1], object()])
def test_a_value_that_does_not_fit_names_the_record(tmp_path: Path, value: Any) -> None:
    path = new_store(tmp_path / "s", 40)
    with sqlstore.open(path, "a") as store:
        with pytest.raises(
            sqlstore.SchemaError, match=r"does not fit.*\(column x, record 20\)"
        ) as caught:
            store.add_column("x", "int32", lambda record: value if record["n"] == 20 else 1)
        assert caught.value.where == {"column": "x", "record": 20}
        assert store.to_arrow()["x"].to_pylist() == [1] * 20 + [None] * 20


def test_an_error_of_the_store_is_no_error_of_the_function(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s", 40)
    (chunk,) = path.glob("chunks/*")
    data = chunk.read_bytes()
    chunk.write_bytes(data.replace(b"note 20", b"note xx", 1))
    with sqlstore.open(path, "a") as store:
        with pytest.raises(sqlstore.ChecksumError, match="record 20"):
            store.add_column("x", "int8", lambda _: 1, select=("note",))
        assert 0 < store.to_arrow()["x"].null_count < 40


def test_long_work_is_committed_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = new_store(tmp_path / "s", 12)  # less than one task
    monkeypatch.setattr(computing, "_SECONDS", 0.0)

    def interrupted(record: dict[str, Any]) -> int:
        if record["n"] == 7:
            with sqlstore.open(path) as other:
                assert other.to_arrow()["twice"].null_count == 5
            raise KeyboardInterrupt
        return int(record["n"])

    with pytest.raises(KeyboardInterrupt):
        compute(path, interrupted)
    assert values(path) == [*range(7), *[None] * 5]


# How runs end


@pytest.mark.parametrize(
    ("workers", "end"),
    [
        (1, "killed"),
        (2, "killed with its parent"),
        (2, "interrupted as its parent"),
    ],
)
def test_it_goes_on_where_another_run_was_ended(tmp_path: Path, workers: int, end: str) -> None:
    path, first, second = new_store(tmp_path / "s"), tmp_path / "first", tmp_path / "second"
    command = [sys.executable, "-m", "tests.compute_programs", str(path), str(workers), end]
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [*command, str(first)], cwd=root, stderr=subprocess.PIPE, text=True, check=False
    )
    number = signal.SIGINT if end.startswith("interrupted") else signal.SIGKILL
    assert done.returncode == -number, done.stderr
    assert done.stderr.count("KeyboardInterrupt") <= 1, done.stderr  # workers say nothing
    there = sum(value is not None for value in values(path))
    assert 1000 <= there < COUNT
    compute(path, partial(double_noting, calls=str(second)))
    again = called(second)
    assert len(set(again)) == len(again) <= COUNT - there
    # Workers whose owner was killed finish their task, so there may be more than was seen.
    assert len(again) == COUNT - there or end == "killed with its parent"
    assert set(again) | set(called(first)) == set(range(COUNT))
    assert values(path) == [2 * n for n in range(COUNT)]
    assert_edited(path)


def test_a_worker_that_dies_is_told_with_its_record(tmp_path: Path) -> None:
    path, calls = new_store(tmp_path / "s"), str(tmp_path / "calls")
    with pytest.raises(sqlstore.ItemError, match=rf"killed by signal 9.*\(record {FATAL}\)"):
        compute(path, partial(double_noting, calls=calls, end="killed"), **FORKSERVER)
    compute(path)
    assert values(path) == [2 * n for n in range(COUNT)]


def test_records_that_are_deleted_meanwhile_end_it_with_an_error(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s", 40)

    def delete(record: dict[str, Any]) -> int:
        if record["n"] == 20:
            with sqlstore.open(path, "a") as other:
                other[17:18].delete()
        return int(record["n"])

    with pytest.raises(sqlstore.RecordNotFoundError, match="choose them anew"):
        compute(path, delete)
    compute(path)
    assert values(path)[:18] == [*range(16), 32, 36]
    assert_edited(path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = new_store(tmp_path / "s", 100)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    compute(path)
    assert "computing" in terminal.getvalue()
    assert "/100 " in terminal.getvalue()


# What is refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workers": 0}, ValueError, "0 workers"),
        ({"workers": 2, "start_method": "fork"}, ValueError, "'fork'"),
        ({"workers": 2}, TypeError, "functions of a module"),
        ({"select": ("nn",)}, sqlstore.UnknownNameError, "'nn'"),
        ({"select": ("x",)}, sqlstore.UnknownNameError, "'x'"),
        ({"values": 3, "select": ("n",)}, TypeError, "that a function computes"),
        ({"values": 3, "workers": 2}, TypeError, "that a function computes"),
        ({"declared": "float16"}, sqlstore.SchemaError, "float16"),
        ({"name": "note"}, sqlstore.SchemaError, "'note' is there twice"),
    ],
)
def test_wrong_usage_changes_nothing(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"name": "x", "declared": "int64", "values": lambda record: record["n"], **options}
    with sqlstore.open(new_store(tmp_path / "s", 3), "a") as store:
        with pytest.raises(error, match=message):
            store.add_column(**given)
        assert list(store.schema.columns) == ["n", "label"]


def test_a_store_that_was_opened_for_reading_is_not_computed_on(tmp_path: Path) -> None:
    with (
        sqlstore.open(new_store(tmp_path / "s", 3)) as store,
        pytest.raises(sqlstore.ReadOnlyError),
    ):
        store.add_column("x", "int64", lambda record: record["n"])
