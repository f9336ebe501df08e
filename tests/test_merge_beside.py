"""Merges while others change the target or the sources, and of sources in strange places."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sqlstore
from sqlstore.merging import merge as merging
from tests.merge_programs import record_of, write
from tests.small_records import ENOUGH, check, dictionaries
from tests.small_records import append as append_lines
from tests.small_records import new_store as new_lines


def names_in(path: Path) -> list[str]:
    with sqlstore.open(path) as store:
        report = store.verify()
        assert report, report
        names: list[str] = store.to_arrow()["name"].to_pylist()
        return names


def names_of(writer: int, numbers: range) -> list[str]:
    return [record_of(writer, number)["name"] for number in numbers]


def once(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]) -> None:
    """Do something inside of the next merge, behind a function of it."""
    real, waiting = getattr(merging, name), [act]

    def overtaken(*arguments: Any, **named: Any) -> Any:
        found = real(*arguments, **named)
        if waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(merging, name, overtaken)


def test_a_dictionary_that_another_writer_commits_meanwhile_takes_no_value_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = new_lines(tmp_path / "s"), new_lines(tmp_path / "all")
    append_lines(source, 0, ENOUGH)
    once(monkeypatch, "_add_columns", lambda: append_lines(target, ENOUGH, 2 * ENOUGH))
    sqlstore.merge(target, source)
    check(target, [*range(ENOUGH, 2 * ENOUGH), *range(ENOUGH)])
    numbers = [row["number"] for row in dictionaries(target)]
    assert numbers == list(range(len(numbers)))


def append_more(source: Path) -> None:
    with sqlstore.open(source, "a") as store:
        store.extend([record_of(0, 7)])


def add_column(source: Path) -> None:
    with sqlstore.open(source, "a") as store:
        store.add_column("more", "int8")


def rebuild(source: Path) -> None:
    sqlstore.rebuild(source)


def forget(source: Path) -> None:
    shutil.rmtree(source / "cache")


def delete_some(source: Path) -> None:
    with sqlstore.open(source, "a") as store:
        store[2:3].delete()


@pytest.mark.parametrize("change", [append_more, add_column, delete_some, rebuild, forget])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "there"])
def test_what_becomes_of_a_source_meanwhile_does_not_come_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], is_new: bool
) -> None:
    source, target = write(tmp_path / "s", 0, 5), tmp_path / "all"
    expected = [] if is_new else names_of(1, range(2))
    if not is_new:
        write(target, 1, 2)
    once(monkeypatch, "_kept", lambda: change(source))
    sqlstore.merge(target, source)
    assert names_in(target) == [*expected, *names_of(0, range(5))]


def test_a_source_may_lie_inside_of_the_target_and_is_not_changed(tmp_path: Path) -> None:
    target = write(tmp_path / "all", 1, 2)
    source = write(target / "parts" / "s", 0, 3)
    before = {path.name: path.read_bytes() for path in (source / "chunks").iterdir()}
    sqlstore.merge(target, source)
    assert names_in(target) == [*names_of(1, range(2)), *names_of(0, range(3))]
    assert {path.name: path.read_bytes() for path in (source / "chunks").iterdir()} == before


def test_sources_of_all_histories_are_merged(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", 2, 0)
    gone = write(tmp_path / "gone", 3, 4)
    edited = write(tmp_path / "edited", 4, 6)
    with sqlstore.open(gone, "a") as store:
        store[:].delete()
    with sqlstore.open(edited, "a") as store:
        store[:3].save("first")
        store.snapshot("v1")
        store[1:2].delete()
    sqlstore.merge(tmp_path / "all", empty, gone, edited)
    expected = [name for name in names_of(4, range(6)) if name != record_of(4, 1)["name"]]
    assert names_in(tmp_path / "all") == expected
    done = sqlstore.merge(tmp_path / "nothing", empty, gone)
    assert (done.counts, done.ids.tolist()) == ((0, 0), [])
    assert names_in(tmp_path / "nothing") == []


def test_many_sources_need_few_descriptors(tmp_path: Path) -> None:
    sources = [write(tmp_path / f"s{number}", number, 1) for number in range(30)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 30, before[1]))
    try:
        for skipped in (0, 30):  # into a new store, and into one that is there
            done = sqlstore.merge(tmp_path / "all", *sources, on_duplicate="skip")
            assert (len(done.ids), done.skipped) == (30 - skipped, skipped)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
