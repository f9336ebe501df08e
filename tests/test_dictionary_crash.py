"""Writers that are killed at any step of the commits of a dictionary and of what follows it."""

from __future__ import annotations

import os
import shutil
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import sqlstore
from sqlstore.index.engine import Index
from tests.processes import COMMIT_STEPS, Child, Steps, kill_self, run
from tests.small_records import (
    ENOUGH,
    append,
    check,
    compressions,
    dictionaries,
    new_store,
    records_of,
)

PARTS = 2
FIRST = 20
"""Records that were there before, too few to train a dictionary with."""


def commit_with_dictionaries(
    _: Connection, path: Path, note: Path, kill_at: int | str | None
) -> list[str]:
    """Commit records that are worth a dictionary, killed at a step, and return the steps."""
    steps = Steps(kill_self, kill_at)
    # Not every statement of SQLite: `tests/test_crash.py` dies at each of them.
    seams = [seam for seam in COMMIT_STEPS if seam[1] not in ("run", "truncate")]
    with (
        sqlstore.open(path, "a") as store,
        store.writer() as writer,
        steps.around(*seams, (Index, "commit")),
    ):
        writer.extend(records_of(FIRST, FIRST + ENOUGH, ["line"]))
        writer.commit()
        descriptor = os.open(note, os.O_WRONLY | os.O_CREAT)
        os.close(descriptor)
    return steps.names


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = new_store(
        tmp_path_factory.mktemp("template") / "s", ["line"], chunk_size=32 * sqlstore.KiB
    )
    append(path, 0, FIRST, ["line"])
    return path


def test_the_steps_are_those_of_two_commits(template: Path, tmp_path: Path) -> None:
    path = shutil.copytree(template, tmp_path / "s")
    names = run(commit_with_dictionaries, path, tmp_path / "note", None)
    assert names.count("after sync_data chunk") == names.count("after commit") == 2
    assert len(dictionaries(path)) == 1


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_any_step_while_a_dictionary_is_committed(
    template: Path, tmp_path: Path, part: int
) -> None:
    whole = shutil.copytree(template, tmp_path / "whole")
    steps = run(commit_with_dictionaries, whole, tmp_path / "note", None)
    survivors = []
    # Before one step is after the one before it.
    chosen = ("after ", "in write_at chunk")
    moments = [i for i, name in enumerate(steps) if name.startswith(chosen)]
    for number in moments[part :: 3 * PARTS]:
        path, note = tmp_path / f"store-{number}", tmp_path / f"note-{number}"
        shutil.copytree(template, path)
        with Child(commit_with_dictionaries, path, note, number) as child:
            assert child.exit_code() == -signal.SIGKILL
        with sqlstore.open(path) as store:
            there = list(store.to_arrow()["n"].to_pylist())
        assert len(there) == FIRST + ENOUGH or not note.exists()
        append(path, FIRST + ENOUGH, FIRST + 2 * ENOUGH, ["line"])
        with sqlstore.open(path) as store:
            after = list(store.to_arrow()["n"].to_pylist())
        settled = len(after) == FIRST + 2 * ENOUGH
        start = FIRST if settled else FIRST + ENOUGH
        expected = [*range(FIRST), *range(start, FIRST + 2 * ENOUGH)]
        assert after == expected
        check(path, expected)
        # What came through is used and not trained again; no number is given twice.
        assert [row["number"] for row in dictionaries(path)] == [0]
        assert set(compressions(path)[FIRST:]) == {"dictionary 0"}
        before = dictionaries(path)
        (path / "index.sqlite").unlink()
        sqlstore.rebuild(path)
        assert dictionaries(path) == before
        survivors.append(settled)
        shutil.rmtree(path)
    # Once a commit exists, no later moment of dying makes it not exist.
    assert survivors == sorted(survivors)
    assert set(survivors) == {False, True}


def test_a_dictionary_that_was_never_in_the_index_is_rolled_forward(
    template: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(template, tmp_path / "s")
    with Child(commit_with_dictionaries, path, tmp_path / "note", "after sync_file chunk") as child:
        assert child.exit_code() == -signal.SIGKILL
    assert dictionaries(path) == []
    append(path, FIRST, FIRST + 2, ["line"])
    # The writer began before it was settled, and so the values are not compressed with it.
    assert [row["number"] for row in dictionaries(path)] == [0]
    append(path, FIRST + 2, FIRST + 4, ["line"])
    assert compressions(path)[-2:] == ["dictionary 0"] * 2
    check(path, list(range(FIRST + 4)))
