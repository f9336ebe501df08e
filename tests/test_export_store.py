"""A view as a new store: bytes as they are stored, and everything else that is known."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import founding
from sqlstore.export import stores
from sqlstore.staged import StagedAppend
from tests.all_kinds import COUNT, exactly, make, record_of
from tests.small_records import ENOUGH, dictionaries, line_of, parts_of
from tests.stored import bodies, damage


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    with sqlstore.open(make(tmp_path_factory.mktemp("copy") / "s", chunk_size=4096)) as opened:
        yield opened


def test_a_copy_is_the_same_in_every_byte(store: sqlstore.Store, tmp_path: Path) -> None:
    done = store.export_store(tmp_path / "copy")

    chunks = list((tmp_path / "copy" / "chunks").iterdir())
    assert done == sqlstore.Exported(COUNT, len(chunks), sum(p.stat().st_size for p in chunks))
    assert bodies(tmp_path / "copy") == bodies(store.path)
    with sqlstore.open(tmp_path / "copy", "a") as copy:
        assert copy.schema == store.schema
        assert list(map(exactly, copy)) == list(map(exactly, store))
        assert copy.verify()
        assert copy.get(key="dir/007")["n"] == 7
        with pytest.raises(sqlstore.DuplicateKeyError):
            copy.extend([record_of(7)])
        copy.extend([{"n": 99, "key": "new", "packed": "x"}])
        assert copy[-1]["packed"] == "x"
    assert sqlstore.rebuild(tmp_path / "copy") == COUNT + 1


@given(
    chosen=st.lists(st.integers(0, COUNT - 1), max_size=70),
    names=st.sets(
        st.sampled_from(["plain", "packed", "numbers", "array", "n", "float64", "zoned"])
    ),
    at_once=st.integers(1, 80),
)
@settings(max_examples=25, deadline=None)
def test_a_copy_has_what_the_view_selects_in_its_order(
    store: sqlstore.Store,
    tmp_path_factory: pytest.TempPathFactory,
    chosen: list[int],
    names: set[str],
    at_once: int,
) -> None:
    path = tmp_path_factory.mktemp("some") / "copy"
    view = store.take(chosen).select(*names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "_AT_ONCE", at_once)
        if not names:
            with pytest.raises(sqlstore.SchemaError, match="select some"):
                view.export_store(path)
            return
        view.export_store(path)
    with sqlstore.open(path) as copy:
        assert copy.schema.names == names
        assert copy.ids.tolist() == list(range(len(chosen)))
        assert copy.to_arrow().drop(["id"]).schema == view.to_arrow().drop(["id"]).schema
        assert list(map(exactly, copy)) == list(map(exactly, view))
        assert copy.verify()
    shutil.rmtree(path)


def test_dictionaries_come_along_and_no_more_than_are_needed(trained: Path, tmp_path: Path) -> None:
    with sqlstore.open(trained) as store:
        store[::-2].export_store(tmp_path / "both")
        store[:50].select("parts", "n").export_store(tmp_path / "one")
    numbers = list(range(ENOUGH))[::-2]
    with sqlstore.open(tmp_path / "both") as copy:
        assert [r["line"] for r in copy] == [line_of(i) for i in numbers]
        assert [r["parts"] for r in copy] == [parts_of(i) for i in numbers]
        assert copy.verify()
    with sqlstore.open(tmp_path / "one", "a") as copy:
        assert [r["parts"] for r in copy] == [parts_of(i) for i in range(50)]
        copy.extend([{"n": 7, "parts": parts_of(7)}])
        assert copy[-1]["parts"] == parts_of(7)
        assert copy.verify()
    assert [(d["number"], d["field"]) for d in dictionaries(tmp_path / "one")] == [(0, 0)]
    assert len(dictionaries(tmp_path / "both")) == 2


def test_nothing_is_decompressed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decompressed")

    with sqlstore.open(trained) as store:
        for name in (
            "sqlstore.reading.field.decompress",
            "sqlstore.reading.field.decompress_many",
            "sqlstore.sequences.decompress",
            "sqlstore.dictionaries.Dictionaries.decompress",
        ):
            monkeypatch.setattr(name, refuse)
        assert store.export_store(tmp_path / "copy").records == ENOUGH


@pytest.mark.parametrize("io", ["mmap", "pread", "memory"])
@pytest.mark.parametrize("field", ["plain", "packed", "parts"])
def test_damage_is_found_and_leaves_nothing(tmp_path: Path, io: Any, field: str) -> None:
    path = make(tmp_path / "s", 9)
    damage(path, field)
    with sqlstore.open(path, io=io) as store:
        with pytest.raises(sqlstore.ChecksumError, match=f"field {field}"):
            store.export_store(tmp_path / "copy")
        assert [p.name for p in tmp_path.iterdir()] == ["s"]
        store.select("array").export_store(tmp_path / "copy")


def test_a_chunk_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "s", 9)
    sqlstore.open(path).close()
    (chunk,) = (path / "chunks").iterdir()
    with sqlstore.open(path, io="pread") as store:
        chunk.write_bytes(chunk.read_bytes()[:400])
        with pytest.raises(sqlstore.TruncatedChunkError, match="field parts"):
            store.select("parts").export_store(tmp_path / "copy")


def test_what_cannot_be_is_refused_at_once(store: sqlstore.Store, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(sqlstore.StoreExistsError):
        store.export_store(tmp_path / "there")
    with pytest.raises(sqlstore.ExportError, match="inside the store"):
        store.export_store(store.path / "chunks" / "copy")
    twice = store.take([3, 3])
    with pytest.raises(sqlstore.DuplicateKeyError, match="leave it out by `select`"):
        twice.export_store(tmp_path / "copy")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    twice.select("n", "packed").export_store(tmp_path / "copy")
    with sqlstore.open(tmp_path / "copy") as copy:
        assert [record["n"] for record in copy] == [3, 3]
        assert copy.schema.key is None


@pytest.mark.parametrize("where", ["commit", "rename"])
def test_what_is_interrupted_leaves_nothing(
    store: sqlstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    if where == "commit":
        monkeypatch.setattr(StagedAppend, "insert", interrupted)
    else:
        monkeypatch.setattr(founding, "_rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.export_store(tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_views_without_records_and_from_other_processes_are_copied(
    store: sqlstore.Store, tmp_path: Path
) -> None:
    import pickle

    assert store[:0].export_store(tmp_path / "none").records == 0
    with sqlstore.open(tmp_path / "none") as copy:
        assert len(copy) == 0
        assert copy.schema == store.schema
    view = pickle.loads(pickle.dumps(store.where("n > 50")))
    view.export_store(tmp_path / "some")
    with sqlstore.open(tmp_path / "some") as copy:
        assert np.array_equal(copy.to_arrow()["n"], np.arange(51, COUNT))
    with sqlstore.create(tmp_path / "empty", fields={"f": "utf8[]"}) as empty:
        empty.export_store(tmp_path / "empty too")
