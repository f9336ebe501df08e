"""A damaged store is made whole again: what can be proven stays as it was, the rest is said."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import sqlstore
from sqlstore import Repaired, repair, verify
from sqlstore.log.segment import CommitKind
from tests import broken, compacted
from tests.broken import (
    COUNT,
    TABLES,
    Damage,
    Made,
    check_whole,
    last_trailer,
    links,
    made,
    new,
    table_of_append,
    trailer_in_the_middle,
)


@pytest.fixture(scope="module", autouse=True)
def templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    broken.use(tmp_path_factory.mktemp("templates"))


@pytest.mark.parametrize("damage", TABLES)
def test_what_the_cache_or_the_index_still_know_is_not_lost(tmp_path: Path, damage: Damage) -> None:
    for number, forget in enumerate([(), ("cache",)]):
        store = made(tmp_path / f"{number}")
        damage(store)
        store.forget(*forget)
        assert not verify(store.root)
        before = {p.name: p.read_bytes() for p in (store.root / "chunks").iterdir()}
        planned = repair(store.root, dry_run=True)
        assert not planned.done
        assert {p.name: p.read_bytes() for p in (store.root / "chunks").iterdir()} == before
        done = repair(store.root)
        assert done, done
        (folder,) = (store.root / "quarantine").iterdir()
        kept = {p.name: p.read_bytes() for p in (folder / "chunks").iterdir()}
        assert kept.items() <= before.items()
        assert kept
        if forget:  # NaN is NULL in the index, which alone knows these records
            store = dataclasses.replace(store, contents=without_nan(store.contents, done))
        check_whole(store, done)


def without_nan(contents: dict[int, Any], done: Repaired) -> dict[int, Any]:
    ids = range(30, 40) if done.from_index else ()
    return {
        number: (row.replace("nan", "None") if number in ids else row, *values)
        for number, (row, *values) in contents.items()
    }


def test_of_a_damaged_value_the_record_has_none_and_the_bytes_are_kept(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    with sqlstore.open(store.root) as opened:
        sql = "SELECT file, offset, length FROM record_locations WHERE record = 33 AND field = :f"
        places = {name: opened.sql(sql, f=name).to_pylist()[0] for name in ("image", "frames")}
    for place in places.values():
        store.flip(Path(place["file"]).name, place["offset"] + place["length"] - 1)
    done = repair(store.root)
    assert not done
    lost = [(f.record, f.field, f"chunks/{f.chunk}", f.offset) for f in done.lost_values]
    assert lost == [(33, name, one["file"], one["offset"]) for name, one in places.items()]
    check_whole(store, done)


def test_without_cache_and_index_only_what_was_damaged_is_lost(tmp_path: Path) -> None:
    for number, damage in enumerate([table_of_append, trailer_in_the_middle]):
        store = made(tmp_path / f"{number}")
        gone = store.link(CommitKind.APPEND, 3).trailer
        damage(store)
        store.forget("cache", "index.sqlite")
        done = repair(store.root)
        ids = set(range(gone.first_record, gone.first_record + gone.records))
        assert done.lost_commits == [gone.number]
        check_whole(store, done, ids & store.contents.keys())


def gone_chunk(store: Made) -> str:
    """Remove a chunk that has only appends, and return its name."""
    name = store.link(CommitKind.APPEND, 3).chunk
    inside = [link.trailer for link in store.links.values() if link.chunk == name]
    assert {trailer.kind for trailer in inside} <= {CommitKind.APPEND, CommitKind.CREATE}
    store.forget(f"chunks/{name}")
    return name


@pytest.mark.parametrize("forget", [(), ("cache",), ("index.sqlite",)])
def test_of_a_missing_chunk_the_metadata_is_still_known(
    tmp_path: Path, forget: tuple[str, ...]
) -> None:
    store = made(tmp_path / "s")
    name = gone_chunk(store)
    store.forget(*forget)
    done = repair(store.root)
    assert {fault.chunk for fault in done.lost_values} == {name}
    (line,) = [line for line in str(done).split("\n") if "field 'image'" in line]
    assert line.startswith("lost values of field 'image': ")
    assert line.endswith(f" (chunk {name})")
    if "cache" in forget:
        everything = {
            n: (row.replace("nan", "None"), *v) for n, (row, *v) in store.contents.items()
        }
        with sqlstore.open(store.root) as opened:
            rows = opened.to_arrow().to_pylist()
        assert [row["id"] for row in rows] == list(everything)
        assert verify(store.root)
    else:
        check_whole(store, done)


def test_of_a_missing_chunk_of_several_commits_no_others_are_lost(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    name = gone_chunk(store)
    inside = [link.trailer for link in store.links.values() if link.chunk == name]
    assert len(inside) > 1
    store.forget("index.sqlite", "cache")
    with pytest.raises(sqlstore.CorruptStoreError, match="accept_lost_edits=True"):
        repair(store.root)
    done = repair(store.root, accept_lost_edits=True)
    lost = {i for t in inside for i in range(t.first_record, t.first_record + t.records)}
    check_whole(store, done, lost & store.contents.keys())


@pytest.mark.parametrize("forget", [("index.sqlite",), ("index.sqlite", "cache")])
def test_a_chunk_for_each_commit_and_two_of_them_missing(
    tmp_path: Path, forget: tuple[str, ...]
) -> None:
    fields = {"x": sqlstore.Field("bytes", None)}
    with sqlstore.create(tmp_path / "s", fields=fields, chunk_size=4096) as store:
        for first in range(0, 18, 3):
            store.extend({"x": bytes([i]) * 2000} for i in range(first, first + 3))
        chunks = {int(p.name[:6]): p for p in (store.path / "chunks").iterdir()}
        assert store.sql("SELECT max(chunk) AS n FROM commits")["n"][0].as_py() == 6
    for number in (2, 4):
        chunks[number].unlink()
    Made(tmp_path / "s", {}, {}).forget(*forget)
    done = repair(tmp_path / "s")
    assert verify(tmp_path / "s")
    lost = [*range(3, 6), *range(9, 12)]
    with sqlstore.open(tmp_path / "s") as store:
        found = {int(i): store.get(int(i))["x"] for i in store.ids}
    there = {i: bytes([i]) * 2000 for i in range(18) if i not in lost}
    if "cache" in forget:
        assert (done.lost_records, found) == (lost, there)
    else:
        places = [(fault.record, fault.chunk) for fault in done.lost_values]
        assert places == [(i, chunks[2 if i < 6 else 4].name) for i in lost]
        assert found == there | dict.fromkeys(lost)


@pytest.mark.parametrize("kind", [CommitKind.CHECKPOINT, CommitKind.CHECKPOINT_PART])
@pytest.mark.parametrize("forget", [(), ("cache",)])
def test_a_damaged_checkpoint_is_made_again(
    tmp_path: Path, kind: CommitKind, forget: tuple[str, ...]
) -> None:
    store = made(tmp_path / "s", compacting=True)
    link = store.link(kind)
    store.flip(link.chunk, link.trailer.table_start + 300)
    store.forget(*forget)
    done = repair(store.root)
    assert done
    if forget:
        contents = {
            n: (row.replace("nan", "None") if n < COUNT else row, *rest)
            for n, (row, *rest) in store.contents.items()
        }
        store = dataclasses.replace(store, contents=contents)
    check_whole(store, done)


def test_a_snapshot_that_does_not_is_kept(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    with sqlstore.open(store.root, mode="a") as opened:
        opened.snapshot("v1")
        count = len(opened)
        opened.extend([compacted.record(COUNT + i) for i in range(60)])
    link = list(links(store.root).values())[-1]
    assert link.chunk not in {one.chunk for one in store.links.values()}
    store.flip(link.chunk, link.trailer.table_start + 300)
    done = repair(store.root)
    assert done, done
    assert verify(store.root)
    with sqlstore.open(store.root, snapshot="v1") as then:
        assert len(then) == count
        assert compacted.contents(then) == store.contents


@pytest.mark.parametrize("forget", ["index.sqlite", "cache", "snapshots"])
def test_what_is_derived_is_made_anew_and_no_chunk_is_touched(tmp_path: Path, forget: str) -> None:
    store = made(tmp_path / "s")
    with sqlstore.open(store.root, mode="a") as opened:
        opened.snapshot("v1")
    before = {p: p.read_bytes() for p in (store.root / "chunks").iterdir()}
    store.forget(forget)
    done = repair(store.root)
    assert done
    assert done.done == (forget != "cache")
    assert not any(path.startswith("chunks") for path in done.quarantined)
    assert {p: p.read_bytes() for p in (store.root / "chunks").iterdir()} == before
    assert verify(store.root)


def test_damage_to_the_index_is_mended_from_the_log(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    with contextlib.closing(sqlite3.connect(store.root / "index.sqlite")) as index, index:
        index.execute("UPDATE blobs SET offset = offset + 1")
        index.execute("DELETE FROM subsets")
    check_whole(store, repair(store.root))


def test_an_older_index_says_nothing_of_what_came_after_it(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    older = (store.root / "index.sqlite").read_bytes()
    with sqlstore.open(store.root, mode="a") as opened:
        ids = opened.extend([compacted.record(COUNT + i) for i in range(3)])
        opened[:2].update(label="newer")
        contents = compacted.contents(opened)
    link = links(store.root)[max(store.links) + 1]
    store.flip(link.chunk, link.trailer.table_start + 300)
    store.forget("cache")
    (store.root / "index.sqlite").write_bytes(older)
    done = repair(store.root)
    assert done.lost_records == ids.tolist()
    assert not done
    check_whole(dataclasses.replace(store, contents=contents), done, set(ids.tolist()))


def test_a_chunk_of_another_store_is_put_aside(tmp_path: Path) -> None:
    store, other = made(tmp_path / "s"), new(tmp_path / "other", compacting=False)
    strange = next((other.root / "chunks").iterdir())
    shutil.copyfile(strange, store.root / "chunks" / strange.name)
    table_of_append(store)
    done = repair(store.root)
    assert done, done
    assert f"chunks/{strange.name}" in done.quarantined
    check_whole(store, done)


def test_commits_that_are_gone_at_the_end_are_not_forgotten(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    last_trailer(store)
    store.forget("cache", "index.sqlite")
    done = repair(store.root)
    assert not done
    assert done.lost_edits == [max(store.links)]
    assert verify(store.root)


def test_a_chunk_that_is_no_file_any_more_goes_to_the_quarantine(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    name = store.link(CommitKind.APPEND, 3).chunk
    store.forget(f"chunks/{name}")
    (store.root / "chunks" / name).mkdir()
    done = repair(store.root)
    assert f"chunks/{name}" in done.quarantined
    check_whole(store, done)


def test_a_repair_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made(tmp_path / "s")
    table_of_append(store)
    before = {p.name: p.read_bytes() for p in (store.root / "chunks").iterdir()}

    def full(*_: object) -> None:
        raise sqlstore.StoreFullError("no space")

    with monkeypatch.context() as patched:
        patched.setattr("sqlstore.maintenance.repair.restoring.staged_checkpoint", full)
        with pytest.raises(sqlstore.StoreFullError):
            repair(store.root)
    assert {p.name: p.read_bytes() for p in (store.root / "chunks").iterdir()} == before
    check_whole(store, repair(store.root))


@pytest.mark.parametrize("step", ["files.remove_chunks", "rebuilt"])
def test_a_repair_that_is_killed_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = made(tmp_path / "s")
    table_of_append(store)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"sqlstore.maintenance.repair.repairing.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(store.root)
    assert not verify(store.root)
    done = repair(store.root)
    assert done, done
    check_whole(store, done)


def test_bytes_that_are_not_zero_before_any_table_are_a_fault_and_are_put_aside(
    tmp_path: Path,
) -> None:
    for kind in (CommitKind.SAVE_SUBSET, CommitKind.DELETE, CommitKind.APPEND):
        store = made(tmp_path / kind.name)
        gaps = [
            (link.chunk, link.trailer.bodies_end)
            for link in store.links.values()
            if link.trailer.kind == kind and link.trailer.bodies_end < link.trailer.table_start
        ]
        store.flip(*gaps[0])
        (fault,) = verify(store.root).faults
        assert (fault.chunk, fault.offset) == gaps[0]
        check_whole(store, repair(store.root))


def test_verify_checks_every_commit_by_itself_where_a_checkpoint_is_damaged(tmp_path: Path) -> None:
    store = made(tmp_path / "s", compacting=True)
    checkpoint = store.link(CommitKind.CHECKPOINT)
    update, append = store.link(CommitKind.UPDATE, -1), store.link(CommitKind.APPEND, -1)
    store.flip(checkpoint.chunk, checkpoint.trailer.table_start + 100)
    store.flip(update.chunk, update.trailer.table_start + 100)
    store.flip(append.chunk, append.trailer.bodies_start + 5)
    faults = {(fault.chunk, fault.offset) for fault in verify(store.root).faults}
    assert faults == {
        (checkpoint.chunk, checkpoint.trailer.table_start),
        (update.chunk, update.trailer.table_start),
        (append.chunk, append.trailer.bodies_start),
    }
    store.forget("index.sqlite")
    assert any("no values were checked" in note for note in verify(store.root).notes)


def test_a_copy_of_a_chunk_under_another_name_is_no_fault(tmp_path: Path) -> None:
    store = made(tmp_path / "s")
    chunk = store.link(CommitKind.APPEND, 3).chunk
    other = "900000-00000001.chunk"
    shutil.copyfile(store.root / "chunks" / chunk, store.root / "chunks" / other)
    report = verify(store.root)
    assert report, report
    assert report.notes == [f"{other} holds commits that another chunk has, too"]
    assert not repair(store.root).done


def test_a_checkpoint_says_which_of_the_commits_that_are_gone_were_its_parts(
    tmp_path: Path,
) -> None:
    store = made(tmp_path / "s", compacting=True)
    part = store.link(CommitKind.CHECKPOINT_PART)
    store.flip(part.chunk, part.trailer.table_end + 30)
    store.forget("cache", "index.sqlite")
    done = repair(store.root, accept_lost_edits=True)
    assert (done.lost_commits, done.lost_edits) == ([part.trailer.number], [])
    assert set(done.lost_records) >= {number for number in store.contents if number < COUNT}
    check_whole(store, done, set(done.lost_records))


def test_who_is_killed_has_said_what_is_lost_even_if_no_damaged_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made(tmp_path / "s")
    store.forget("index.sqlite", f"chunks/{store.link(CommitKind.APPEND, 3).chunk}")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sqlstore.maintenance.repair.repairing.rebuilt", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(store.root)
    (report,) = store.root.glob("quarantine/*/report.json")
    said = {(one["record"], one["field"]) for one in json.loads(report.read_text())["lost_values"]}
    assert not repair(store.root).lost_values
    with sqlstore.open(store.root) as opened:
        there = compacted.contents(opened)
    lost = {
        (number, name)
        for number, (_, *values) in store.contents.items()
        for name, had, has in zip(("image", "frames"), values, there[number][1:], strict=True)
        if had != has
    }
    assert lost == said != set()
