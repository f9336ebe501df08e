"""Stores that become one: which records, in which order, in which bytes, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sqlstore
from sqlstore import copied, portions
from sqlstore.maintenance.verify import verify
from sqlstore.merging import keys
from sqlstore.merging import merge as merging
from tests.all_kinds import exactly, make
from tests.merge_programs import record_of as small
from tests.merge_programs import write, write_one
from tests.processes import Child, contents
from tests.small_records import ENOUGH, check, dictionaries
from tests.small_records import append as append_lines
from tests.small_records import new_store as new_lines
from tests.stored import bodies, damage

Make = Callable[[Path], object]


def names_in(path: Path) -> list[str]:
    """Return the keys of a store in order, once it is known to have no fault."""
    with sqlstore.open(path) as store:
        report = store.verify()
        assert report, report
        found: list[str] = store.to_arrow()["name"].to_pylist()
        return found


def names_of(writer: int, numbers: range) -> list[str]:
    return [small(writer, number)["name"] for number in numbers]


def new_from(path: Path, declared: dict[str, Any], *records: dict[str, Any], **more: Any) -> Path:
    """Return the folder of a store with metadata columns only."""
    with sqlstore.create(path, metadata=declared, **more) as store:
        store.extend(records)
    return path


@pytest.mark.parametrize("options", [{}, {"in_parts": True}], ids=["at once", "in parts"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "there"])
def test_records_come_in_the_order_of_the_sources_and_their_ids(
    tmp_path: Path, is_new: bool, options: dict[str, Any]
) -> None:
    target = tmp_path / "all"
    before = [] if is_new else names_in(write(target, 9, 4))
    sources = [write(tmp_path / str(writer), writer, 3 + writer) for writer in (2, 0, 1)]
    known = list(map(contents, sources))

    done = sqlstore.merge(target, *sources, **options)

    expected = [name for writer in (2, 0, 1) for name in names_of(writer, range(3 + writer))]
    assert names_in(target) == before + expected
    assert done.ids.tolist() == list(range(len(before), len(before) + 12))
    assert (done.counts, done.skipped) == ((5, 3, 4), 0)
    assert list(map(contents, sources)) == known
    with sqlstore.open(target, "a") as store:
        assert [store.get(key=small(2, n)["name"])["payload"] for n in range(5)] == [
            small(2, n)["payload"] for n in range(5)
        ]
        n_commits = store.sql("SELECT count(*) AS n FROM commits WHERE kind = 2")["n"][0].as_py()
        store.extend([small(7, 0)])
        assert store[-1]["name"] == small(7, 0)["name"]
    if not is_new:
        assert n_commits == 2 + (3 if options else 1)
    assert sqlstore.rebuild(target) == len(before) + 13


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "there"])
def test_bytes_are_copied_and_nothing_is_decompressed(
    tmp_path: Path, is_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decompressed, or compressed")

    source, target = make(tmp_path / "s", chunk_size=4096), tmp_path / "all"
    if not is_new:
        make(target, 0)
    for name in (
        "sqlstore.reading.field.decompress",
        "sqlstore.reading.field.decompress_many",
        "sqlstore.batch.compress_many",
    ):
        monkeypatch.setattr(name, refuse)
    sqlstore.merge(target, source)
    monkeypatch.undo()

    assert bodies(target) == bodies(source)
    with sqlstore.open(source) as one, sqlstore.open(target) as other:
        assert other.schema == one.schema
        assert other.to_arrow().schema == one.to_arrow().schema
        assert list(map(exactly, other)) == list(map(exactly, one))
        assert other.verify()


def test_records_are_taken_as_they_are_now(tmp_path: Path) -> None:
    source = write(tmp_path / "s", 0, 6)
    with sqlstore.open(source, "a") as store:
        store[1:3].delete()
        store[1:2].update(n=77)
        store[1:2].replace("payload", [b"another"])
        store[:2].save("some")
        store.snapshot("v1")
    sqlstore.merge(tmp_path / "all", source)
    with sqlstore.open(tmp_path / "all") as merged:
        assert merged.ids.tolist() == [0, 1, 2, 3]
        assert merged[1] == {**small(0, 3), "n": 77, "payload": b"another"}
        assert not merged.subsets()
        assert not merged.snapshots()
        assert merged.verify()


def test_views_give_their_records_in_their_order_and_what_they_select(tmp_path: Path) -> None:
    write(tmp_path / "s", 0, 6)
    with sqlstore.open(tmp_path / "s") as store:
        kept = store[::-2].select("name", "n")
        done = sqlstore.merge(tmp_path / "all", kept, store.where("n = 0").select("n", "name"))
        assert done.counts == (3, 1)
    with sqlstore.open(tmp_path / "all") as merged:
        assert merged.schema.names == {"name", "n"}
        assert merged.to_arrow()["n"].to_pylist() == [5, 3, 1, 0]


def test_what_others_append_meanwhile_comes_neither_along_nor_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write(tmp_path / "s", 0, 4), write(tmp_path / "all", 1, 2)
    real = portions.portions

    def with_others(*arguments: Any) -> Any:
        yield from real(*arguments)
        with sqlstore.open(source, "a") as one, sqlstore.open(target, "a") as other:
            one.extend([small(0, 9)])
            other.extend([small(1, 9)])

    with sqlstore.open(source, "a") as store, store.writer() as writer:
        writer.append(small(0, 8))  # and is not committed
        monkeypatch.setattr(merging, "portions", with_others)
        done = sqlstore.merge(target, source)
        writer.rollback()
    assert names_in(target) == [
        *names_of(1, range(2)),
        *names_of(1, range(9, 10)),
        *names_of(0, range(4)),
    ]
    assert done.ids.tolist() == [3, 4, 5, 6]


# Keys


def test_a_key_that_is_there_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", 0, 4), write(tmp_path / "b", 1, 4)
    with sqlstore.open(b, "a") as store:
        store[2:3].update(name=small(0, 1)["name"])
    with pytest.raises(sqlstore.DuplicateKeyError) as of_sources:
        sqlstore.merge(tmp_path / "all", a, b)
    assert f"'0/00001' of record 2 of {b} is that of record 1 of {a}" in str(of_sources.value)
    assert not (tmp_path / "all").exists()

    target = write(tmp_path / "all", 5, 3)
    sqlstore.merge(target, a)
    known = contents(target)
    with pytest.raises(sqlstore.DuplicateKeyError) as of_target:
        sqlstore.merge(target, b)
    assert f"'0/00001' of record 2 of {b} is that of record 4 of the target" in str(of_target.value)
    assert contents(target) == known

    done = sqlstore.merge(target, b, on_duplicate="skip")
    assert (done.ids.tolist(), done.counts, done.skipped) == ([7, 8, 9], (3,), 1)
    assert names_in(target)[7:] == [small(1, n)["name"] for n in (0, 1, 3)]
    again = sqlstore.merge(target, a, b, on_duplicate="skip")
    assert (len(again.ids), again.counts, again.skipped) == (0, (0, 0), 8)


def test_of_records_with_one_key_the_first_one_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 3)
    with sqlstore.open(tmp_path / "a") as store:
        twice = store.take([2, 1, 2])
        with pytest.raises(sqlstore.DuplicateKeyError, match=r"record 2 of .*/a is that of reco"):
            sqlstore.merge(tmp_path / "all", twice)
        done = sqlstore.merge(tmp_path / "all", twice, store, on_duplicate="skip")
    assert (done.counts, done.skipped) == ((2, 1), 3)
    assert names_in(tmp_path / "all") == [small(0, n)["name"] for n in (2, 1, 0)]


def test_a_key_that_another_writer_takes_meanwhile_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write(tmp_path / "s", 0, 4), write(tmp_path / "all", 1, 2)
    real = keys.without_duplicates

    def overtaken(*arguments: Any) -> Any:
        found = real(*arguments)
        with sqlstore.open(target, "a") as store:
            store.extend([small(0, 2)])
        return found

    monkeypatch.setattr(merging, "without_duplicates", overtaken)
    with pytest.raises(sqlstore.DuplicateKeyError, match="0/00002"):
        sqlstore.merge(target, source)
    assert names_in(target) == [*names_of(1, range(2)), *names_of(0, range(2, 3))]


# Which stores


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "there"])
def test_a_store_is_not_merged_with_itself_or_a_copy_of_it(tmp_path: Path, is_new: bool) -> None:
    a, target = write(tmp_path / "a", 0, 3), tmp_path / "all"
    shutil.copytree(a, tmp_path / "copy")
    (tmp_path / "link").symlink_to(a)
    if not is_new:
        write(target, 1, 2)
    for sources in ((a, a), (a, tmp_path / "link"), (a, tmp_path / "copy")):
        with pytest.raises(sqlstore.MergeError, match="the same store, or copies"):
            sqlstore.merge(target, *sources)
    for itself in (a, tmp_path / "link"):
        with pytest.raises(sqlstore.MergeError, match="is the target itself"):
            sqlstore.merge(itself, a)
    with pytest.raises(sqlstore.MergeError, match="the same store, or copies"):
        sqlstore.merge(a, tmp_path / "copy")
    with pytest.raises(sqlstore.MergeError, match="inside the source"):
        sqlstore.merge(a / "all", a)
    assert target.exists() != is_new
    with sqlstore.open(a, "a") as store:
        store.extend([small(0, 7)])
        sqlstore.merge(tmp_path / "copy", store[3:])
    assert names_in(tmp_path / "copy") == names_in(a)


def test_what_is_no_store_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    a = write(tmp_path / "a", 0, 3)
    (tmp_path / "folder").mkdir()
    with pytest.raises(sqlstore.StoreNotFoundError, match="nowhere"):
        sqlstore.merge(tmp_path / "all", a, tmp_path / "nowhere")
    with pytest.raises(sqlstore.NotAStoreError, match="folder"):
        sqlstore.merge(tmp_path / "all", a, tmp_path / "folder")
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(sqlstore.NotAStoreError, match="folder"):
        sqlstore.merge(tmp_path / "folder", a)
    with pytest.raises(TypeError, match="at least one source"):
        sqlstore.merge(tmp_path / "all")
    with pytest.raises(TypeError, match=r"not list; several are given one by one"):
        sqlstore.merge(tmp_path / "all", [a])  # type: ignore[arg-type]
    with sqlstore.open(a) as store, pytest.raises(TypeError, match="the folder of the target"):
        sqlstore.merge(store, a)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_duplicate"):
        sqlstore.merge(tmp_path / "all", a, on_duplicate="keep")  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]


# Too much, and damage


def test_more_than_one_commit_holds_is_refused_or_done_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write(tmp_path / "s", 0, 64), write(tmp_path / "all", 1, 2)
    known = contents(target)
    for most in (300, 3_000):  # the values are too many; the table is too much beside them
        monkeypatch.setattr(merging, "_MOST_BYTES", most)
        with pytest.raises(sqlstore.MergeError, match=r"below 2 GiB.*in_parts=True"):
            sqlstore.merge(target, source)
        assert contents(target) == known
    monkeypatch.undo()
    monkeypatch.setattr(merging, "_AT_ONCE", 10)
    done = sqlstore.merge(target, source, in_parts=True)
    assert done.ids.tolist() == list(range(2, 66))
    assert names_in(target) == [*names_of(1, range(2)), *names_of(0, range(64))]
    with sqlstore.open(target) as store:
        counts = store.sql("SELECT records FROM commits ORDER BY number")["records"].to_pylist()
    assert counts[-7:] == [10, 10, 10, 10, 10, 10, 4]


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "there"])
def test_damage_in_a_source_leaves_the_target_as_it_was(tmp_path: Path, is_new: bool) -> None:
    a, b, target = make(tmp_path / "a", 9), make(tmp_path / "b", 9), tmp_path / "all"
    with sqlstore.open(b, "a") as store:
        for i in range(9):
            store[i : i + 1].update(key=f"other/{i}")
    damage(b, "plain")
    if not is_new:
        make(target, 0)
    files = {p.name: p.read_bytes() for p in target.glob("chunks/*")}
    with pytest.raises(sqlstore.ChecksumError, match="field plain"):
        sqlstore.merge(target, a, b)
    assert {p.name: p.read_bytes() for p in target.glob("chunks/*")} == files
    assert not list(tmp_path.glob(".all*"))
    if is_new:
        assert not target.exists()
    else:
        with pytest.raises(sqlstore.ChecksumError) as in_parts:
            sqlstore.merge(target, a, b, in_parts=True)
        assert in_parts.value.committed is not None
        assert in_parts.value.committed.tolist() == list(range(9))
        assert verify(target).records == 9


# Dictionaries


def test_dictionaries_come_along_once(trained: Path, tmp_path: Path) -> None:
    other = new_lines(tmp_path / "other")
    append_lines(other, ENOUGH, 2 * ENOUGH)
    target = tmp_path / "all"
    sqlstore.merge(target, trained, other)
    check(target, list(range(2 * ENOUGH)))
    assert [row["number"] for row in dictionaries(target)] == [0, 1, 2, 3]
    sqlstore.merge(target, trained)
    check(target, [*range(2 * ENOUGH), *range(ENOUGH)])
    assert len(dictionaries(target)) == 4
    sqlstore.merge(tmp_path / "plain", trained)
    assert len(dictionaries(tmp_path / "plain")) == 2


def test_more_dictionaries_than_a_store_can_have_are_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = new_lines(tmp_path / "all")
    append_lines(target, ENOUGH, 2 * ENOUGH)
    monkeypatch.setattr(copied, "MOST", 3)
    with pytest.raises(sqlstore.MergeError, match="more than 3 dictionaries"):
        sqlstore.merge(target, trained)
    check(target, list(range(ENOUGH, 2 * ENOUGH)))
    assert len(dictionaries(target)) == 2


# The show


def test_eight_stores_of_eight_processes_become_one(tmp_path: Path) -> None:
    count = 10_000
    sources = [tmp_path / str(writer) for writer in range(8)]
    children = [Child(write_one, path, i, count) for i, path in enumerate(sources)]
    for child in children:
        child.result()
        child.close()
    expected = [name for writer in range(8) for name in names_of(writer, range(count))]
    there = write(tmp_path / "there", 9, 0)
    for target in (tmp_path / "new", tmp_path / "again", there):
        done = sqlstore.merge(target, *sources)
        assert np.array_equal(done.ids, np.arange(8 * count))
        with sqlstore.open(target) as store:
            assert store.to_arrow()["name"].to_pylist() == expected
    for target in (tmp_path / "new", there):
        report = verify(target)
        assert report, report
        assert report.records == 8 * count


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sqlstore.cli import main

    a, b, target = write(tmp_path / "a", 0, 3), write(tmp_path / "b", 1, 2), tmp_path / "all"
    assert main(["merge", str(target), str(a), str(b)]) == 0
    assert capsys.readouterr().out == f"{target}: 5 records appended\n"
    assert main(["merge", str(target), str(b)]) == 2
    assert "the key name = '1/00000' of record 0" in capsys.readouterr().err
    words = ["merge", str(target), str(b), "--on-duplicate", "skip", "--in-parts", "--add-missing"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "records": 0,
        "skipped": 2,
        "sources": [{"path": str(b), "records": 0}],
    }
    assert main(words) == 0
    assert capsys.readouterr().out == f"{target}: 0 records appended, 2 skipped\n"
