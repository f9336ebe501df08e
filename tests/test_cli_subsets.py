"""`sqlstore subsets` and `compare`."""

from __future__ import annotations

from pathlib import Path

import pytest

import sqlstore
from tests.edited import new_store
from tests.test_cli_snapshots import document, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of ten records, whose column `n` is the id."""
    return new_store(tmp_path / "s", 10)


def test_subsets_are_listed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "subsets", path) == (0, "there are no subsets\n", "")
    assert document(capsys, "subsets", path) == []
    with sqlstore.open(path, "a") as store:
        store.where("n > :low", low=6).save("high", note="one\x1b")
        store[2:5].save("some")
        store[8:9].delete()
        high, some = store.subsets()
    assert document(capsys, "subsets", path) == [
        {
            "name": "high",
            "records": 3,
            "deleted": 1,
            "saved": high.saved_at.isoformat(),
            "sql": "n > :low",
            "parameters": {"low": 6},
            "note": "one\x1b",
            "fingerprint": high.fingerprint,
            "content": high.content,
        },
        {
            "name": "some",
            "records": 3,
            "deleted": 0,
            "saved": some.saved_at.isoformat(),
            "sql": None,
            "parameters": None,
            "note": None,
            "fingerprint": some.fingerprint,
            "content": some.content,
        },
    ]
    code, shown, error = run(capsys, "subsets", path)
    lines = shown.splitlines()
    assert (code, error, len(lines)) == (0, "", 4)
    assert lines[0].split() == ["name", "records", "deleted", "saved", "sql", "note"]
    saved = high.saved_at.isoformat(" ", "seconds")
    assert lines[2].split() == ["high", "3", "1", *saved.split(), "n", ">", ":low", "one\\x1b"]
    assert lines[3].split() == ["some", "3", "0", *some.saved_at.isoformat(" ", "seconds").split()]


def test_two_are_compared(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlstore.open(path, "a") as store:
        store.take([1, 2, 2, 5]).save("a b")
        store.take([5, 2, 8]).save("b")
        store[8:9].delete()
        text = str(store.compare("a b", "b"))
    assert "\n  only in 'b': 1 record: 8\n" in text
    assert run(capsys, "compare", path, "a b", "b") == (0, text + "\n", "")
    assert document(capsys, "compare", path, "a b", "b") == {
        "first": "a b",
        "second": "b",
        "only_first": [1],
        "only_second": [8],
        "both": [2, 5],
        "repeats": [2],
        "reordered": True,
        "deleted": [8],
        "first_changed": False,
        "second_changed": None,
    }
    code, _, error = run(capsys, "compare", path, "b", "c")
    assert code == 2
    assert error.startswith("sqlstore: error: no subset is named 'c'; there are ")
