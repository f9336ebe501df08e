"""`sqlstore.build`: each item once, whatever happens on the way."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import sqlstore
from sqlstore.ingest.tasks import Entry
from sqlstore.ingest.work import Job, Worker
from sqlstore.processes import FIRST, MOST
from tests.ingest_programs import (
    COUNT,
    FATAL,
    METADATA,
    build,
    deflate,
    destroy_index,
    inflate,
    interrupt_self,
    read,
    read_but_some,
    read_text,
    read_unless_killed,
)
from tests.processes import COMMIT_STEPS, Child, Steps, kill_self, run

FORKSERVER: dict[str, Any] = {"workers": 3, "start_method": "forkserver"}
WAYS = [{"workers": 1}, FORKSERVER]


def assert_holds(path: Path, items: Any = range(COUNT)) -> None:
    """Check that a store holds the records of these items, each once, and is sound."""
    with sqlstore.open(path) as store:
        assert sorted(store.to_arrow()["n"].to_pylist()) == list(items)
        assert all(record == read(record["n"]) for record in store)
        report = store.verify()
    assert report, report


@pytest.mark.parametrize("way", [*WAYS, {"workers": 2}], ids=["here", "forkserver", "spawn"])
def test_every_item_is_stored_once(tmp_path: Path, way: dict[str, Any]) -> None:
    report = build(tmp_path / "s", items=(n for n in range(COUNT)), **way)
    assert report == sqlstore.BuildReport(stored=COUNT)
    assert_holds(tmp_path / "s")
    assert build(tmp_path / "s", **way) == sqlstore.BuildReport(skipped=COUNT)
    assert str(build(tmp_path / "s", items=range(COUNT + 2), **way)) == (
        f"2 stored, {COUNT} there already"
    )
    assert_holds(tmp_path / "s", range(COUNT + 2))


def test_one_worker_keeps_the_order(tmp_path: Path) -> None:
    build(tmp_path / "s", items=range(COUNT - 1, -1, -1))
    with sqlstore.open(tmp_path / "s") as store:
        assert store.to_arrow()["n"].to_pylist() == list(range(COUNT - 1, -1, -1))


def test_what_is_there_is_not_read(tmp_path: Path) -> None:
    asked: list[int] = []

    def remember(n: int) -> dict[str, Any]:
        asked.append(n)
        return read(n)

    build(tmp_path / "s", items=range(0, COUNT, 2))
    build(tmp_path / "s", remember)
    assert asked == list(range(1, COUNT, 2))
    assert_holds(tmp_path / "s")


@pytest.mark.parametrize("way", WAYS, ids=["here", "forkserver"])
def test_without_key_of_the_record_tells_the_key(tmp_path: Path, way: dict[str, Any]) -> None:
    build(tmp_path / "s", items=range(100))
    items = [*range(50, 150), 50, 149]
    report = build(tmp_path / "s", items=items, key_of=None, **way)
    assert (report.stored, report.skipped, report.repeated) == (50, 51, 1)
    assert_holds(tmp_path / "s", range(150))


def test_a_record_may_leave_its_key_to_key_of(tmp_path: Path) -> None:
    build(tmp_path / "s", lambda n: {"name": f"item {n}"}, items=[3, 4])
    with sqlstore.open(tmp_path / "s") as store:
        assert store.get(key=4)["name"] == "item 4"


def test_items_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    taken = done = furthest = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    def count(n: int) -> dict[str, Any]:
        nonlocal done, furthest
        done += 1
        furthest = max(furthest, taken - done)
        if n == 3 * MOST:
            raise KeyboardInterrupt
        return {"n": n}

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "s", count, items=endless())
    assert FIRST <= furthest <= MOST


@pytest.mark.parametrize("way", WAYS, ids=["here", "forkserver"])
def test_a_failure_stops_and_names_its_item(tmp_path: Path, way: dict[str, Any]) -> None:
    with pytest.raises(sqlstore.ItemError, match=r"no such thing as \d*3 \(item \d*3\)") as caught:
        build(tmp_path / "s", read_but_some, items=[n for n in range(COUNT) if n % 10 < 9], **way)
    assert "in read_but_some" in caught.value.__notes__[0]
    build(tmp_path / "s", **way)
    assert_holds(tmp_path / "s")


@pytest.mark.parametrize("way", WAYS, ids=["here", "forkserver"])
def test_failures_are_listed_and_passed(tmp_path: Path, way: dict[str, Any]) -> None:
    report = build(tmp_path / "s", read_but_some, on_error="skip", items=range(100), **way)
    assert not report
    assert (report.stored, report.dropped, len(report.failed)) == (70, 10, 20)
    messages = {one.item: one.message for one in report.failed}
    assert messages["13"] == "UnpicklableError: no such thing as 13"
    assert messages["19"] == "SchemaError: expected a string, got int 19 (column name)"
    assert "failed" in str(report)
    assert_holds(tmp_path / "s", [n for n in range(100) if n % 10 not in (3, 7, 9)])


@pytest.mark.parametrize(
    ("record", "key_of", "message"),
    [
        ([1], int, "TypeError: expected a mapping or None, got list"),
        ({"n": 8}, int, "SchemaError: the record has the key 8, the item 7"),
        ({"name": "x"}, None, "SchemaError: the record has no n, which is the key"),
        ({}, lambda _: None, "ValueError: the key of an item is not None"),
        ({}, lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
        ({"nonsense": 1}, int, "UnknownNameError: no field or metadata column is named"),
    ],
)
def test_what_is_no_record_of_its_item(
    tmp_path: Path, record: Any, key_of: Any, message: str
) -> None:
    def make(_: int) -> Any:
        return record

    report = build(tmp_path / "s", make, items=[7], key_of=key_of, on_error="skip")
    (failed,) = report.failed
    assert failed.item == "7"
    assert failed.message.startswith(message)
    with pytest.raises(sqlstore.ItemError, match=r"\(item 7\)"):
        build(tmp_path / "s", make, items=[7], key_of=key_of)


def test_a_key_that_comes_again_is_one_item(tmp_path: Path) -> None:
    report = build(tmp_path / "s", items=[*range(COUNT), *range(COUNT), 5, 5])
    assert (report.stored, report.repeated, report.skipped) == (COUNT, COUNT + 2, 0)
    assert_holds(tmp_path / "s")


@pytest.mark.parametrize("commit_records", [4, 100])
def test_records_that_others_store_meanwhile_are_left_to_them(
    tmp_path: Path, commit_records: int
) -> None:
    path = tmp_path / "s"
    build(path, items=[])

    def overtaken(n: int) -> dict[str, Any]:
        if n == 5:
            with suppress(sqlstore.DuplicateKeyError), sqlstore.open(path, "a") as other:
                other.extend(map(read, (2, 6, 9)))
        return read(n)

    job = Job(str(path), overtaken, False, 0, None, False)
    entries = [Entry(n, n) for n in range(20)]
    with job.open() as store, store.writer(commit_records=commit_records) as writer:
        outcome = Worker(job, store, writer).run(entries)
    assert (outcome.stored, outcome.repeated) == (17, 3) if commit_records == 100 else (18, 2)
    assert_holds(path, range(20))


@pytest.mark.parametrize("way", WAYS, ids=["here", "forkserver"])
def test_an_error_of_the_store_is_no_error_of_an_item(tmp_path: Path, way: dict[str, Any]) -> None:
    read_fn = partial(destroy_index, str(tmp_path / "s"))
    with pytest.raises(sqlstore.CorruptIndexError):
        build(tmp_path / "s", read_fn, on_error="skip", items=[1], **way)


def test_encodings_of_ones_own_go_along(tmp_path: Path) -> None:
    options: dict[str, Any] = {"fields": {"text": "own"}, "metadata": {"n": "int8"}}
    encodings = {"own": (deflate, inflate)}
    build(tmp_path / "s", read_text, items=[1, 2], encodings=encodings, **FORKSERVER, **options)
    with sqlstore.open(tmp_path / "s", encodings=encodings) as store:
        assert store.get(key=2) == {"text": "text 2", "n": 2}


# How builds end


def test_a_worker_that_dies_is_told_with_its_item(tmp_path: Path) -> None:
    with pytest.raises(sqlstore.ItemError, match=rf"killed by signal 9.* \(item {FATAL}\)"):
        build(tmp_path / "s", read_unless_killed, on_error="skip", **FORKSERVER)
    build(tmp_path / "s", **FORKSERVER)
    assert_holds(tmp_path / "s")


@pytest.mark.parametrize(
    ("workers", "end"),
    [(2, "kill -9 of the parent"), (2, "Ctrl-C for the parent"), (1, "kill -9")],
)
def test_a_build_goes_on_where_another_was_ended(tmp_path: Path, workers: int, end: str) -> None:
    path = tmp_path / "s"
    command = [sys.executable, "-m", "tests.ingest_programs", str(path), str(workers), end]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE, text=True, check=False
    )
    number = signal.SIGINT if end.startswith("Ctrl-C") else signal.SIGKILL
    assert done.returncode == -number, done.stderr
    assert done.stderr.count("KeyboardInterrupt") <= 1, done.stderr  # workers say nothing
    with sqlstore.open(path) as store:
        before = len(store)
    assert FIRST <= before <= COUNT  # all, if the workers were quick
    report = build(path)
    # Workers whose owner was killed finish their task, so some may have been stored meanwhile.
    assert report.skipped >= before
    assert report.stored + report.repeated + report.skipped == COUNT
    assert_holds(path)


def test_ctrl_c_leaves_what_was_committed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "s", interrupt_self)
    assert build(tmp_path / "s").skipped >= FIRST
    assert_holds(tmp_path / "s")


def build_killed(_: Connection, path: Path, kill_at: int | None = None) -> list[str]:
    """Build a store, killed at one of the steps of its commits, and return the steps."""
    steps = Steps(kill_self, kill_at)
    with steps.around(*COMMIT_STEPS):
        build(path, items=range(40))
    return steps.names


def test_killed_at_any_step_of_a_commit_it_goes_on(tmp_path: Path) -> None:
    build(tmp_path / "whole", items=[])
    steps = run(build_killed, tmp_path / "whole")
    assert len(steps) > 20
    for at in range(0, len(steps), max(len(steps) // 4, 1)):
        path = tmp_path / str(at)
        build(path, items=[])
        with Child(build_killed, path, at) as child:
            assert child.exit_code() == -signal.SIGKILL
        build(path, items=range(40))
        assert_holds(path, range(40))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_and_nowhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "s", items=range(10))
    assert capsys.readouterr() == ("", "")
    with pytest.MonkeyPatch.context() as patch:
        terminal = Terminal()
        patch.setattr(sys, "stderr", terminal)
        build(tmp_path / "s")
        shown = terminal.getvalue()
    assert "storing" in shown
    assert f"/{COUNT} " in shown


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "0 workers"),
        ({"on_error": "ignore"}, "'ignore'"),
        ({"start_method": "fork"}, "'fork'"),
    ],
)
def test_wrong_usage(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_a_script_that_is_not_guarded_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sqlstore\n"
        "sqlstore.build([1], int, 's', key='n', metadata={'n': 'int8'}, workers=2)\n"
    )
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a worker process did not start (exit code 1); worker processes import" in done.stderr


def test_a_function_that_cannot_travel_is_told(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="functions of a module"):
        build(tmp_path / "s", lambda n: {"n": n}, **FORKSERVER)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": {"payload": "utf8"}}, "'payload' .*bytes.*asks for 'payload' .*utf8"),
        ({"compression": "zstd"}, "compression lz4.*compression zstd"),
        ({"fields": {}}, "it has 'payload'.*asks for no 'payload'"),
        ({"metadata": {**METADATA, "more": "int8"}}, "it has no 'more'"),
        ({"metadata": {"n": "int64", "name": "json"}}, "'name' .column 1, string, nullable"),
        ({"metadata": {"name": "string", "n": "int64"}}, "column 1"),
        ({"key": "name"}, "its key is n, not name"),
        ({"key": "name", "fields": None, "metadata": None}, "its key is n, not name"),
    ],
)
def test_a_store_that_was_made_otherwise_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    build(tmp_path / "s", items=[1])
    with pytest.raises(sqlstore.SchemaError, match=rf"made otherwise: .*{message}"):
        build(tmp_path / "s", items=[2], **options)
    assert build(tmp_path / "s", items=[2], fields=None, metadata=None)
    assert_holds(tmp_path / "s", [1, 2])


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(sqlstore.NotAStoreError):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
