"""What no program should decide: a repair changes nothing, and says what there is to choose."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import sqlstore
from sqlstore import CorruptStoreError, repair, verify
from sqlstore.log.segment import CommitKind
from tests import broken, compacted
from tests.broken import (
    COUNT,
    check_whole,
    made,
    new,
    table_of_append,
)


@pytest.fixture(scope="module", autouse=True)
def templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    broken.use(tmp_path_factory.mktemp("templates"))


def test_a_missing_chunk_of_which_nothing_tells_is_a_question(tmp_path: Path) -> None:
    store = made(tmp_path / "s", compacting=True)
    part = store.link(CommitKind.CHECKPOINT_PART)
    store.flip(part.chunk, part.trailer.table_start + 400)
    edit = store.link(CommitKind.UPDATE, -1)
    store.flip(edit.chunk, edit.trailer.table_start + 100)
    store.forget("cache", "index.sqlite")
    before = sorted((store.root / "chunks").iterdir())
    with pytest.raises(CorruptStoreError, match="accept_lost_edits=True"):
        repair(store.root)
    assert sorted((store.root / "chunks").iterdir()) == before
    assert not (store.root / "quarantine").exists()
    done = repair(store.root, accept_lost_edits=True)
    assert done.lost_edits == [edit.trailer.number]
    assert not done
    assert done.lost_records == list(range(COUNT))  # also those that were deleted before
    assert verify(store.root)


def test_a_snapshot_that_needs_a_damaged_chunk_is_a_question(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    with sqlstore.open(store.root, mode="a") as opened:
        opened.snapshot("v1")
    table_of_append(store)
    with pytest.raises(
        CorruptStoreError, match=r"snapshots 'v1' need chunks .*drop_snapshots=True"
    ):
        repair(store.root)
    done = repair(store.root, drop_snapshots=True)
    assert done.lost_snapshots == ["v1"]
    assert any(path.endswith("v1.sqlite") for path in done.quarantined)
    check_whole(store, done)


def test_an_index_of_another_store_is_a_question(tmp_path: Path) -> None:
    store, other = made(tmp_path / "s"), new(tmp_path / "other", compacting=False)
    shutil.copyfile(other.root / "index.sqlite", store.root / "index.sqlite")
    with pytest.raises(CorruptStoreError, match="of another store"):
        repair(store.root)
    store.forget("index.sqlite")
    check_whole(store, repair(store.root))


def test_chunks_of_two_copies_are_a_question(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    shutil.copytree(store.root, tmp_path / "copy")
    for number, root in enumerate([store.root, tmp_path / "copy"]):
        with sqlstore.open(root, mode="a") as opened:
            opened.extend([compacted.record(1000 + number)])
    for path in (tmp_path / "copy" / "chunks").iterdir():
        shutil.copyfile(path, store.root / "chunks" / path.name.replace("00000", "90000", 1))
    with pytest.raises(sqlstore.ForkedLogError, match="keep those of one"):
        repair(store.root)
