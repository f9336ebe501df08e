"""Stores with edits, subsets and checkpoints, damage to them, and whether they are whole again."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sqlstore
from sqlstore import Repaired, repair, verify
from sqlstore.log import chain
from sqlstore.log.chain import Link
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind
from tests import compacted, independent_reader

COUNT: Final = 60


@dataclasses.dataclass(frozen=True)
class Made:
    """A store, what is in it, and its commits by number."""

    root: Path
    contents: dict[int, Any]
    links: dict[int, Link]

    def link(self, kind: CommitKind, place: int = 0) -> Link:
        return [link for link in self.links.values() if link.trailer.kind == kind][place]

    def flip(self, chunk: str, offset: int) -> None:
        with (self.root / "chunks" / chunk).open("r+b") as file:
            file.seek(offset)
            (byte,) = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 0x55]))

    def forget(self, *names: str) -> None:
        for name in names:
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def links(root: Path) -> dict[int, Link]:
    with contextlib.closing(ChunkReader(root)) as reader:
        found = [
            link
            for path in sorted((root / "chunks").iterdir())
            for link in chain.walk(reader, path.name, reader.header(path.name).chunk).links
        ]
    return {link.trailer.number: link for link in sorted(found, key=lambda x: x.trailer.number)}


class Templates:
    """Intact stores that are made once and copied for every test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[bool, Made] = {}

    def copied(self, root: Path, *, compacting: bool = False) -> Made:
        if compacting not in self._made:
            self._made[compacting] = new(self._folder / f"{compacting}", compacting=compacting)
        one = self._made[compacting]
        shutil.copytree(one.root, root)
        return dataclasses.replace(one, root=root)


TEMPLATES: Final[list[Templates]] = []


def use(folder: Path) -> None:
    """Keep the intact stores in a folder."""
    TEMPLATES[:] = [Templates(folder)]


def made(root: Path, *, compacting: bool = False) -> Made:
    return TEMPLATES[0].copied(root, compacting=compacting)


def new(root: Path, *, compacting: bool) -> Made:
    with compacted.new_store(root, COUNT) as store:
        store[:5].update(label="other")
        store[10:12].replace("image", [b"new", None])
        store[20:23].delete()
        store.where("n < 30").save("low")
        if compacting:
            compacted.compact(store)
            store.extend([compacted.record(COUNT + i) for i in range(6)])
            store[40:44].update(score=0.5)
        contents = compacted.contents(store)
        assert store.verify()
    return Made(root, contents, links(root))


def check_whole(store: Made, done: Repaired, lost: set[int] | None = None) -> None:
    """Check that a repaired store holds all but some records, and that everything agrees."""
    assert done.done
    assert verify(store.root), verify(store.root)
    with sqlstore.open(store.root, mode="a") as found:
        there = compacted.contents(found)
        gone = lost or set()
        missing = {(f.record, f.field) for f in done.lost_values}
        expected = {
            number: (
                row,
                None if (number, "image") in missing else image,
                None if (number, "frames") in missing else frames,
            )
            for number, (row, image, frames) in store.contents.items()
            if number not in gone
        }
        assert there == expected
        assert set(done.lost_records) == gone
        assert [one.name for one in found.subsets()] == ["low"]
        assert sorted(independent_reader.read(store.root)["records"]) == sorted(expected)
        ids = found.extend([compacted.record(1000)])
        assert ids.min() > max(store.contents)
    sqlstore.rebuild(store.root)
    assert verify(store.root)
    assert not repair(store.root).done


Damage = Callable[[Made], None]


def table_of_append(store: Made) -> None:
    link = store.link(CommitKind.APPEND, 3)
    store.flip(link.chunk, link.trailer.table_start + 300)


def trailer_in_the_middle(store: Made) -> None:
    link = store.link(CommitKind.APPEND, 3)
    store.flip(link.chunk, link.trailer.table_end + 30)


def last_trailer(store: Made) -> None:
    link = list(store.links.values())[-1]
    store.flip(link.chunk, link.trailer.table_end + 30)


def table_of_update(store: Made) -> None:
    link = store.link(CommitKind.UPDATE)
    store.flip(link.chunk, link.trailer.table_start + 100)


def table_of_replace(store: Made) -> None:
    link = store.link(CommitKind.REPLACE)
    store.flip(link.chunk, link.trailer.table_start + 100)


def table_of_delete(store: Made) -> None:
    link = store.link(CommitKind.DELETE)
    store.flip(link.chunk, link.trailer.table_start + 100)


def table_of_subset(store: Made) -> None:
    link = store.link(CommitKind.SAVE_SUBSET)
    store.flip(link.chunk, link.trailer.table_start + 100)


def table_of_create(store: Made) -> None:
    link = store.links[1]
    store.flip(link.chunk, link.trailer.table_start + 100)


def header(store: Made) -> None:
    store.flip(store.links[1].chunk, 20)


TABLES: Final[list[Damage]] = [
    table_of_append,
    trailer_in_the_middle,
    last_trailer,
    table_of_update,
    table_of_replace,
    table_of_delete,
    table_of_subset,
    table_of_create,
    header,
]
