"""Several threads of one process: what one does is not undone by another."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import sqlstore
from sqlstore import forks
from sqlstore.source import Source
from tests.processes import append, new_store


def test_a_refresh_while_another_thread_reads_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = new_store(tmp_path / "store")
    append(path, (0, 0))
    reading, refreshed = threading.Event(), threading.Event()
    raw = Source.raw

    def slow(self: Source, record: int, field: Any) -> bytes | None:
        reading.set()
        assert refreshed.wait(30)
        return raw(self, record, field)

    monkeypatch.setattr(Source, "raw", slow)
    with sqlstore.open(path) as store:
        thread = threading.Thread(target=store.raw, args=(0, "payload"))
        thread.start()
        assert reading.wait(30)
        append(path, (0, 1))
        store.refresh()
        refreshed.set()
        thread.join(30)
        assert len(store) == 6
        assert store[5]["batch"] == 1


def test_whatever_many_threads_add_is_told_of_a_fork() -> None:
    told: list[object] = []
    members = forks.ToldOfForks[object](told.append)
    kept: list[object] = []

    class Member:
        pass

    def add() -> None:
        for _ in range(200):
            kept.append(member := Member())
            members.add(member)
            members.add(Member())  # gone at once

    threads = [threading.Thread(target=add) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    members._tell()
    assert set(map(id, told)) == set(map(id, kept))
