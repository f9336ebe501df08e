"""The benchmark of reading: its systems are compared in full, and its figures are real ones."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import sqlstore
from benchmarks import opening, read
from benchmarks.data import METADATA_TYPES, make
from benchmarks.measure import formatted
from benchmarks.reading import docs, fresh, reader, report, targets
from benchmarks.reading.answers import BELOW, check
from benchmarks.reading.inside import READS
from benchmarks.reading.measures import BY_KEY, cell, figure
from benchmarks.reading.memory import disk_bytes, private_bytes
from benchmarks.reading.protocol import Bodies, takes_part, writer_of
from benchmarks.reading.registry import MODULES, Entry, load
from benchmarks.reading.results import Group, Results, Row
from benchmarks.reading.results import load as load_results
from benchmarks.reading.rounds import Run, interleave
from benchmarks.reading.sums import each, sum_of, total
from benchmarks.reading.systems.arrow_file import ArrowFile
from benchmarks.reading.systems.bare import Bare

ALONE = ("ours", "bare", "arrow_file", "parquet_table", "sqlite_blobs", "one_file_each")
"""The modules that need no package beside sqlstore's own."""
ENTRIES = load(ALONE)[0]
TINY = make(300, 64, "random")


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    # For what other programs write, and for all that other tests have in memory.
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_system_gives_back_what_it_was_given(entry: Entry, tmp_path: Path) -> None:
    writer_of(entry.system).write(tmp_path, TINY)
    check(entry.system, tmp_path, TINY)
    found = fresh.measure(entry.system, tmp_path, "metadata")
    assert "open.ms" in found
    assert "metadata.again" in found
    if takes_part(entry.system, "filter"):
        found = fresh.measure(entry.system, tmp_path, "filter")
        assert found["filter"] > found["open.ms"]


def changed(bodies: Bodies) -> list[bytes]:
    found = [bytes(body) for body in each(bodies)]
    return [*found[:-1], found[-1][:-1] + bytes([found[-1][-1] ^ 1])]


def shortened(bodies: Bodies) -> list[bytes]:
    return [bytes(body) for body in each(bodies)][:-1]


@pytest.mark.parametrize("damage", [changed, shortened])
@pytest.mark.parametrize("method", ["batch", "views", "matching", "scan"])
def test_a_wrong_answer_is_noticed(
    method: str,
    damage: Callable[[Bodies], list[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Bare.write(tmp_path, TINY)
    given = getattr(Bare, method)

    def damaged(system: Bare, *arguments: object) -> list[bytes] | Iterator[list[bytes]]:
        found = given(system, *arguments)
        return map(damage, found) if method == "scan" else damage(found)

    monkeypatch.setattr(Bare, method, damaged)
    with pytest.raises(ValueError, match=r"not what was written|too few"):
        check(Bare, tmp_path, TINY)


def test_a_wrong_record_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Bare.write(tmp_path, TINY)
    get = Bare.get
    monkeypatch.setattr(Bare, "get", lambda system, record: get(system, (record + 1) % 300))
    with pytest.raises(ValueError, match="one record: body 0 is not what was written"):
        check(Bare, tmp_path, TINY)


def test_wrong_metadata_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Bare.write(tmp_path, TINY)
    right = TINY.table.drop_columns("body")
    for width, message in (
        (right["width"].cast(pa.int64()), "width is int64"),
        (pa.array(np.zeros(300, np.int32)), "width is not what was written"),
    ):
        wrong = right.set_column(1, "width", width)
        monkeypatch.setattr(Bare, "metadata", lambda _, wrong=wrong: wrong)
        with pytest.raises(ValueError, match=message):
            check(Bare, tmp_path, TINY)


def test_about_one_record_in_a_hundred_is_filtered() -> None:
    widths = [row[2] for row in make(20_000, 1, "random").rows]
    assert 0.008 < sum(width < BELOW for width in widths) / len(widths) < 0.012


def test_a_package_that_is_missing_costs_only_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULES, "no_such_module", "no-such-package")
    entries, notes = load(["bare", "no_such_module"])
    assert [entry.system for entry in entries] == [Bare]
    assert "left out, not installed: no-such-package" in notes[-1]


def test_reads_are_timed_three_times(tmp_path: Path) -> None:
    data = make(2_000, 20, "random")
    ArrowFile.write(tmp_path, data)
    for reads in READS:
        found = reads.figures(ArrowFile, tmp_path, data, 0)
        assert list(found) == [f"{reads.group}.{when}" for when in ("first", "again", "summed")]
        assert min(found.values()) > 0


BODIES = [b"a" * 20, b"", b"short", b"b" * 5000]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_bodies_in_an_array_are_gone_over_one_by_one(kind: pa.DataType) -> None:
    array = pa.array([b"before", *BODIES, b"behind"], kind).slice(1, len(BODIES))
    assert [bytes(body) for body in each(array)] == BODIES
    assert [bytes(body) for body in each(pa.chunked_array([array, array]))] == BODIES * 2
    assert total(array) == total(BODIES) == total([memoryview(body) for body in BODIES])
    long = pa.array([BODIES[0], BODIES[3]], kind)
    assert [bytes(body) for body in each(long)] == [BODIES[0], BODIES[3]]


def test_a_missing_body_has_no_sum() -> None:
    with pytest.raises(ValueError, match="1 of 2 bodies are missing"):
        total(pa.array([b"a", None]))


@pytest.mark.parametrize("size", [1, 4096, 4097, 100_001])
def test_every_byte_counts_for_the_sum(size: int) -> None:
    body = bytearray(os.urandom(size))
    for at in {0, size // 2, size - 1}:
        before = sum_of(body)
        body[at] ^= 1
        assert sum_of(body) != before


def test_the_warm_up_counts_only_where_patience_ends() -> None:
    calls: list[tuple[str, int]] = []
    rows = {name: Row(name, "", "", name) for name in ("a", "b")}

    def run(name: str) -> Run:
        def once(number: int) -> dict[str, float]:
            calls.append((name, number))
            return {"write": float(number)}

        return once

    interleave("", rows, {name: run(name) for name in rows}, rounds=2, patience=60)
    assert calls == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert rows["a"].figures == {"write": [1.0, 2.0]}
    slow = {"c": Row("c", "", "", "c")}
    interleave("", slow, {"c": run("c")}, rounds=2, patience=0)
    assert slow["c"].figures == {"write": [0.0]}


def test_a_cell_has_median_and_spread() -> None:
    assert cell([3.0, 1.0, 2.0]) == "2.00 (1.00 - 3.00)"
    assert cell([12.34]) == "12.3"
    assert cell([]) == "-"
    assert [figure(v) for v in (1234.5, 123.4, 0.5, 0.0123, 0.0)] == [
        "1,234", "123", "0.50", "0.012", "0"
    ]  # fmt: skip


def made_up(mine: dict[str, float], theirs: dict[str, float], peer: str) -> list[Group]:
    rows = [Row("sqlstore", "CRC once", "", "ours"), Row("peer", "none", "", peer)]
    for row, figures in zip(rows, (mine, theirs), strict=True):
        row.add(figures)
    return [Group(10, 1024, rows), Group(5, 100, rows)]


def test_a_missed_aim_is_bold() -> None:
    groups = made_up({"single.again": 3.0}, {"single.again": 2.0}, "lmdb_system")
    (line,) = [line for line in targets.table(groups).splitlines() if "LMDB `get`" in line]
    assert line.replace(" ", "").endswith("|1|**1.50**|")


def test_a_ratio_of_rates_is_one_of_times_too() -> None:
    (aim,) = [aim for aim in targets.AIMS if aim.text == "scan, summed, bare"]
    group = made_up({"scan.again": 100.0}, {"scan.again": 50.0}, "bare")[0]
    assert targets.ratio(aim, group.rows[0], group.of("bare")) == 0.5
    assert targets.ratio(aim, group.rows[0], []) is None


def test_the_best_of_a_peer_is_what_counts() -> None:
    (aim,) = [aim for aim in targets.AIMS if aim.text == "views of 256, Hugging Face's best"]
    theirs = {"views.again": 4.0, "batch.again": 2.0}
    group = made_up({"views.again": 1.0}, theirs, "huggingface")[0]
    assert targets.ratio(aim, group.rows[0], group.of("huggingface")) is None
    group.rows[1].name = aim.row
    assert targets.ratio(aim, group.rows[0], group.of("huggingface")) == 0.5


def test_results_are_what_was_saved(tmp_path: Path) -> None:
    results = Results({"cpus": 4}, ["a note"], made_up({"write": 1.0}, {"disk": 2.0}, "bare"))
    results.save(tmp_path / "results.json")
    assert load_results(tmp_path / "results.json") == results


def test_every_table_shows_measures_that_exist() -> None:
    shown = [key for keys in report.TABLES.values() for key in keys]
    assert sorted(shown) == sorted(BY_KEY)


def test_the_report_goes_between_the_comments(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    docs.put(page, ["old"])
    page.write_text(page.read_text() + "\nbehind\n")
    docs.put(page, ["new", "and more"])
    expected = f"# Page\n\n## Reading\n\n{docs.BEGIN}\n\nnew\n\nand more\n\n{docs.END}\n\nbehind\n"
    assert page.read_text() == expected


def test_a_page_with_half_of_the_comments_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for text in (docs.BEGIN, docs.END, f"{docs.END}\n{docs.BEGIN}"):
        page.write_text(text)
        with pytest.raises(ValueError, match="must have both"):
            docs.put(page, [])
        assert page.read_text() == text


def test_private_memory_is_clean_and_dirty(tmp_path: Path) -> None:
    rollup = tmp_path / "smaps_rollup"
    assert private_bytes(rollup) is None
    rollup.write_text(
        "00400000-7ffc9 ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nShared_Clean: 50 kB\n"
        "Private_Clean:     3 kB\nPrivate_Dirty:     4 kB\n"
    )
    assert private_bytes(rollup) == 7 * 1024


def test_the_disk_is_counted_in_blocks(tmp_path: Path) -> None:
    empty = disk_bytes(tmp_path)
    (tmp_path / "folder").mkdir()
    with (tmp_path / "folder" / "file").open("wb") as file:
        file.write(bytes(100_000))
        os.fsync(file.fileno())
    assert disk_bytes(tmp_path) >= empty + 100_000


def test_a_fresh_process_tells_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = [entry for entry in ENTRIES if entry.system is Bare]
    place = tmp_path / Bare.__name__
    place.mkdir()
    Bare.write(place, TINY)
    found = fresh.figures(entry, tmp_path, "filter")
    assert 0 < found["open.ms"] < found["filter"]
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(
        fresh.FreshProcessError, match=r"bare mapped file .* failed in a fresh process"
    ):
        fresh.figures(entry, tmp_path, "filter")


def test_a_failure_costs_a_figure_and_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    monkeypatch.setattr(read, "SMALL", {64: 100})
    options = ["--small", "--systems", "parquet_table", "--rounds", "1", "--folder", str(tmp_path)]
    assert read.main(options) == 1
    assert "Failed: Parquet, columns only, metadata: " in capsys.readouterr().out


def test_the_benchmark_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other processes take seconds: everything happens in this one.
    monkeypatch.setattr(fresh, "figures", lambda e, place, kind: fresh.measure(
        e.system, place / writer_of(e.system).__name__, kind
    ))  # fmt: skip
    monkeypatch.setattr(read, "SMALL", {64: 1_100})
    modules = [module for module in ALONE if module != "one_file_each"]
    figures = tmp_path / "figures.json"
    options = ["--small", "--sizes", "64", "--rounds", "1", "--folder", str(tmp_path / "work")]
    assert read.main([*options, "--systems", ",".join(modules), "--json", str(figures)]) == 0
    printed = capsys.readouterr().out
    assert not list((tmp_path / "work").iterdir())
    found = load_results(figures)
    (group,) = found.groups
    assert [row.name for row in group.rows] == [
        entry.name for entry in ENTRIES if entry.module in modules
    ]
    for row in group.rows:
        assert f"| {row.name} " in printed
        assert all(
            len(values) == (3 if key.startswith(("filter", "metadata")) else 1)
            for key, values in row.figures.items()
            if not key.startswith("open")
        )
    (bare,) = group.of("bare")
    assert set(bare.figures) == set(BY_KEY)
    assert read.main(["--render", str(figures)]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    "wrong",
    [
        ["--rounds", "0"],
        ["--patience", "0"],
        ["--sizes", "7"],
        ["--sizes", "x"],
        ["--systems", "x"],
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        read.main(wrong)


def test_a_store_to_open_has_as_many_records_as_asked_for(tmp_path: Path) -> None:
    opening.write(tmp_path / "store", 1000)
    with sqlstore.open(tmp_path / "store") as store:
        assert len(store) == 1000
        assert list(store.schema.columns) == list(METADATA_TYPES)
        assert {len(body.as_py()) for body in store.blobs("body")} == {16}


def test_a_reader_tells_its_time_and_memory(tmp_path: Path) -> None:
    opening.write(tmp_path / "store", 1000)
    found = reader.opened(str(tmp_path / "store"))
    assert set(found) == set(opening.HEADINGS)
    assert found["open.ms"] > 0


def test_the_chart_shows_a_panel_per_measure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with the extra 'bench'")
    from benchmarks.reading import chart

    groups = made_up({"write": 1.0, "filter": 3.0}, {"write": 2.0}, "bare")
    drawn = chart.draw(Results({}, [], groups), tmp_path)
    assert [path.name for path in drawn.values()] == ["reading.png", "reading-100.png"]
    assert all(path.stat().st_size > 10_000 for path in drawn.values())


def test_tables_of_figures_are_markdown() -> None:
    (group, _) = made_up({"write": 1.0}, {"disk": 2.0}, "bare")
    expected = formatted(
        ["system", "checks", "write MB/s", "disk MB"],
        [["sqlstore", "CRC once", "1.00", "-"], ["peer", "none", "-", "2.00"]],
    )
    assert report.table(group, ("write", "disk", "filter")) == expected
