"""Several things are damaged at once, or a repair is killed: what is known anywhere is used."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

import sqlstore
from sqlstore import CorruptStoreError, repair, verify
from sqlstore.log import files
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.maintenance.repair.appending import Appender
from sqlstore.staged import Staged
from tests import broken, compacted
from tests.broken import (
    COUNT,
    Damage,
    Made,
    check_whole,
    header,
    last_trailer,
    links,
    made,
    table_of_append,
    table_of_delete,
    table_of_update,
    trailer_in_the_middle,
)


@pytest.fixture(scope="module", autouse=True)
def templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    broken.use(tmp_path_factory.mktemp("templates"))


def chunk_in_the_middle(store: Made) -> None:
    name = store.link(CommitKind.APPEND, 3).chunk
    assert {one.trailer.kind for one in store.links.values() if one.chunk == name} == {
        CommitKind.APPEND
    }
    store.forget(f"chunks/{name}")


def header_in_the_middle(store: Made) -> None:
    store.flip(store.link(CommitKind.APPEND, 3).chunk, 20)


def last_trailer_of_a_chunk(store: Made) -> None:
    first = store.links[1].chunk
    last = [link for link in store.links.values() if link.chunk == first][-1]
    store.flip(first, last.trailer.table_end + 30)


def table_of_late_append(store: Made) -> None:
    link = store.link(CommitKind.APPEND)
    store.flip(link.chunk, link.trailer.table_start + 300)


def image_behind_a_checkpoint(store: Made) -> None:
    link = store.link(CommitKind.APPEND)
    store.flip(link.chunk, link.trailer.bodies_start)


@pytest.mark.parametrize(
    "damage",
    [
        table_of_delete,
        trailer_in_the_middle,
        chunk_in_the_middle,
        header_in_the_middle,
        header,
        last_trailer_of_a_chunk,
    ],
)
def test_without_an_index_the_cache_alone_knows_everything(tmp_path: Path, damage: Damage) -> None:
    store = made(tmp_path / "s")
    damage(store)
    store.forget("index.sqlite")
    done = repair(store.root)
    assert not done.still_wrong
    assert bool(done.lost_values) == (damage is chunk_in_the_middle)
    check_whole(store, done)


def test_the_cache_knows_records_of_which_all_commits_are_gone(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    with sqlstore.open(store.root, mode="a") as opened:
        opened.extend([compacted.record(COUNT + i) for i in range(3)])
        store = dataclasses.replace(store, contents=compacted.contents(opened))
    link = list(links(store.root).values())[-1]
    store.flip(link.chunk, link.trailer.table_end + 30)
    store.forget("index.sqlite")
    done = repair(store.root)
    assert done, done
    assert done.lost_commits == [link.trailer.number]
    check_whole(store, done)


def test_what_a_commit_was_of_which_only_the_number_is_known_is_not_taken_for_known(
    tmp_path: Path,
) -> None:
    store = made(tmp_path / "s")
    assert store.links[max(store.links)].trailer.kind == CommitKind.SAVE_SUBSET
    last_trailer(store)
    with contextlib.closing(sqlite3.connect(store.root / "index.sqlite")) as index, index:
        index.execute("CREATE TABLE strange (n)")
    done = repair(store.root)
    assert done.lost_edits == [max(store.links)]
    assert not done
    assert verify(store.root)
    with sqlstore.open(store.root) as opened:
        assert compacted.contents(opened) == store.contents
        assert not opened.subsets()


@pytest.mark.parametrize(
    ("damage", "after"), [(table_of_append, 1), (table_of_update, 3), (table_of_delete, 2)]
)
def test_of_a_repair_that_is_killed_between_commits_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage, after: int
) -> None:
    store = made(tmp_path / "s")
    damage(store)
    store.forget("cache")
    commit, committed = Appender.commit, list[Trailer]()

    def killed(appender: Appender, staged: Staged) -> Trailer:
        committed.append(commit(appender, staged))
        if len(committed) == after:
            raise KeyboardInterrupt
        return committed[-1]

    with monkeypatch.context() as patched:
        patched.setattr(Appender, "commit", killed)
        patched.setattr(Appender, "take_back", lambda _: None)  # which who is killed cannot do
        with pytest.raises(KeyboardInterrupt):
            repair(store.root)
    assert len(committed) == after
    done = repair(store.root)
    assert done, done
    nan = range(30, 40) if done.from_index else ()  # it is NULL in the index
    contents = {
        number: (row.replace("nan", "None") if number in nan else row, *values)
        for number, (row, *values) in store.contents.items()
    }
    check_whole(dataclasses.replace(store, contents=contents), done)


def test_an_index_that_lacks_the_last_commit_still_knows_what_was_before(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    older = (store.root / "index.sqlite").read_bytes()
    with sqlstore.open(store.root, mode="a") as opened:
        opened[9:12].update(label="late")
        opened.extend([compacted.record(COUNT)])
        contents = compacted.contents(opened)
    (store.root / "index.sqlite").write_bytes(older)
    table_of_append(store)
    store.forget("cache")
    done = repair(store.root)
    assert done, done
    assert done.from_index == 10
    contents[33] = contents[33][0].replace("nan", "None"), *contents[33][1:]
    check_whole(dataclasses.replace(store, contents=contents), done)


def test_an_edit_that_is_lost_is_not_forgotten_because_the_cache_is_damaged_as_well(
    tmp_path: Path,
) -> None:
    store = made(tmp_path / "s")
    shutil.copytree(store.root / "cache", tmp_path / "older")
    with sqlstore.open(store.root, mode="a") as opened:
        opened[50:53].delete()
    link = list(links(store.root).values())[-1]
    store.flip(link.chunk, link.trailer.table_start + 100)
    store.forget("cache", "index.sqlite")
    (tmp_path / "older").rename(store.root / "cache")
    (path,) = (store.root / "cache").glob("*/locations-1-0.bin")
    data = bytearray(path.read_bytes())
    data[64] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptStoreError, match="accept_lost_edits=True"):
        repair(store.root)
    assert repair(store.root, accept_lost_edits=True).lost_edits == [link.trailer.number]
    assert verify(store.root)


def test_several_commits_of_which_only_the_numbers_are_known(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    with sqlstore.open(store.root, mode="a") as opened:
        ids = opened.extend([compacted.record(COUNT + i) for i in range(20)])
    last = links(store.root)
    chunk = store.link(CommitKind.UPDATE).chunk
    assert last[max(last)].chunk != chunk
    gone = [link.trailer for link in store.links.values() if link.chunk == chunk]
    store.forget("cache", "index.sqlite", f"chunks/{chunk}")
    done = repair(store.root, accept_lost_edits=True)
    assert done.lost_commits == [trailer.number for trailer in gone]
    assert done.lost_edits == done.lost_commits[1:]
    assert done.lost_records == list(range(gone[0].first_record, ids[0]))
    assert verify(store.root)


@pytest.mark.parametrize("kind", [CommitKind.UPDATE, CommitKind.DELETE])
def test_a_record_whose_key_another_has_since_a_lost_edit_is_lost(
    tmp_path: Path, kind: CommitKind
) -> None:
    root, key = tmp_path / "s", {"k": "string"}
    with sqlstore.create(root, fields={"b": "bytes"}, metadata=key, key="k") as store:
        store.extend({"b": b"x", "k": f"k{i}"} for i in range(4))
        if kind == CommitKind.UPDATE:  # a record with a lower id gets the key that is free
            store[3:4].update(k="other")
            store[:1].update(k="k3")
        else:
            store[:1].delete()
            store.extend([{"b": b"y", "k": "k0"}])
    one = Made(root, {}, links(root))
    link = one.link(kind)
    one.flip(link.chunk, link.trailer.table_start + 100)
    one.forget("cache", "index.sqlite")
    done = repair(root, accept_lost_edits=True)
    lost = 3 if kind == CommitKind.UPDATE else 0
    assert (done.lost_records, done.lost_edits) == ([lost], [link.trailer.number])
    assert verify(root)
    with sqlstore.open(root) as store:
        assert len(store) == (3 if kind == CommitKind.UPDATE else 4)
        assert store.get(key=f"k{lost}") == {"b": b"x" if lost else b"y", "k": f"k{lost}"}


@pytest.mark.parametrize("kind", [CommitKind.APPEND, CommitKind.UPDATE])
def test_null_in_the_index_is_nan_where_a_value_is_required(
    tmp_path: Path, kind: CommitKind
) -> None:
    root = tmp_path / "s"
    metadata = {"x": sqlstore.Column("float32", nullable=False)}
    with sqlstore.create(root, fields={"b": "bytes"}, metadata=metadata) as store:
        store.extend({"b": b"b", "x": float(i)} for i in range(3))
        store[1:2].update(x=float("nan"))
    one = Made(root, {}, links(root))
    link = one.link(kind)
    one.flip(link.chunk, link.trailer.table_start + 100)
    one.forget("cache")
    assert repair(root)
    assert verify(root)
    with sqlstore.open(root) as store:
        assert repr(store.to_arrow().column("x").to_pylist()) == "[0.0, nan, 2.0]"


def test_values_that_a_lost_compaction_has_moved_are_found_by_the_index(tmp_path: Path) -> None:
    root = tmp_path / "s"
    with compacted.new_store(root, 30) as store:
        compacted.compact(store)
        contents = compacted.contents(store)
    one = Made(root, contents, links(root))
    for link in one.links.values():
        if link.trailer.kind in (CommitKind.COMPACT, CommitKind.CHECKPOINT):
            one.flip(link.chunk, link.trailer.table_start + 200)
    one.forget("cache")
    done = repair(root)
    assert done, done
    assert verify(root)
    with sqlstore.open(root) as store:
        there = compacted.contents(store)
    assert [row[1:] for row in there.values()] == [row[1:] for row in contents.values()]


@pytest.mark.parametrize("damage", [table_of_late_append, image_behind_a_checkpoint])
def test_what_was_edited_since_a_checkpoint_needs_no_cache(tmp_path: Path, damage: Damage) -> None:
    store = made(tmp_path / "s", compacting=True)
    with sqlstore.open(store.root, mode="a") as opened:
        opened[7:9].delete()
        store = dataclasses.replace(store, contents=compacted.contents(opened))
    damage(store)
    store.forget("cache")
    done = repair(store.root)
    assert bool(done.lost_values) == (damage is image_behind_a_checkpoint)
    ids = range(COUNT, COUNT + 6) if done.from_index else ()
    contents = {
        number: (row.replace("nan", "None") if number in ids else row, *values)
        for number, (row, *values) in store.contents.items()
    }
    check_whole(dataclasses.replace(store, contents=contents), done)


def test_commits_are_missed_that_only_a_checkpoint_knows_of(tmp_path: Path) -> None:
    store = made(tmp_path / "s", compacting=True)
    chunk = store.link(CommitKind.COMPACT).chunk
    assert chunk != store.link(CommitKind.CHECKPOINT).chunk
    with (store.root / "chunks" / chunk).open("r+b") as file:
        file.truncate(3000)
    done = repair(store.root)
    assert {fault.chunk for fault in done.lost_values} == {chunk}
    check_whole(store, done)


def test_a_damaged_commit_of_a_dictionary_is_known_to_the_index(
    trained: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(trained, tmp_path / "s")
    with sqlstore.open(root) as store:
        before = store.fetch(slice(None))
    one = Made(root, {}, links(root))
    first, second = (one.link(CommitKind.DICTIONARY, n) for n in (0, 1))
    one.flip(first.chunk, first.trailer.table_start + 100)
    one.flip(second.chunk, second.trailer.table_end + 30)
    one.forget("cache")
    done = repair(root)
    assert done, done
    assert verify(root)
    with sqlstore.open(root) as store:
        assert store.fetch(slice(None)) == before


def test_a_subset_that_the_index_has_wrong_is_taken_from_the_log(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    with sqlstore.open(store.root, mode="a") as opened:
        opened[:3].save("second")
    link = list(links(store.root).values())[-1]
    store.flip(link.chunk, link.trailer.table_start + 100)
    with contextlib.closing(sqlite3.connect(store.root / "index.sqlite")) as index, index:
        index.execute("DELETE FROM subset_records WHERE position = 0 AND subset < 12")
    assert repair(store.root)
    assert verify(store.root)
    with sqlstore.open(store.root) as opened:
        assert [(one.name, len(opened.subset(one.name))) for one in opened.subsets()] == [
            ("low", 27),
            ("second", 3),
        ]


def test_of_a_snapshot_whose_commit_is_damaged_the_name_is_known(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    with sqlstore.open(store.root, mode="a") as opened:
        opened.snapshot("v1")
    link = list(links(store.root).values())[-1]
    store.flip(link.chunk, link.trailer.table_start + 100)
    with pytest.raises(CorruptStoreError, match="snapshots 'v1' need chunks"):
        repair(store.root)
    done = repair(store.root, drop_snapshots=True)
    assert (done.lost_snapshots, done.lost_edits) == (["v1"], [])
    check_whole(store, done)


def test_a_snapshot_may_have_the_name_of_the_index(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    with sqlstore.open(store.root, mode="a") as opened:
        opened.snapshot("index")
    with contextlib.closing(sqlite3.connect(store.root / "index.sqlite")) as index, index:
        index.execute("DELETE FROM subsets")
    done = repair(store.root)
    (folder,) = (store.root / "quarantine").iterdir()
    for name in ("index.sqlite", "snapshots/index.sqlite"):
        assert name in done.quarantined
        assert (folder / name).is_file()
    report = json.loads((folder / "report.json").read_text())
    assert report == done.as_dict()
    assert report["done"]
    check_whole(store, done)


def test_a_quarantine_that_leads_out_of_the_store_is_refused(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    table_of_append(store)
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.root / "quarantine").symlink_to(outside)
    before = {p.name: p.read_bytes() for p in (store.root / "chunks").iterdir()}
    with pytest.raises(sqlstore.StorageError, match="is a link"):
        repair(store.root)
    assert {p.name: p.read_bytes() for p in (store.root / "chunks").iterdir()} == before
    assert not list(outside.iterdir())


def test_where_the_cache_cannot_be_copied_for_want_of_room_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made(tmp_path / "s")
    table_of_append(store)
    store.forget("index.sqlite")

    def full(path: Path, data: object) -> None:
        with files.storage_errors("write", path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("sqlstore.maintenance.repair.remains.files.put", full)
        with pytest.raises(sqlstore.StoreFullError):
            repair(store.root)
    check_whole(store, repair(store.root))
