"""The benchmark of views: what it prints is what its own processes measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import views


def test_a_small_run_prints_every_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert views.main(["--folder", str(tmp_path), "--count", "500", "--rounds", "1"]) == 0
    output = capsys.readouterr().out
    for name in views.CALLS:
        assert f"| {name} " in output
    assert output.count("[400, 50, 50]") >= 2
    assert list(tmp_path.iterdir()) == []


def test_a_failed_process_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="StoreNotFoundError"):
        views.measure(tmp_path / "nothing", "random")
