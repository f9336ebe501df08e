"""The benchmark of views: what it prints is what its own processes measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import views


def test_a_small_run_prints_every_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("where, 1 in 4,000, a scan", "shuffle", "split")
    monkeypatch.setattr(views, "CALLS", {name: views.CALLS[name] for name in chosen})
    assert views.main(["--folder", str(tmp_path), "--count", "500", "--rounds", "1"]) == 0
    output = capsys.readouterr().out
    for name in views.CALLS:
        assert f"| {name} " in output
    assert "[400, 50, 50]" in output
    assert list(tmp_path.iterdir()) == []


def test_a_failed_process_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="StoreNotFoundError"):
        views.measure(tmp_path / "nothing", "random")
