"""`sqlstore snapshot`, `snapshots`, `drop-snapshot` and `diff`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sqlstore
from sqlstore.cli import main
from tests.edited import new_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of ten records, whose column `n` is the id."""
    return new_store(tmp_path / "s", 10)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, shown, error = run(capsys, *arguments, "--json")
    assert (code, error) == (0, "")
    return json.loads(shown)


def test_snapshots_are_taken_listed_and_dropped(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "snapshots", path) == (0, "there are no snapshots\n", "")
    assert document(capsys, "snapshots", path) == []
    taken = document(capsys, "snapshot", path, "v1", "--note", "one\x1b")
    with sqlstore.open(path) as store:
        (now,) = store.snapshots()
    assert taken == {
        "name": "v1",
        "commit": now.commit,
        "taken": now.taken_at.isoformat(),
        "note": "one\x1b",
    }
    code, shown, _ = run(capsys, "snapshot", path, "v 2")
    assert (code, shown) == (0, f"snapshot v 2 shows the store up to commit {now.commit + 1}\n")
    assert document(capsys, "snapshots", path)[0] == taken
    lines = run(capsys, "snapshots", path)[1].splitlines()
    assert lines[0].split() == ["name", "commit", "taken", "note"]
    assert lines[2].split() == [
        "v1",
        str(now.commit),
        *now.taken_at.isoformat(" ", "seconds").split(),
        "one\\x1b",
    ]
    code, _, error = run(capsys, "snapshot", path, "a/b")
    assert code == 2
    assert "has / in it" in error
    assert document(capsys, "drop-snapshot", path, "v1") == {"dropped": "v1"}
    assert run(capsys, "drop-snapshot", path, "v 2") == (0, "snapshot v 2 was dropped\n", "")
    code, _, error = run(capsys, "drop-snapshot", path, "v1")
    assert (code, error) == (2, "sqlstore: error: no snapshot is named 'v1'; there are none\n")


def test_what_differs_is_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "snapshot", path, "a")
    with sqlstore.open(path, "a") as store:
        store[1:3].update(label="x")
        store.snapshot("b")
        store[:1].delete()
        store.extend([{"n": 10, "needed": 1}])
        store.add_column("x", "int8")
    assert run(capsys, "diff", path, "a", "b") == (
        0,
        "a -> b:\n  changed 'label' of 2 records: 1, 2\n",
        "",
    )
    assert "  added 1 record: 10\n  deleted 1 record: 0\n" in run(capsys, "diff", path, "b")[1]
    assert document(capsys, "diff", path, "a") == {
        "before": "a",
        "after": None,
        "added": [10],
        "deleted": [0],
        "changed": {"label": [1, 2]},
        "columns_added": ["x"],
        "columns_dropped": [],
        "columns_renamed": {},
    }
    code, _, error = run(capsys, "diff", path, "c")
    assert (code, error) == (2, "sqlstore: error: no snapshot is named 'c'; there are 'a', 'b'\n")
