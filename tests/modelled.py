"""Stores of which is known what every commit did, and what can happen to their files."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import sqlstore
from sqlstore.log.chain import Link
from sqlstore.log.segment import HEADER_SIZE, CommitKind
from tests import broken, compacted

Contents: TypeAlias = dict[int, Any]
"""Records by id, as `compacted.contents` has them."""


@dataclass
class State:
    """What is in a store: cells and values by id, members of subsets, contents of snapshots."""

    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    subsets: dict[str, list[int]] = field(default_factory=dict)
    snapshots: dict[str, Contents] = field(default_factory=dict)

    def contents(self) -> Contents:
        names = ("n", "label", "score")
        return {
            number: (
                repr({"id": number, **{name: cells[name] for name in names}}),
                cells["image"],
                cells["frames"],
            )
            for number, cells in sorted(self.records.items())
        }


Change: TypeAlias = Callable[[State], None]


@dataclass(frozen=True)
class Modelled:
    """A store, the chunks of its commits, and what each commit did."""

    root: Path
    links: dict[int, Link]
    changes: dict[int, Change]
    appends: dict[int, range]
    edits: frozenset[int]
    """The commits that changed or deleted records."""
    earlier: Path | None
    """Its index and cache as they were some commits before."""

    def copied(self, root: Path) -> Modelled:
        shutil.copytree(self.root, root)
        return dataclasses.replace(self, root=root)

    def state(self, without: Iterable[int] = ()) -> State:
        """Return what is in the store if some commits had no effect."""
        state, left_out = State(), set(without)
        for number, change in self.changes.items():
            if number not in left_out:
                change(state)
        return state

    def chunks(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / "chunks").iterdir()}


class Making:
    """Makes a store and its model, commit by commit."""

    def __init__(self, root: Path, **options: Any) -> None:
        self._root = root
        self._earlier: Path | None = None
        self._store = compacted.new_store(root, 0, **options)
        self._changes: dict[int, Change] = {}
        self._appends: dict[int, range] = {}
        self._edits: set[int] = set()
        self._next = 0

    def _did(self, change: Change) -> int:
        number = max(broken.links(self._root))
        self._changes[number] = change
        return number

    def _chosen(self, ids: range) -> sqlstore.View:
        return self._store.where("id >= :a AND id < :b", a=ids.start, b=ids.stop)

    def append(self, count: int, **cells: Any) -> None:
        ids = range(self._next, self._next + count)
        added = {number: {**compacted.record(number), **cells} for number in ids}
        self._store.extend(list(added.values()))
        self._next = ids.stop
        number = self._did(lambda state: state.records.update({i: {**r} for i, r in added.items()}))
        self._appends[number] = ids

    def update(self, ids: range, **cells: Any) -> None:
        self._chosen(ids).update(**cells)
        self._edits.add(self._did(lambda state: _set(state, dict.fromkeys(ids, cells))))

    def replace(self, ids: range, images: list[bytes | None]) -> None:
        self._chosen(ids).replace("image", images)
        cells = {number: {"image": image} for number, image in zip(ids, images, strict=True)}
        self._edits.add(self._did(lambda state: _set(state, cells)))

    def delete(self, ids: range) -> None:
        self._chosen(ids).delete()
        self._edits.add(self._did(lambda state: _drop(state, ids)))

    def save(self, name: str, ids: range) -> None:
        members = self._chosen(ids).ids.tolist()
        self._chosen(ids).save(name)
        self._did(lambda state: state.subsets.update({name: members}))

    def snapshot(self, name: str) -> None:
        self._store.snapshot(name)
        self._did(lambda state: state.snapshots.update({name: state.contents()}))

    def compact(self) -> None:
        compacted.compact(self._store)

    def keep_index_and_cache(self) -> None:
        """Keep index and cache as they are now, for a store in which they are too old."""
        earlier = self._earlier = self._root.with_name(f"{self._root.name}-earlier")
        earlier.mkdir()
        shutil.copy(self._root / "index.sqlite", earlier)
        shutil.copytree(self._root / "cache", earlier / "cache")

    def done(self) -> Modelled:
        with self._store as store:
            there = compacted.contents(store)
            assert store.verify()
        links = broken.links(self._root)
        known = links, self._changes, self._appends, frozenset(self._edits)
        made = Modelled(self._root, *known, self._earlier)
        assert made.state().contents() == there, "the model is wrong"
        return made


def _set(state: State, cells: dict[int, dict[str, Any]]) -> None:
    for number in state.records.keys() & cells.keys():
        state.records[number].update(cells[number])


def _drop(state: State, ids: range) -> None:
    for number in ids:
        state.records.pop(number, None)


# The stores


def _edited(root: Path, **options: Any) -> Making:
    making = Making(root, **options)
    for _ in range(6):
        making.append(10)
    making.update(range(5), label="other")
    making.replace(range(10, 12), [b"new", None])
    making.delete(range(20, 23))
    making.save("low", range(30))
    return making


def edited(root: Path) -> Modelled:
    return _edited(root).done()


def with_keys(root: Path) -> Modelled:
    """Return a store in which records get keys that others had."""
    making = _edited(root, key="n")
    making.keep_index_and_cache()
    making.append(1, n=21)
    making.update(range(40, 41), n=-1)
    making.append(1, n=40)
    making.update(range(7, 8), n=22)
    return making.done()


def with_checkpoint(root: Path) -> Modelled:
    making = _edited(root)
    making.compact()
    making.append(6)
    making.update(range(40, 44), score=0.5)
    return making.done()


def with_snapshot(root: Path) -> Modelled:
    making = _edited(root)
    making.keep_index_and_cache()
    making.snapshot("v1")
    making.append(40)
    making.update(range(30, 33), label="late")
    making.replace(range(33, 35), [b"q", b"r"])
    making.delete(range(36, 38))
    return making.done()


def with_two_checkpoints(root: Path) -> Modelled:
    making = _edited(root)
    making.compact()
    making.update(range(40, 44), score=0.5)
    making.keep_index_and_cache()
    making.append(40)
    making.save("late", range(3))
    making.replace(range(33, 35), [b"q", b"r"])
    making.compact()
    making.delete(range(5, 7))
    return making.done()


STORES: Final = (edited, with_keys, with_checkpoint, with_snapshot, with_two_checkpoints)


# What happens to their files


def _flip(path: Path, span: range, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    inside = range(span.start, min(span.stop, len(data)))
    if inside:
        data[rng.choice(inside)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


def _flip_in_chunk(store: Modelled, link: Link, span: range, rng: random.Random) -> None:
    path = store.root / "chunks" / link.chunk
    if path.exists():
        _flip(path, span, rng)


def _any_link(store: Modelled, rng: random.Random) -> Link:
    return rng.choice(list(store.links.values()))


def bit_of_table(store: Modelled, rng: random.Random) -> None:
    link = _any_link(store, rng)
    _flip_in_chunk(store, link, range(link.trailer.table_start, link.trailer.table_end), rng)


def bit_of_trailer(store: Modelled, rng: random.Random) -> None:
    link = _any_link(store, rng)
    _flip_in_chunk(store, link, range(link.trailer.table_end, link.trailer.end), rng)


def bit_of_body(store: Modelled, rng: random.Random) -> None:
    link = _any_link(store, rng)
    _flip_in_chunk(store, link, range(link.trailer.bodies_start, link.trailer.bodies_end), rng)


def bit_of_header(store: Modelled, rng: random.Random) -> None:
    _flip_in_chunk(store, _any_link(store, rng), range(HEADER_SIZE), rng)


def bit_of_checkpoint(store: Modelled, rng: random.Random) -> None:
    kinds = CommitKind.CHECKPOINT, CommitKind.CHECKPOINT_PART
    links = [link for link in store.links.values() if link.trailer.kind in kinds]
    if links:
        link = rng.choice(links)
        _flip_in_chunk(store, link, range(link.trailer.bodies_start, link.trailer.table_end), rng)


def chunk_cut(store: Modelled, rng: random.Random) -> None:
    path = store.root / "chunks" / _any_link(store, rng).chunk
    if path.exists() and path.stat().st_size:
        os.truncate(path, rng.randrange(path.stat().st_size))


def chunk_gone(store: Modelled, rng: random.Random) -> None:
    (store.root / "chunks" / _any_link(store, rng).chunk).unlink(missing_ok=True)


def index_gone(store: Modelled, _: random.Random) -> None:
    (store.root / "index.sqlite").unlink(missing_ok=True)


def bit_of_index(store: Modelled, rng: random.Random) -> None:
    path = store.root / "index.sqlite"
    if path.exists():
        _flip(path, range(path.stat().st_size), rng)


def index_older(store: Modelled, _: random.Random) -> None:
    if store.earlier is not None:
        shutil.copy(store.earlier / "index.sqlite", store.root)


def cache_gone(store: Modelled, _: random.Random) -> None:
    shutil.rmtree(store.root / "cache", ignore_errors=True)


def bit_of_cache(store: Modelled, rng: random.Random) -> None:
    files = [path for path in sorted((store.root / "cache").rglob("*")) if path.is_file()]
    if files:
        path = rng.choice(files)
        _flip(path, range(path.stat().st_size), rng)


def cache_older(store: Modelled, rng: random.Random) -> None:
    if store.earlier is not None:
        cache_gone(store, rng)
        shutil.copytree(store.earlier / "cache", store.root / "cache")


def bit_of_lock(store: Modelled, rng: random.Random) -> None:
    _flip(store.root / "writer.lock", range(60), rng)


def bit_of_snapshot(store: Modelled, rng: random.Random) -> None:
    for path in (store.root / "snapshots").glob("*.sqlite"):
        _flip(path, range(path.stat().st_size), rng)


Damage: TypeAlias = Callable[[Modelled, random.Random], None]
OF_CHUNKS: Final[tuple[Damage, ...]] = (
    *(bit_of_table, bit_of_table, bit_of_trailer, bit_of_trailer, bit_of_body, bit_of_header),
    *(bit_of_checkpoint, chunk_cut, chunk_gone),
)
OF_INDEX: Final[tuple[Damage, ...]] = index_gone, bit_of_index, index_older
OF_CACHE: Final[tuple[Damage, ...]] = cache_gone, bit_of_cache, cache_older
DAMAGES: Final = (*OF_CHUNKS, *OF_CHUNKS, *OF_INDEX, *OF_CACHE, bit_of_lock, bit_of_snapshot)
