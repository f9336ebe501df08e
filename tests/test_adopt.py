"""Chunk files of other stores that are taken over, without anything else of these stores."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import sqlstore
from sqlstore.log import files
from tests.all_kinds import make
from tests.merge_programs import record_of, write
from tests.stored import bodies


def chunks_of(path: Path) -> list[Path]:
    return sorted(path.glob("chunks/*.chunk"))


def names_in(path: Path) -> list[str]:
    with sqlstore.open(path) as store:
        report = store.verify()
        assert report, report
        names: list[str] = store.to_arrow()["name"].to_pylist()
        return names


def names_of(writer: int, count: int) -> list[str]:
    return [record_of(writer, number)["name"] for number in range(count)]


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
def test_the_chunks_of_stores_become_records(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
    a, b = write(tmp_path / "a", 1, 40, chunk_size=1024), write(tmp_path / "b", 2, 5)
    chunks = [*chunks_of(b), *chunks_of(a)]
    assert len(chunks_of(a)) > 1
    known = {chunk: chunk.read_bytes() for chunk in chunks}
    for path in (a, b):
        (path / "index.sqlite").unlink()
    with sqlstore.open(write(tmp_path / "all", 0, 3), "a") as store:
        done = store.adopt(*chunks)
        assert len(store) == 48
        assert (done.counts, done.skipped) == ((5, 40), 0)
        assert done.ids.tolist() == list(range(3, 48))
    assert names_in(tmp_path / "all") == [*names_of(0, 3), *names_of(2, 5), *names_of(1, 40)]
    assert {chunk: chunk.read_bytes() for chunk in chunks} == known
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "all", "b"]


def test_bytes_and_edits_come_along(tmp_path: Path) -> None:
    with sqlstore.open(make(tmp_path / "s"), "a") as store:
        store[:5].delete()
        store[:1].update(string="changed")
        store.snapshot("v1")
    sqlstore.merge(tmp_path / "expected", tmp_path / "s")
    with sqlstore.open(make(tmp_path / "all", 0), "a") as store:
        store.adopt(*chunks_of(tmp_path / "s"))
        assert store.verify()
    assert bodies(tmp_path / "all") == bodies(tmp_path / "expected")


def test_names_do_not_matter_nor_chunks_that_were_never_committed_to(tmp_path: Path) -> None:
    source = write(tmp_path / "s", 1, 40, chunk_size=1024)
    moved = []
    for number, chunk in enumerate(reversed(chunks_of(source))):
        moved.append(chunk.rename(tmp_path / f"part-{number}"))
    (tmp_path / "empty.chunk").touch()
    begun = tmp_path / "begun"
    begun.write_bytes(moved[0].read_bytes()[:64] + b"bodies of a killed writer")
    with sqlstore.open(write(tmp_path / "all", 0, 3), "a") as store:
        with pytest.raises(sqlstore.MergeError, match="none of these files"):
            store.adopt(tmp_path / "empty.chunk")
        store.adopt(tmp_path / "empty.chunk", begun, *moved)
    assert names_in(tmp_path / "all") == [*names_of(0, 3), *names_of(1, 40)]


def test_an_older_copy_of_a_chunk_takes_nothing_away(tmp_path: Path) -> None:
    source = write(tmp_path / "s", 1, 6)
    (chunk,) = chunks_of(source)
    older = tmp_path / "older" / chunk.name
    older.parent.mkdir()
    shutil.copyfile(chunk, older)
    with sqlstore.open(source, "a") as store:
        store.extend([record_of(1, 6)])
    with sqlstore.open(write(tmp_path / "all", 0, 3), "a") as store:
        store.adopt(chunk, older)
    assert names_in(tmp_path / "all") == [*names_of(0, 3), *names_of(1, 7)]


def test_what_cannot_be_adopted_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "s", 1, 40, chunk_size=1024)
    first, *others = chunks_of(source)
    target = write(tmp_path / "all", 0, 3)
    damaged = tmp_path / "damaged.chunk"
    damaged.write_bytes(b"\x00" + others[0].read_bytes()[1:])
    shutil.copytree(target, tmp_path / "copy")
    link = tmp_path / "link"
    link.symlink_to(first)
    before = sorted(path.name for path in tmp_path.iterdir())
    with sqlstore.open(target, "a") as store:
        for chunks in (others, [first, *others[1:]], [first, others[-1]]):
            with pytest.raises(sqlstore.CorruptStoreError, match=f"the store of {chunks[0]}"):
                store.adopt(*chunks)
        with pytest.raises(sqlstore.CorruptChunkError, match=f"damaged .chunk {damaged}"):
            store.adopt(first, damaged, *others[1:])
        with pytest.raises(sqlstore.StorageError, match="nowhere"):
            store.adopt(tmp_path / "nowhere.chunk")
        with pytest.raises(sqlstore.MergeError, match="is a folder; give the chunk files"):
            store.adopt(source / "chunks")
        with pytest.raises(sqlstore.StorageError, match="is a link"):
            store.adopt(link, *others)
        with pytest.raises(sqlstore.MergeError, match="a chunk of the target itself"):
            store.adopt(first, *others, *chunks_of(tmp_path / "copy"))
        with pytest.raises(TypeError, match="at least one chunk file"):
            store.adopt()
        store.extend([record_of(1, 7)])
        with pytest.raises(
            sqlstore.DuplicateKeyError, match=r"record 7 of the store of .*chunk is"
        ):
            store.adopt(first, *others)
        done = store.adopt(first, *others, on_duplicate="skip")
        assert (len(done.ids), done.skipped) == (39, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with sqlstore.open(target) as store, pytest.raises(sqlstore.ReadOnlyError):
        store.adopt(first)


def test_a_link_that_fails_for_another_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(sqlstore.StoreFullError, match=str(tmp_path / "a")):
        files.link_or_copy(tmp_path / "a", tmp_path / "b")
