"""Compaction: what is freed, and what must not change by it."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import pickle
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import sqlstore
from sqlstore import limits
from sqlstore.compaction import compacting, staged
from sqlstore.index.engine import Index
from sqlstore.log.segment import Trailer
from tests import independent_reader, small_records
from tests.compacted import COUNT, chunk_files, compact, contents, new_store, record
from tests.edited import assert_edited

verifying = importlib.import_module("sqlstore.maintenance.verify")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with new_store(tmp_path / "store") as store:
        store.where("n % 3 = 0").delete()
        store.where("n % 3 = 1").update(label="new")
        store.take([0, 1, 2]).replace("image", [b"x" * 50, None, b"z" * 2000])
    return tmp_path / "store"


def test_it_says_first_what_it_would_do(path: Path) -> None:
    before = chunk_files(path)
    with sqlstore.open(path) as store:
        plan = store.compact(dry_run=True)
    assert chunk_files(path) == before
    assert not plan.done
    assert {chunk.name: chunk.size for chunk in plan.chunks} == before
    assert plan.of_fate("rewrite")
    assert "to rewrite" in str(plan)
    with sqlstore.open(path, "a") as store:
        done = store.compact()
    assert [chunk.fate for chunk in done.chunks] == [chunk.fate for chunk in plan.chunks]
    assert done.copied == plan.copied
    assert 0.8 * plan.freed <= done.freed == sum(before.values()) - sum(chunk_files(path).values())
    assert "rewrote" in str(done)


def test_garbage_is_gone_and_nothing_else(path: Path) -> None:
    before = chunk_files(path)
    with sqlstore.open(path, "a") as store:
        expected = contents(store)
        done = compact(store)
        assert contents(store) == expected
        report = store.verify()
        assert report, report
        live = sum(len(image or b"") for _, image, _ in expected.values())
    assert done.done
    assert not before.keys() & chunk_files(path).keys()
    assert sum(chunk_files(path).values()) < live + 80 * sqlstore.KiB
    shutil.rmtree(path / "cache")
    with sqlstore.open(path) as store:
        assert contents(store) == expected
    assert_edited(path)


def test_there_is_nothing_to_do_twice(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.compact()
        before = chunk_files(path)
        again = store.compact()
    assert chunk_files(path) == before
    assert again.done
    assert (again.copied, again.freed) == (0, 0)
    assert "nothing to gain" in str(again)


def test_it_goes_on_being_appended_to_edited_and_compacted(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        expected = contents(store)
        for round_ in range(3):
            compact(store)
            ids = store.extend([record(1000 + round_)] * 3)
            assert ids.tolist() == [COUNT + 3 * round_ + i for i in range(3)]
            store[-1:].delete()
            store[-1:].update(label="last")
            expected |= contents(store[-2:])
            assert contents(store) == expected
        store.add_column("extra", "int64", np.arange(len(store)))
        store.drop_column("score")
        compact(store)
        assert store.to_arrow()["extra"].to_pylist() == list(range(len(store)))
    assert_edited(path)


def test_an_empty_store_and_one_of_which_all_was_deleted(tmp_path: Path) -> None:
    with new_store(tmp_path / "empty", 0) as store:
        assert compact(store).chunks == ()
    with new_store(tmp_path / "gone") as store:
        store[:].delete()
        assert compact(store).copied == 0
        assert len(store) == 0
        assert store.extend([record(0)]).tolist() == [COUNT]
        assert len(chunk_files(tmp_path / "gone")) <= 2
    assert_edited(tmp_path / "gone")


def test_a_store_without_fields_is_compacted(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"n": "int64"}) as store:
        store.extend([{"n": n} for n in range(1000)])
        for value in range(100):
            store.update(n=value)
        done = store.compact()
        assert done.freed > 1_000_000
        assert set(store.to_arrow()["n"].to_pylist()) == {99}
    assert_edited(tmp_path / "s")


def test_a_store_without_columns_is_compacted(tmp_path: Path) -> None:
    fields = {"x": sqlstore.Field("bytes", None)}
    with sqlstore.create(tmp_path / "s", fields=fields, chunk_size=32 * sqlstore.KiB) as store:
        for _ in range(4):
            store.extend({"x": bytes([i]) * 3000} for i in range(20))
        store[20:60].delete()
        assert store.compact().freed > 100_000
        assert store.verify()
        assert [record["x"][0] for record in store] == [*range(20), *range(20)]
    sqlstore.rebuild(tmp_path / "s")
    assert sqlstore.verify(tmp_path / "s")


def test_values_compressed_with_a_dictionary_stay_readable(tmp_path: Path) -> None:
    path = small_records.new_store(tmp_path / "s", chunk_size=64 * sqlstore.KiB)
    for start in range(0, 1200, 300):
        small_records.append(path, start, start + 300)
    numbers = list(range(0, 1200, 4))
    with sqlstore.open(path, "a") as store, sqlstore.open(path) as reader:
        assert len(small_records.dictionaries(path)) >= 2
        store.where("n % 4 > 0").delete()
        compact(store)
        lines = [small_records.line_of(n) for n in numbers]
        assert reader.where("n % 4 = 0").blobs("line").to_pylist() == [x.encode() for x in lines]
    small_records.check(path, numbers)
    small_records.append(path, 1200, 1210)
    shutil.rmtree(path / "cache")
    small_records.check(path, [*numbers, *range(1200, 1210)])
    for _ in range(2):  # a dictionary that was moved moves on
        with sqlstore.open(path, "a") as store:
            store[:20].delete()
            compact(store)
    small_records.check(path, [*numbers, *range(1200, 1210)][40:])
    before = independent_reader.read(path)["records"]
    sqlstore.rebuild(path)
    small_records.check(path, [*numbers, *range(1200, 1210)][40:])
    assert [row["n"] for row in before.values()] == [*numbers, *range(1200, 1210)][40:]


# Subsets, snapshots and diff


def append_more(store: sqlstore.Store) -> None:
    store.extend([record(n) for n in range(5000, 5040)])


def update_some(store: sqlstore.Store) -> None:
    store.where("n % 4 = 2").update(label="later")


def delete_some(store: sqlstore.Store) -> None:
    store.where("n % 5 = 0").delete()


def replace_some(store: sqlstore.Store) -> None:
    chosen = store.where("n > 5030")
    chosen.replace("image", [b"other"] * len(chosen))


def test_subset_snapshot_and_diff_stay_exact_through_everything(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.where("n % 2 = 0").save("even", note="kept")
        members, (about,) = store.subset("even").ids, store.subsets()
        store.snapshot("v1", note="first")
        shown = contents(store)
        expected = dict(shown)

        def check() -> None:
            assert contents(store) == expected
            assert np.array_equal(store.subset("even").ids, members)
            (saved,) = store.subsets()
            gone = sum(i not in expected for i in members.tolist())
            assert saved == dataclasses.replace(about, deleted=gone)
            live = [i for i in members.tolist() if i in expected]
            assert store.subset("even", missing="skip").ids.tolist() == live
            with sqlstore.open(path, snapshot="v1") as then:
                assert contents(then) == shown
                assert np.array_equal(then.subset("even").ids, members)
            found = store.diff("v1")
            assert found.added.ids.tolist() == [i for i in expected if i not in shown]
            assert found.deleted.ids.tolist() == [i for i in shown if i not in expected]
            relabelled = [i for i in expected if i in shown and expected[i][0] != shown[i][0]]
            assert found.changed.get("label", np.array([])).tolist() == relabelled
            report = store.verify()
            assert report, report

        check()
        for step in (append_more, update_some, delete_some, replace_some):
            step(store)
            expected = contents(store)
            check()
            compact(store)
            check()
            store.close()
            sqlstore.rebuild(path)
            shutil.rmtree(path / "cache")
            store = sqlstore.open(path, "a")
            check()
        kept = len(chunk_files(path))
        store.drop_snapshot("v1")
        assert compact(store).freed > 0
        assert len(chunk_files(path)) < kept
        assert contents(store) == expected
        store.close()
    assert_edited(path)


def test_a_snapshot_keeps_the_chunks_that_it_needs_and_no_others(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        compact(store)
        store.snapshot("v1")
        needed = chunk_files(path).keys()
        store.extend([record(n) for n in range(3000, 3100)])
        store.where("n >= 3000").delete()
        store.snapshot("v2")
        store[:].delete()
        done = compact(store)
        assert {name for use in done.chunks for name in use.snapshots} == {"v1", "v2"}
        assert "kept for 'v1', 'v2'" in str(done)
        store.drop_snapshot("v2")
        compact(store)
        now = chunk_files(path).keys()
        assert needed - now <= {max(needed)}  # the last one was begun before the snapshot only
        with sqlstore.open(path, snapshot="v1") as then:
            assert len(contents(then)) == 160
        store.drop_snapshot("v1")
        compact(store)
        assert not needed & chunk_files(path).keys()
    assert_edited(path)


# Readers


@pytest.mark.parametrize("io", ["mmap", "pread", "memory"])
def test_who_reads_goes_on_where_the_values_are_now(
    path: Path, io: Literal["mmap", "pread", "memory"]
) -> None:
    with sqlstore.open(path, io=io) as reader, sqlstore.open(path, "a") as store:
        expected = contents(store)
        view = reader.where("n > 100")
        sent = pickle.dumps((reader, view))
        store[-3:].delete()
        compact(store)
        assert len(reader) == len(expected)  # what is seen stays, also what cannot be read any more
        ids = reader.ids.tolist()
        for position, number in enumerate(ids[:-3]):
            assert reader.raw(position, "image") == expected[number][1]
            assert reader.raw_items(position, "frames") == expected[number][2]
        with pytest.raises(sqlstore.RecordNotFoundError):
            reader.raw(-1, "image")
        assert contents(view[:-3]) == {i: expected[i] for i in view.ids[:-3].tolist()}
        reader.refresh()
        assert contents(reader) == {i: expected[i] for i in ids[:-3]}
        received, chosen = pickle.loads(sent)
        assert contents(received[:-3]) == {i: expected[i] for i in ids[:-3]}
        assert contents(chosen[:-3]) == contents(view[:-3])
        assert len(reader & chosen) == len(chosen) - 3
        received.close()


def test_arrays_that_views_gave_stay(path: Path) -> None:
    with sqlstore.open(path) as reader, sqlstore.open(path, "a") as store:
        bodies = reader.blobs("image", copy=False)
        file = reader.open(0, "image")
        before = bodies.to_pylist()
        compact(store)
        assert bodies.to_pylist() == before
        assert file.read() == before[0]


def test_a_cache_of_ones_own_is_brought_up_from_the_checkpoint(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    with sqlstore.open(path, "a") as store:
        compact(store)
        store.where("n % 2 = 0").delete()
        store.update(label="all")
        expected = contents(store)
    shutil.rmtree(path / "cache")
    (path / "cache").write_bytes(b"in the way")
    with sqlstore.open(path) as store:
        assert contents(store) == expected
    (path / "cache").unlink()


# Others at the same time, and damage


def test_what_others_edit_meanwhile_is_not_undone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, moved = staged.StagedMove.insert, list[int]()

    def edit_first(self: staged.StagedMove, index: Index, trailer: Trailer) -> None:
        (values,) = self._edit.values
        record = int(self._edit.ids[0])
        if len(moved) < 3:
            moved.append(record)
            index.run(f"UPDATE blobs SET offset = 64 WHERE field = {values} AND record = {record}")
        insert(self, index, trailer)

    monkeypatch.setattr(staged.StagedMove, "insert", edit_first)
    with sqlstore.open(path, "a") as store:
        expected = contents(store)
        compact(store)
        assert len(moved) == 3
        assert contents(store) == expected
    assert_edited(path)


@pytest.mark.parametrize("what", ["move", "checkpoint"])
def test_commits_that_come_between_are_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Another writer appends, edits and takes a snapshot while values move or parts are written."""
    name = "_moves" if what == "move" else "_commit_checkpoint"
    real, done = getattr(compacting, name), list[dict[int, Any]]()

    def come_between(*given: Any) -> Any:
        if len(done) < 3:
            with sqlstore.open(path, "a") as other:
                other.extend([record(9000 + len(done))])
                other[:2].delete()
                other[5:9].update(label="between")
                other[9:12].replace("image", [b"between"] * 3)
                if not done:
                    other[-1:].save("between")
                elif len(done) == 1:
                    other.snapshot("between")
                done.append(contents(other))
        return real(*given)

    monkeypatch.setattr(compacting, name, come_between)
    with sqlstore.open(path, "a") as store:
        compact(store)
        # In the end all chunks are kept for the snapshot, and no checkpoint is made.
        assert len(done) == (3 if what == "move" else 2)
        store.refresh()
        assert contents(store) == done[-1]
        report = store.verify()
        assert report, report
        with sqlstore.open(path, snapshot="between") as then:
            assert contents(then) == done[1]
        assert len(store.subset("between")) == 1
    assert_edited(path)


def test_a_chunk_that_somebody_writes_to_is_left_alone(path: Path) -> None:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        writer.append(record(1))
        writer.commit()
        with sqlstore.open(path, "a") as other:
            done = compact(other)
            assert len(done.of_fate("keep")) == 1
        writer.append(record(2))
        writer.commit()
        store[-2:].delete()
    assert_edited(path)


def test_a_damaged_value_is_not_copied_and_nothing_is_removed(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        row = store.sql(
            "SELECT file, offset FROM record_locations WHERE record = 104 AND field = 'image'"
        ).to_pylist()
        chunk = path / row[0]["file"]
        data = bytearray(chunk.read_bytes())
        data[row[0]["offset"]] ^= 1
        chunk.write_bytes(data)
        before = chunk_files(path).keys()
        with pytest.raises(sqlstore.ChecksumError, match="record 104, field image"):
            compact(store)
        assert before <= chunk_files(path).keys()
        assert {fault.record for fault in store.verify().faults} == {104}
        store.where("n = 104").delete()
        compact(store)
        report = store.verify()
        assert report, report


def test_a_damaged_table_is_refused(path: Path) -> None:
    with sqlstore.open(path) as store:
        (row,) = store.sql("SELECT * FROM commits WHERE number = 3").to_pylist()
        (name,) = store.sql(
            "SELECT name FROM chunks WHERE chunk = :c", params={"c": row["chunk"]}
        ).to_pylist()
    chunk = path / "chunks" / name["name"]
    data = bytearray(chunk.read_bytes())
    data[row["offset"] - 20] ^= 1
    chunk.write_bytes(data)
    shutil.rmtree(path / "cache")
    before = chunk_files(path)
    with (
        sqlstore.open(path, "a") as store,
        pytest.raises(sqlstore.CorruptChunkError, match="would be lost"),
    ):
        compact(store)
    assert chunk_files(path) == before


def test_read_only_is_refused_and_a_share_is_a_share(path: Path) -> None:
    with sqlstore.open(path) as store:
        with pytest.raises(sqlstore.ReadOnlyError):
            store.compact()
        with pytest.raises(ValueError, match="min_garbage"):
            store.compact(min_garbage=1.5, dry_run=True)


# What has become of the chunk files


def test_a_chunk_that_was_copied_under_another_name_is_found(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        compact(store)
        expected = contents(store)
    for number, name in enumerate(chunk_files(path)):
        (path / "chunks" / name).rename(path / "chunks" / f"{number:06d}-0000{number:04x}.chunk")
    shutil.rmtree(path / "cache")
    assert sqlstore.rebuild(path) == len(expected)
    with sqlstore.open(path, "a") as store:
        assert contents(store) == expected
        report = store.verify()
        assert report, report
        store.where("n % 2 = 0").delete()
        expected = contents(store)
        compact(store)
        assert contents(store) == expected
    assert_edited(path)


def test_a_live_chunk_that_is_gone_is_missed(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        compact(store)
        only_values = (
            "SELECT name FROM chunks WHERE NOT retired AND chunk NOT IN "
            "(SELECT chunk FROM commits WHERE kind IN (19, 21))"
        )
        (row, *_) = store.sql(only_values).to_pylist()
    (path / "chunks" / row["name"]).unlink()
    assert not sqlstore.verify(path)
    (path / "index.sqlite").unlink()
    assert not sqlstore.verify(path)
    with pytest.raises(sqlstore.MissingChunkError):
        sqlstore.rebuild(path)


def test_no_part_of_a_checkpoint_spans_many_ids(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlstore.open(path, "a") as store:
        store.where("n BETWEEN 40 AND 200").delete()
        expected = contents(store)
        with monkeypatch.context() as patched:
            patched.setattr(limits, "CHECKPOINT_IDS", 50)
            compact(store)
            shutil.rmtree(path / "cache")
            with sqlstore.open(path) as again:
                assert contents(again) == expected
            patched.setattr(limits, "CHECKPOINT_IDS", 49)
            with pytest.raises(sqlstore.CorruptChunkError, match="is no checkpoint"):
                sqlstore.rebuild(path)
    assert_edited(path)


def test_a_check_beside_which_chunks_are_always_retired_comes_to_an_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = itertools.count()
    monkeypatch.setattr(verifying, "_marks", lambda _: (next(marks), 0))
    report = sqlstore.verify(path)
    assert report
    assert any("verify again" in note for note in report.notes)
