"""The steps of a read: all of them together are what the library does, and give what it gives."""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sqlstore
from benchmarks.data import make
from benchmarks.measure import formatted
from benchmarks.reading import ladder as ladder_module
from benchmarks.reading import rungs, steps
from benchmarks.reading.ladder import RANDOM, SAME, Loop, Records, Timings
from benchmarks.reading.rungs import FIELD, Rung
from sqlstore.cache import locations

COUNT = 300
POSITIONS = np.random.default_rng(0).integers(0, COUNT, 40)


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: 0)  # for all that other tests have in memory


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    folder = tmp_path_factory.mktemp("steps")
    with sqlstore.create(folder / "store", fields={FIELD: "bytes"}) as made:
        made.extend([{FIELD: row[0]} for row in make(COUNT, 100, "random").rows])
        made.blobs(FIELD)  # from here on all of them have been checked
        yield made


def functions_called(read: Callable[..., Any], *arguments: Any, **options: Any) -> list[str]:
    """Return what a read calls: the names of functions written in C, "" for others."""
    called: list[str] = []

    def watch(_frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            called.append("" if event == "call" else argument.__qualname__)

    sys.setprofile(watch)
    try:
        read(*arguments, **options)
    finally:
        sys.setprofile(None)
    return called[:-1]  # without that of `sys.setprofile`


def functions_of_numpy(read: Callable[..., Any], *arguments: Any, **options: Any) -> list[str]:
    """Return the functions of NumPy that a read calls; what is around them does not count."""
    called = functions_called(read, *arguments, **options)
    return [name for name in called if name.startswith("nd") or hasattr(np, name or "no name")]


def test_the_steps_of_a_single_read_give_what_raw_gives(store: sqlstore.Store) -> None:
    *_, row, checked, sliced, copied, whole = rungs.single(store)
    table = rungs.values_of(store)._table
    for record in POSITIONS.tolist():
        expected = store.raw(record, FIELD)
        assert whole.read(record, FIELD) == copied.read(record, FIELD) == expected
        assert bytes(sliced.read(record, FIELD)) == expected
        offset = table[record, locations.OFFSET]
        assert row.read(record, FIELD) == checked.read(record, FIELD) == offset


def test_the_steps_of_a_single_read_are_those_of_raw(store: sqlstore.Store) -> None:
    called = [functions_called(rung.read, 5, FIELD) for rung in rungs.single(store)]
    assert called[-1] == functions_called(store.raw, 5, FIELD)
    assert_each_goes_on(called)
    assert "memoryview.tobytes" in called[-1]


def test_the_steps_of_a_single_read_are_for_what_has_been_checked(store: sqlstore.Store) -> None:
    with sqlstore.open(store.path) as unread:
        *_, checked, sliced, copied, whole = rungs.single(unread)
        given = [rung.read(COUNT - 1, FIELD) for rung in (checked, sliced, copied, whole)]
    assert given == [None] * 4


@pytest.mark.parametrize(("ladder", "copy"), [(rungs.views, False), (rungs.copies, True)])
def test_the_steps_of_a_batch_are_those_of_blobs(
    store: sqlstore.Store, ladder: Callable[[sqlstore.Store], list[Rung]], copy: bool
) -> None:
    called = [functions_of_numpy(rung.read, POSITIONS) for rung in ladder(store)]
    assert called[-1] == functions_of_numpy(store.blobs, FIELD, POSITIONS, copy=copy)
    assert_each_goes_on(called)
    assert len(called[-1]) > 5


def assert_each_goes_on(called: list[list[str]]) -> None:
    """Check that every rung calls what the one before it calls, and then perhaps more."""
    for some, more in itertools.pairwise(called):
        assert more[: len(some)] == some


def test_the_steps_of_a_batch_give_what_blobs_gives(store: sqlstore.Store) -> None:
    *_, prefixes, views = rungs.views(store)
    expected = store.blobs(FIELD, POSITIONS, copy=False)
    assert views.read(POSITIONS).equals(expected)
    assert prefixes.read(POSITIONS).tobytes() == expected.buffers()[1].to_pybytes()

    *_, gathered, copied = rungs.copies(store)
    expected = store.blobs(FIELD, POSITIONS)
    assert copied.read(POSITIONS).equals(expected)
    assert gathered.read(POSITIONS).tobytes() == expected.buffers()[2].to_pybytes()


def test_the_steps_of_a_batch_are_for_what_has_been_checked(store: sqlstore.Store) -> None:
    with sqlstore.open(store.path) as unread, pytest.raises(ValueError, match="checked"):
        rungs.views(unread)[-1].read(POSITIONS)


def test_what_is_the_same_does_not_share_byte_code() -> None:
    mine = rungs.own(steps.loop_plain)
    assert mine.__code__ == steps.loop_plain.__code__
    assert mine.__code__ is not steps.loop_plain.__code__


def test_the_same_few_are_read_as_often_as_all() -> None:
    records, random = Records(1000, 64), np.random.default_rng(0)
    assert sorted(records.one_by_one(RANDOM, random)) == list(range(1000))
    few = records.one_by_one(SAME, random)
    assert (len(few), len(set(few))) == (1000, 64)
    every = records.in_batches(RANDOM, random)
    assert [len(batch) for batch in every] == [64] * 15
    assert len(set(np.concatenate(every).tolist())) == 15 * 64
    first, *others = records.in_batches(SAME, random)
    assert len(others) == 14
    assert all(other is first for other in others)


def test_steps_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(ladder_module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def takes(microseconds: float) -> Loop:
        def loop(calls: Iterable[object]) -> None:
            clock[0] += 1e-6 * sum(microseconds for _ in calls)

        return loop

    timings = Timings(lambda kind, _random: [kind] * 10)
    timings.add_ladder("x", {"one": takes(1), "two": takes(1.5), "all": takes(4)})
    timings.add("y", takes(3))
    timings.add_first("z", takes(5), lambda: None)
    timings.measure(2)
    assert timings.table("x", ["one", "two", "all"]) == formatted(
        ["step", "us", "so far", "the same few: us"],
        [
            ["one", "1.00", "1.00", "1.00"],
            ["two", "0.50", "1.50", "0.50"],
            ["the rest", "2.50", "4.00", "2.50"],
            ["all", "4.00", "", "4.00"],
        ],
    )
    assert timings.compared(2) == formatted(
        ["", "us", "fastest - slowest", "the same few: us", "us per record"],
        [["y", "3.00", "3.00 - 3.00", "3.00", "1.50"], ["z", "5.00", "5.00 - 5.00", "", "2.50"]],
    )


def test_the_command_prints_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steps.main(["--folder", str(tmp_path), "--records", "256", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert rows.count("the rest") == 3
    for name in (steps.RAW, steps.VIEWS, steps.COPIES):
        assert rows.count(name) == 2  # at the end of its ladder, and for comparison
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--records", "255"]])
def test_options_that_make_no_sense_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        steps.main(wrong)
