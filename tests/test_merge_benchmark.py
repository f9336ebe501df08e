"""The benchmark of merges measures what it says."""

from __future__ import annotations

from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import pytest

import sqlstore
from benchmarks import merge


def test_every_way_but_the_copy_gives_the_same_records(tmp_path: Path) -> None:
    sources = [tmp_path / "a", tmp_path / "b"]
    for writer, path in enumerate(sources):
        merge.write(path, writer, 5, 10)
    found = []
    for number, way in enumerate(merge.WAYS):
        seconds, peak = merge.timed(way, tmp_path / str(number), sources)
        assert seconds > 0
        assert peak > 1
        if way != "copytree":
            with sqlstore.open(tmp_path / str(number)) as store:
                found.append(list(store))
    assert len(found[0]) == 10
    assert found == [found[0]] * 4


def test_the_command_prints_a_row_for_every_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = SimpleNamespace(Pool=lambda count, **_: ThreadPool(count))
    monkeypatch.setattr(merge, "_CONTEXT", threads)  # processes take seconds to come
    monkeypatch.setattr(merge, "WRITERS", 2)
    settings = ["--folder", str(tmp_path), "--records", "5", "--size", "10", "--rounds", "1"]
    assert merge.main(settings) == 0
    lines = capsys.readouterr().out.splitlines()
    ways = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert ways[2:] == [*merge.WAYS]
    assert list(tmp_path.iterdir()) == []
