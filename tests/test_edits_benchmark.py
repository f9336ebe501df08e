"""The benchmark of edits measures what it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import sqlstore
from benchmarks import edits
from benchmarks.opening import write


def test_both_edits_are_measured_and_a_killed_column_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--rounds", "1", "--records", "300", "--computed", "300"]
    assert edits.main(["--folder", str(tmp_path), *settings]) == 0
    *_, computed = lines = capsys.readouterr().out.splitlines()
    table = [line.split("|")[1:-1] for line in lines if line.startswith("| 1 %")]
    assert [row[0].strip() for row in table] == [*edits.EDITS]
    assert all(float(cell.replace(",", "")) >= 0 for row in table for cell in row[1:])
    first, _, there, second, _, after = re.findall(r"[\d.]+", computed.partition("killed")[2])
    assert (first, after) == ("150", "300")
    assert 16 <= int(there) < 150
    assert int(there) + int(second) == 300
    (told,) = [line for line in lines if "half of them deleted" in line]
    assert told.startswith("300 records of 1 KiB")
    assert list(tmp_path.iterdir()) == []


def test_a_hundredth_is_edited(tmp_path: Path) -> None:
    write(tmp_path / "s", 500)
    with sqlstore.open(tmp_path / "s") as store:
        before = store.to_arrow()
    found = edits.edited(shutil.copytree(tmp_path / "s", tmp_path / "u"), edits.update)
    assert found["bytes"] > 5 * 16
    with sqlstore.open(tmp_path / "u") as store:
        changed = [a != b for a, b in zip(before["score"], store.to_arrow()["score"], strict=True)]
    assert sum(changed) == 5
    edits.edited(shutil.copytree(tmp_path / "s", tmp_path / "d"), edits.EDITS["1 % deleted"])
    with sqlstore.open(tmp_path / "d") as store:
        assert len(store) == 495
