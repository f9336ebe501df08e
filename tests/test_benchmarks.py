"""The benchmarks: every system writes what it was given, and the figures come from real runs."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sqlstore
from benchmarks import write
from benchmarks.data import Kind, make
from benchmarks.measure import Run, Timing, file_system, formatted, interleaved
from benchmarks.peers import SYSTEMS, Entry

BATCH = 7  # divides none of the counts below, so the last batch is a short one


def installed(entry: Entry) -> Entry:
    if entry.package is not None:
        pytest.importorskip(entry.package, reason=f"{entry.package} comes with the extra 'bench'")
    return entry


@pytest.mark.parametrize("kind", ["random", "text"])
@pytest.mark.parametrize("entry", SYSTEMS, ids=lambda entry: f"{entry.style}-{entry.name}")
def test_every_system_gives_back_what_it_was_given(
    entry: Entry, kind: Kind, tmp_path: Path
) -> None:
    data = make(20, 300, kind)
    system = installed(entry).make(tmp_path, data, BATCH)
    system.write()
    found = list(system.read())
    system.close()
    assert found == data.rows


@pytest.mark.parametrize("entry", SYSTEMS, ids=lambda entry: f"{entry.style}-{entry.name}")
def test_a_run_that_loses_a_record_is_noticed(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(entry)
    data = make(10, 100, "random")
    given = list(data.rows)
    make_system = entry.make

    def forgetful(*args: Any) -> Any:
        system = make_system(*args)
        original = system.read
        monkeypatch.setattr(system, "read", lambda: itertools.islice(original(), 9))
        return system

    broken = Entry(entry.name, entry.style, forgetful, entry.package)
    with pytest.raises(ValueError, match="another record 9"):
        write.run(broken, tmp_path, data, BATCH, check=True)
    assert data.rows == given


@pytest.mark.parametrize(
    ("name", "n_files"),
    [("plain file", 1), ("granular", 12), ("granular, packed metadata", 4), ("HDF5", 1)],
)
def test_every_file_is_synced_once_per_batch(
    name: str, n_files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(20, 100, "random")
    synced: list[int] = []
    original = os.fdatasync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        original(descriptor)

    (entry,) = [e for e in SYSTEMS if e.name == name and e.style == "rows"]
    system = installed(entry).make(tmp_path, data, BATCH)
    monkeypatch.setattr(os, "fdatasync", counted)
    system.write()
    monkeypatch.undo()
    system.close()
    assert len(synced) == 3 * n_files
    assert len(set(synced)) == n_files


@pytest.mark.parametrize("entry", [e for e in SYSTEMS if e.is_ours], ids=lambda e: e.style + e.name)
def test_sqlstore_commits_once_per_batch(entry: Entry, tmp_path: Path) -> None:
    data = make(20, 100, "random")
    system = entry.make(tmp_path, data, BATCH)
    system.write()
    system.close()
    with sqlstore.open(tmp_path / "store") as store:
        assert len(store) == 20
        report = store.verify()
    assert report
    assert report.commits == 4  # one creates the store


def test_the_command_prints_tables_and_writes_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    folder = tmp_path / "work"
    options = ["--folder", str(folder), "--rounds", "1", "--small", "20", "--large", "2"]
    assert write.main([*options, "--only", "l", "--json", str(figures)]) == 0
    printed = capsys.readouterr().out
    assert "row by row: 20 x 1 KiB of random" in printed
    assert "from an Arrow table: 2 x 100 KiB of random" in printed
    found = json.loads(figures.read_text())
    assert found["machine"]["cpus"] > 0
    assert [(g["style"], g["record_bytes"]) for g in found["groups"]] == [
        ("rows", 1024),
        ("rows", 102400),
        ("columns", 1024),
        ("columns", 102400),
    ]
    for group in found["groups"]:
        for system in group["systems"].values():
            assert len(system["seconds"]) == 1
            rate = group["records"] * group["record_bytes"] / 1e6 / system["seconds"][0]
            assert system["mb_per_second"] == pytest.approx(rate)
    assert list(folder.iterdir()) == []


def test_the_profile_accounts_for_all_the_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--folder", str(tmp_path), "--small", "20", "--large", "0", "--profile"]
    assert write.main(options) == 0
    printed = capsys.readouterr().out
    for step in ("bodies and table: sync", "trailer: sync", "SQLite: COMMIT", "total"):
        assert printed.count(f"| {step} ") == 4  # two styles, two compressions
    assert "tottime" in printed


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--sync-mib", "0"], ["--small", "-1"]])
def test_options_that_make_no_sense_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        write.main(wrong)


def test_rounds_are_interleaved_and_the_first_does_not_count() -> None:
    order: list[tuple[str, bool]] = []

    def system(name: str) -> Run:
        def run(warm_up: bool) -> float:
            order.append((name, warm_up))
            return float(len(order))

        return run

    timings = interleaved({"a": system("a"), "b": system("b")}, rounds=2)
    names = [name for name, _ in order]
    assert names == ["a", "b", "b", "a", "a", "b"]
    assert [warm_up for _, warm_up in order] == [True, True, False, False, False, False]
    assert timings["a"].seconds == (4.0, 5.0)
    assert timings["b"].seconds == (3.0, 6.0)


def test_a_timing_has_median_and_spread() -> None:
    timing = Timing("x", (3.0, 1.0, 2.0))
    assert (timing.median, timing.fastest, timing.slowest) == (2.0, 1.0, 3.0)


def test_a_ratio_says_how_many_times_as_fast_we_are() -> None:
    data = make(10, 100, "random")
    group = write.Group("rows", data, "random", 5)
    timings = {"sqlstore, lz4": Timing("", (2.0,)), "peer": Timing("", (4.0,))}
    ours, peer = write.rows_of(group, timings)
    assert ours[-1] == "1.00"
    assert peer[-1] == "2.00"


def test_a_table_is_markdown() -> None:
    lines = formatted(["name", "n"], [["a", "10"], ["bcdef", "2"]]).splitlines()
    assert lines == ["| name  |  n |", "| :---- | -: |", "| a     | 10 |", "| bcdef |  2 |"]


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\n/dev/b {tmp_path} xfs rw 0 0\n")
    assert file_system(tmp_path / "x", mounts) == "xfs"
    assert file_system(Path("/"), mounts) == "ext4"
    assert file_system(tmp_path, tmp_path / "none").startswith("unknown")


def test_text_can_be_compressed_and_random_bytes_cannot() -> None:
    def ratio(kind: Kind) -> float:
        data = b"".join(row[0] for row in make(100, 1024, kind).rows)
        assert len(data) == 100 * 1024
        return len(pa.compress(data, "lz4_raw", asbytes=True)) / len(data)

    assert ratio("random") > 0.99
    assert ratio("text") < 0.8


def test_the_table_holds_the_same_records() -> None:
    data = make(10, 50, "random")
    assert [tuple(row.values()) for row in data.table.to_pylist()] == data.rows
    assert [tuple(record.values()) for record in data.records] == data.rows
