"""The benchmark of compressions: its records are real, and its table is of what was stored."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmarks import compression
from tests.small_records import ENOUGH, line_of


def test_the_table_has_a_row_for_every_compression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {"lines": lambda: (line_of(i).encode() for i in range(ENOUGH))}
    monkeypatch.setattr(compression, "SOURCES", lines)
    assert compression.main(["--folder", str(tmp_path), "--rounds", "1"]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert [row[0] for row in cells[2:]] == ["none", "lz4", "gzip", "zstd", "dictionary"]
    smaller = {row[0]: float(row[2].removesuffix(" x")) for row in cells[2:]}
    assert smaller["lz4"] == 1
    assert smaller["dictionary"] == max(smaller.values()) > 2


def test_a_record_that_is_read_otherwise_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "COMPRESSIONS", ("lz4",))
    records = [line_of(i).encode() for i in range(5)]

    class Forgetful(list[bytes]):
        """Is another list whenever it is gone through."""

        def __iter__(self) -> itertools.chain[bytes]:
            self[0] += b"!"
            return itertools.chain(super().__iter__())

    with pytest.raises(RuntimeError, match="not as it was written"):
        compression.measure(tmp_path, Forgetful(records), 1)


@pytest.mark.parametrize("source", compression.SOURCES.values())
def test_the_records_are_real_and_small(source: compression.Source) -> None:
    found = list(itertools.islice(source(), 200))
    assert len(set(found)) > 150
    assert all(found)
    assert sum(map(len, found)) / len(found) < 4096


@pytest.mark.parametrize("wrong", ["--rounds=0", "--records=0"])
def test_what_cannot_be_measured_is_refused(wrong: str) -> None:
    with pytest.raises(SystemExit):
        compression.main([wrong])
