"""Snapshots: the store as it was, whatever comes later, and whatever happens to their files."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import os
import pickle
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sqlstore
from sqlstore import copies
from sqlstore.index.engine import Index
from tests import independent_reader
from tests.edited import assert_edited, new_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of ten records, whose column `n` is the id."""
    return new_store(tmp_path / "s", 10)


def taken(path: Path, *names: str) -> None:
    with sqlstore.open(path, "a") as store:
        for name in names:
            store.snapshot(name)


def shown(path: Path, name: str | None) -> dict[str, Any]:
    """Return all that is seen of a store, or of a snapshot of it."""
    with sqlstore.open(path, snapshot=name) as store:
        return {
            "records": [dict(record) for record in store],
            "metadata": store.to_arrow().to_pylist(),
            "rows": store.sql("SELECT * FROM records ORDER BY id").to_pylist(),
            "high": store.where("n > 6").ids.tolist(),
            "schema": store.schema,
            "subsets": [(one.name, one.records, one.deleted) for one in store.subsets()],
        }


def change_all(path: Path) -> None:
    """Change whatever can be changed of a store."""
    with sqlstore.open(path, "a") as store:
        store.extend([{"n": 10, "needed": 1, "note": "late"}])
        store[:2].update(label="new", score=1.5)
        store[2:4].replace("note", ["other", None])
        store[8:].delete()
        store.add_column("x", "int8", 1)
        store.rename_column("flag", "banner")
        store.drop_column("extra")
        store[:3].save("late")


def test_a_snapshot_shows_the_store_as_it_was(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[3:4].delete()
        store[:5].save("some")
    before = shown(path, None)
    with sqlstore.open(path, "a") as store:
        store.snapshot("v1", note="the first")
        (one,) = store.snapshots()
        assert (one.name, one.note) == ("v1", "the first")
        assert dt.datetime.now(dt.UTC) - one.taken_at < dt.timedelta(minutes=5)
        commits = store.sql("SELECT number, uuid FROM commits ORDER BY number").to_pylist()
        assert commits[-2] == {"number": one.commit, "uuid": str(one.commit_uuid)}
    change_all(path)
    assert shown(path, "v1") == before
    with sqlstore.open(path, snapshot="v1") as store:
        assert repr(store) == f"<sqlstore.Store {str(path)!r} at 'v1': 9 records>"
        with pytest.raises(sqlstore.RecordNotFoundError):
            store.get(10)
        store.refresh()
        assert len(store) == 9
    found = independent_reader.read(path)["snapshots"]
    assert found == {"v1": {"name": "v1", "note": "the first", "commit": one.commit}}
    assert_edited(path)


def test_the_cache_of_the_present_stays(path: Path) -> None:
    taken(path, "v1")
    change_all(path)
    shown(path, None)
    manifest = (path / "cache" / "manifest.json").read_bytes()
    index = (path / "index.sqlite").stat().st_mtime_ns
    shown(path, "v1")
    assert (path / "cache" / "manifest.json").read_bytes() == manifest
    assert (path / "index.sqlite").stat().st_mtime_ns == index
    assert len(list((path / "cache" / "snapshots").iterdir())) == 1


def test_a_rebuild_makes_all_snapshots_anew(path: Path) -> None:
    empty = sqlstore.create(path.with_name("empty"), fields={"f": "utf8"}, metadata={"n": "int8"})
    with empty:
        empty.snapshot("empty")
        empty.extend([{"n": 1}])
        empty.snapshot("dropped")
        empty.drop_snapshot("dropped")
    taken(path, "v1", "v2")
    before = shown(path, "v1")
    change_all(path)
    taken(path, "v3")
    now = shown(path, None)
    for root in (path, empty.path):
        shutil.rmtree(root / "cache", ignore_errors=True)
        shutil.rmtree(root / "snapshots")
        (root / "index.sqlite").unlink()
        sqlstore.rebuild(root)
    assert shown(path, "v1") == shown(path, "v2") == before
    assert shown(path, "v3") == now
    with sqlstore.open(empty.path, snapshot="empty") as store:
        assert len(store) == 0
        assert [one.name for one in store.snapshots()] == []
        assert store.verify()
    assert copies.paths(empty.path) == [empty.path / "snapshots" / "empty.sqlite"]
    assert_edited(path)


def test_a_rebuild_gives_snapshots_their_keys_back(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s", 4, key="label")
    taken(path, "v1")
    with sqlstore.open(path, "a") as store:
        store[:1].delete()
        store.extend([{"n": 9, "label": "l0"}])
        store.take([0, 1]).update(label=pa.array(["l2", "l1"]))
        store.snapshot("v2")
        store[:1].update(label="free")
    sqlstore.rebuild(path)
    for name, key, n in ((None, "l2", None), ("v1", "l0", 0), ("v2", "l0", 9), ("v2", "l2", 1)):
        with sqlstore.open(path, snapshot=name) as store:
            if n is None:
                with pytest.raises(sqlstore.RecordNotFoundError):
                    store.get(key=key)
            else:
                assert store.get(key=key)["n"] == n
    assert_edited(path)


def test_a_snapshot_is_dropped(path: Path) -> None:
    taken(path, "a", "b")
    before = shown(path, "b")
    shown(path, "a")
    with sqlstore.open(path, "a") as store, sqlstore.open(path, snapshot="a") as old:
        with pytest.raises(sqlstore.SnapshotExistsError, match="'a' already"):
            store.snapshot("a")
        store.drop_snapshot("a")
        assert [one.name for one in store.snapshots()] == ["b"]
        with pytest.raises(sqlstore.SnapshotNotFoundError, match="'a'; there are 'b'"):
            sqlstore.open(path, snapshot="a")
        with pytest.raises(sqlstore.SnapshotNotFoundError, match="'a'; there are 'b'"):
            store.drop_snapshot("a")
        assert [one.name for one in copies.paths(path)] == ["b.sqlite"]
        assert len(list((path / "cache" / "snapshots").iterdir())) == 1
        assert old.where("n > 6").to_arrow()["n"].to_pylist() == [7, 8, 9]
        store[:1].delete()
        store.snapshot("a")
    assert len(shown(path, "a")["records"]) == 9
    assert shown(path, "b") == before
    assert_edited(path)


def test_a_copy_of_no_commit_is_removed_by_the_next(path: Path) -> None:
    taken(path, "a")
    folder = path / "snapshots"
    shutil.copy(folder / "a.sqlite", folder / "orphan.sqlite")
    (folder / "b.sqlite.0123abcd.new").write_bytes(b"half")
    (folder / "b.sqlite.0123abcd.new-journal").write_bytes(b"half")
    (folder / "notes.txt").write_text("of a person")
    with pytest.raises(sqlstore.SnapshotNotFoundError):
        sqlstore.open(path, snapshot="orphan")
    taken(path, "orphan", "c")
    names = ["a.sqlite", "c.sqlite", "notes.txt", "orphan.sqlite"]
    assert sorted(one.name for one in folder.iterdir()) == names
    assert_edited(path)


BAD = [
    "", " a", "a\n", 3, ".a", "a.", "a/b", "a\\b", "../a", "..", "a:b", "a?", "a*", 'a"', "a<b",
    "a|b", "con", "NUL.txt", "Com1", "x" * 129, "é" * 65, "a\0", "a\u202eb",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name_is_refused_before_anything_is_written(path: Path, name: Any) -> None:
    size = sum(one.stat().st_size for one in (path / "chunks").iterdir())
    with sqlstore.open(path, "a") as store, pytest.raises(sqlstore.SchemaError, match="name"):
        store.snapshot(name)
    assert sum(one.stat().st_size for one in (path / "chunks").iterdir()) == size
    assert not (path / "snapshots").exists()


@pytest.mark.parametrize(
    ("name", "twin"), [("v1", "V1"), ("Straße", "STRASSE"), ("caf\u00e9", "cafe\u0301")]
)
def test_names_that_file_systems_may_take_for_one_are_refused(
    path: Path, name: str, twin: str
) -> None:
    taken(path, name)
    with (
        sqlstore.open(path, "a") as store,
        pytest.raises(sqlstore.SnapshotExistsError, match=f"{name!r} already"),
    ):
        store.snapshot(twin)
    assert [one.name for one in copies.paths(path)] == [f"{name}.sqlite"]


@pytest.mark.parametrize("name", ["v 1", "é" * 64, "x" * 128, "2024-01-01", "100%_#", "'"])
def test_other_names_work(path: Path, name: str) -> None:
    before = shown(path, None)
    taken(path, name)
    change_all(path)
    assert shown(path, name) == before
    assert_edited(path)


def test_a_snapshot_can_only_be_read(path: Path) -> None:
    taken(path, "v1")
    with pytest.raises(sqlstore.ReadOnlyError, match="never changes"):
        sqlstore.open(path, "a", snapshot="v1")
    with sqlstore.open(path, snapshot="v1") as store:
        for change in (store.delete, lambda: store.extend([{}]), lambda: store.snapshot("x")):
            with pytest.raises(sqlstore.ReadOnlyError, match=r"'v1' of .* never changes"):
                change()
    with sqlstore.open(path) as store, pytest.raises(sqlstore.ReadOnlyError, match='mode="a"'):
        store.drop_snapshot("v1")


def damage_text(copy: Path) -> None:
    copy.write_bytes(b"no database")


def damage_all(copy: Path) -> None:
    copy.write_bytes(b"")


def damage_pages(copy: Path) -> None:
    data = bytearray(copy.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    copy.write_bytes(data)


def damage_history(copy: Path) -> None:
    with sqlite3.connect(copy) as connection:
        connection.execute("DELETE FROM commits WHERE number = (SELECT max(number) FROM commits)")
    connection.close()


@pytest.mark.parametrize(
    "damage", [Path.unlink, damage_text, damage_all, damage_pages, damage_history]
)
def test_a_damaged_copy_is_named_with_what_to_do(path: Path, damage: Any) -> None:
    before = shown(path, None)
    taken(path, "v1")
    change_all(path)
    now = shown(path, None)
    damage(path / "snapshots" / "v1.sqlite")
    with pytest.raises(sqlstore.CorruptIndexError) as caught:
        sqlstore.open(path, snapshot="v1").where("n > 0")
    assert str(path / "snapshots" / "v1.sqlite") in str(caught.value)
    assert str(caught.value).endswith(f"run `sqlstore rebuild {path}`")
    assert shown(path, None) == now
    report = sqlstore.verify(path)
    assert report.faults
    assert all("v1.sqlite" in fault.message for fault in report.faults), report
    sqlstore.rebuild(path)
    assert shown(path, "v1") == before
    assert_edited(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE commits SET committed_at = 0 WHERE number = 2", "another commit 2 than the log"),
        ("DELETE FROM commits WHERE number = 2", "another commit 2 than the log"),
        ("CREATE TABLE mine (x)", "v1.sqlite has something that is not sqlstore's, mine"),
    ],
)
def test_verify_checks_the_copies(path: Path, change: str, said: str) -> None:
    taken(path, "v1")
    connection = sqlite3.connect(path / "snapshots" / "v1.sqlite")
    connection.execute(change)
    connection.commit()
    connection.close()
    (fault,) = sqlstore.verify(path).faults
    assert said in fault.message
    assert "sqlstore rebuild" in fault.message


def test_a_copy_of_another_snapshot_is_refused(path: Path) -> None:
    taken(path, "v1")
    change_all(path)
    taken(path, "v2")
    shutil.copy(path / "snapshots" / "v1.sqlite", path / "snapshots" / "v2.sqlite")
    with pytest.raises(sqlstore.CorruptIndexError, match="but snapshot 'v2' shows commit"):
        sqlstore.open(path, snapshot="v2")
    assert len(sqlstore.verify(path).faults) == 1


def test_a_snapshot_in_a_folder_that_cannot_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    before = shown(path, None)
    taken(path, "v1")
    change_all(path)
    shutil.rmtree(path / "cache", ignore_errors=True)
    monkeypatch.setattr(os, "access", lambda *_: False)
    files = sorted(path.rglob("*"))
    assert shown(path, "v1") == before
    assert sorted(path.rglob("*")) == files
    assert len(list((tmp_path / "home").glob("sqlstore/*/snapshots/*"))) == 1


def notes_of(pickled: bytes) -> list[Any]:
    view = pickle.loads(pickled)
    found = view.where("n >= 0").to_arrow()["n"].to_pylist()
    return [*(record["note"] for record in view), *found]


def test_views_of_a_snapshot_go_to_other_processes(path: Path) -> None:
    taken(path, "v1")
    with sqlstore.open(path, "a") as store:
        store[7:].delete()
        store.update(n=-1)
    with sqlstore.open(path, snapshot="v1") as store:
        pickled = pickle.dumps(store[6:])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(notes_of, (pickled,))
    assert found == ["note 6", "note 7", "note 8", "note 9", 6, 7, 8, 9]
    assert found == notes_of(pickled)
    shutil.rmtree(path / "cache")
    assert found == notes_of(pickled)


def test_another_snapshot_of_the_name_is_not_taken_for_it(path: Path) -> None:
    taken(path, "v1")
    with sqlstore.open(path, snapshot="v1") as old:
        pickled = pickle.dumps(old[:3])
        assert notes_of(pickled)[3:] == [0, 1, 2]
    with sqlstore.open(path, "a") as store:
        store.drop_snapshot("v1")
        store.update(n=-1)
        store.snapshot("v1")
    assert {row["n"] for row in shown(path, "v1")["rows"]} == {-1}
    with pytest.raises(sqlstore.SnapshotNotFoundError, match="'v1' was dropped"):
        notes_of(pickled)


def test_views_of_a_snapshot_and_of_the_present_are_combined(path: Path) -> None:
    taken(path, "v1")
    change_all(path)
    with sqlstore.open(path) as store, sqlstore.open(path, snapshot="v1") as old:
        assert (old - store).ids.tolist() == [8, 9]
        assert (store - old).ids.tolist() == []
        assert (store & old)[0]["label"] == "new"


def test_snapshots_are_taken_while_others_commit(path: Path) -> None:
    """Whatever is committed meanwhile, a snapshot has whole commits, and those before its own."""
    stop = threading.Event()

    def keep_committing() -> None:
        with sqlstore.open(path, "a") as store:
            while not stop.is_set():
                ids = store.extend([{"n": 1, "needed": 1}] * 5)
                store.take([-1, -2]).update(n=2)
                assert len(ids) == 5

    thread = threading.Thread(target=keep_committing)
    thread.start()
    try:
        with sqlstore.open(path, "a") as store:
            for number in range(6):
                store.snapshot(f"v{number}")
            known = store.snapshots()
    finally:
        stop.set()
        thread.join()
    counts = []
    for one in known:
        with sqlstore.open(path, snapshot=one.name) as old:
            counts.append(len(old))
            assert old.sql("SELECT count(*) AS n FROM commits")["n"].to_pylist() == [one.commit]
    assert counts == sorted(counts)
    assert all(count % 5 == 0 for count in counts)
    assert_edited(path)


def test_a_damaged_commit_of_a_snapshot_is_named(path: Path) -> None:
    taken(path, "v1")
    (chunk,) = (path / "chunks").iterdir()
    commit = independent_reader.read(path)["commits"][-1]
    data = bytearray(chunk.read_bytes())
    data[commit["table_start"] + 100] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(sqlstore.CorruptChunkError, match="segment table"):
        sqlstore.open(path, snapshot="v1")
    with sqlstore.open(path) as store:
        assert len(store) == 10
        assert not store.verify()


def test_a_name_in_the_log_that_leads_elsewhere_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path / "snapshots").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(copies, "check_name", lambda _: None)
        taken(path, "../evil")
    (path / "evil.sqlite").rename(path.parent / "kept.sqlite")
    with pytest.raises(sqlstore.CorruptChunkError, match="about no snapshot: the name"):
        sqlstore.open(path, snapshot="../evil")
    with pytest.raises(sqlstore.CorruptChunkError, match="about no snapshot: the name"):
        sqlstore.rebuild(path)
    assert "about no snapshot" in str(sqlstore.verify(path))
    assert not (path / "evil.sqlite").exists()


def test_a_folder_of_snapshots_that_is_a_link_is_left_alone(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.sqlite").write_text("precious")
    (path / "snapshots").symlink_to(elsewhere)
    with sqlstore.open(path, "a") as store, pytest.raises(sqlstore.StorageError, match="is a link"):
        store.snapshot("v1")
    sqlstore.migrate(path)
    sqlstore.rebuild(path)
    assert [one.name for one in elsewhere.iterdir()] == ["precious.sqlite"]


def test_a_copy_that_cannot_be_made_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Index, copy: Path) -> None:
        copy.write_bytes(b"half")
        raise sqlstore.StoreFullError("no space left")

    with sqlstore.open(path, "a") as store:
        with monkeypatch.context() as patch:
            patch.setattr(Index, "copy_to", full)
            with pytest.raises(sqlstore.StoreFullError):
                store.snapshot("v1")
        assert store.snapshots() == []
        assert list((path / "snapshots").iterdir()) == []
        store.snapshot("v1")
    assert len(shown(path, "v1")["records"]) == 10
    assert_edited(path)
