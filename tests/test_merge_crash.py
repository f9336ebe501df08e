"""Merges that are killed at every step: the target has all of the records, or is as it was."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import sqlstore
from tests import merge_programs
from tests.merge_programs import record_of, write
from tests.processes import Child, assert_clean, assert_rebuilds_equal, contents, run
from tests.small_records import append, dictionaries, new_store

CASES = int(os.environ.get("SQLSTORE_CASES", "12"))
"""At how many moments a merge is killed; 1000 is at all of them."""


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"source-{writer}", writer, 6) for writer in (1, 2)]


def names_in(path: Path) -> list[str]:
    with sqlstore.open(path) as store:
        names: list[str] = store.to_arrow()["name"].to_pylist()
        return names


def names_of(writer: int, count: int) -> list[str]:
    return [record_of(writer, number)["name"] for number in range(count)]


BEFORE = names_of(0, 4)
ALL = [*BEFORE, *names_of(1, 6), *names_of(2, 6)]


def moments(steps: Sequence[str]) -> list[int]:
    """Return at which steps to kill: the first and the last, and others in between."""
    count = min(CASES, len(steps))
    return [round(i * (len(steps) - 1) / (count - 1)) for i in range(count)]


def around_commits(steps: Sequence[str]) -> list[int]:
    """Return the steps just before and after each COMMIT of SQLite: a trailer is there before."""
    return [i for i, name in enumerate(steps) if "run COMMIT" in name]


def killed(program: Callable[..., Any], *arguments: object) -> None:
    with Child(program, *arguments) as child:
        assert child.exit_code() == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["merge", "adopt"])
def test_a_store_that_is_there_gets_all_records_or_none(
    tmp_path: Path, sources: list[Path], kind: str
) -> None:
    template = write(tmp_path / "template", 0, 4)
    program: Callable[..., Any] = merge_programs.merge
    given = sources
    if kind == "adopt":
        program = merge_programs.adopt
        given = [chunk for source in sources for chunk in sorted(source.glob("chunks/*.chunk"))]
    whole = tmp_path / "whole"
    shutil.copytree(template, whole)
    steps = run(program, whole, given)
    assert names_in(whole) == ALL
    known = list(map(contents, sources))
    before = contents(template)
    survivors = []
    for moment in moments(steps):
        path = tmp_path / f"store-{moment}"
        shutil.copytree(template, path)
        killed(program, path, given, moment)
        if names_in(path) == BEFORE:
            assert contents(path)["metadata"] == before["metadata"]
        with sqlstore.open(path, "a") as store:  # which settles what is pending
            store.extend([record_of(9, 0)])
        *there, last = names_in(path)
        assert last == record_of(9, 0)["name"]
        assert there in (BEFORE, ALL), steps[moment]
        assert_clean(path)
        survivors.append(there == ALL)
        if there == BEFORE:  # the same command does it
            sqlstore.merge(path, *sources)
            assert names_in(path) == [*BEFORE, last, *ALL[4:]]
        shutil.rmtree(path)
    # Once the commit exists, no later moment of dying makes it not exist.
    assert survivors == sorted(survivors)
    assert survivors[0] is False
    assert survivors[-1] is True
    assert list(map(contents, sources)) == known


def test_a_new_store_is_there_as_a_whole_or_not_at_all(tmp_path: Path, sources: list[Path]) -> None:
    steps = run(merge_programs.merge, tmp_path / "whole", sources)
    survivors = []
    for moment in moments(steps):
        path = tmp_path / f"store-{moment}"
        killed(merge_programs.merge, path, sources, moment)
        survivors.append(path.exists())
        if path.exists():
            assert names_in(path) == ALL[4:]
            assert_clean(path)
            assert_rebuilds_equal(path, tmp_path)
        else:
            sqlstore.merge(path, *sources)
            assert names_in(path) == ALL[4:]
    assert survivors == sorted(survivors)
    assert survivors[0] is False
    assert survivors[-1] is True


def test_what_is_appended_in_parts_is_completed_by_the_same_call(
    tmp_path: Path, sources: list[Path]
) -> None:
    template = write(tmp_path / "template", 0, 4)
    whole = tmp_path / "whole"
    shutil.copytree(template, whole)
    options = {"in_parts": True, "on_duplicate": "skip"}
    steps = run(merge_programs.merge, whole, sources, None, options)
    seen = set()
    for moment in [0, *around_commits(steps)]:
        path = tmp_path / f"store-{moment}"
        shutil.copytree(template, path)
        killed(merge_programs.merge, path, sources, moment, options)
        seen.add(len(names_in(path)))
        sqlstore.merge(path, *sources, in_parts=True, on_duplicate="skip")
        assert names_in(path) == ALL
        assert_clean(path)
        shutil.rmtree(path)
    assert seen == {4, 10, 16}


def test_no_more_than_a_dictionary_or_an_empty_column_may_be_there_before(
    trained: Path, tmp_path: Path
) -> None:
    template = new_store(tmp_path / "template", ["line"])
    append(template, 0, 3, ["line"])
    with sqlstore.open(trained) as store:
        store[:20].select("line", "n").export_store(tmp_path / "some")
    with sqlstore.open(tmp_path / "some", "a") as store:
        store.add_column("more", "int8", 5)
    sources, options = [tmp_path / "some"], {"add_missing": True}
    whole = tmp_path / "whole"
    shutil.copytree(template, whole)
    steps = run(merge_programs.merge, whole, sources, None, options)
    expected = contents_of(whole)
    assert len(expected) == 23
    seen = set()
    for moment in [0, *around_commits(steps)]:
        path = tmp_path / f"store-{moment}"
        shutil.copytree(template, path)
        killed(merge_programs.merge, path, sources, moment, options)
        with sqlstore.open(path, "a") as store, store.writer():
            pass  # settles what is pending
        there = contents_of(path)
        assert there in (
            contents_of(template),
            [{**r, "more": None} for r in contents_of(template)],
            expected,
        )
        seen.add((len(there), "more" in there[0], len(dictionaries(path))))
        if len(there) == 3:
            sqlstore.merge(path, *sources, add_missing=True)
        assert contents_of(path) == expected
        assert len(dictionaries(path)) == 1
        assert_clean(path)
        shutil.rmtree(path)
    assert seen == {(3, False, 0), (3, True, 0), (3, True, 1), (23, True, 1)}


def contents_of(path: Path) -> list[dict[str, Any]]:
    with sqlstore.open(path) as store:
        return list(store)
