"""Merge a hostile store into others, and see that a refusal leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlstore
from tests.hostile.forge import COLUMNS, FIELDS


def into_new(source: Path, out: Path) -> object:
    """Merge a store into a new one."""
    try:
        done = sqlstore.merge(out / "merged", source)
    except sqlstore.SqlstoreError:
        left = [path.name for path in out.iterdir() if "merged" in path.name]
        if left:
            raise RuntimeError(f"a merge that was refused has left {left}") from None
        raise
    with sqlstore.open(out / "merged") as store:
        return done.counts, len(store)


def into_old(source: Path, out: Path) -> object:
    """Merge a store into one that is there."""
    return _tried(out / "old", lambda target: sqlstore.merge(target, source))


def with_more_columns(source: Path, out: Path) -> object:
    """Do the same, and let it have the columns of the source."""
    return _tried(
        out / "more",
        lambda target: sqlstore.merge(target, source, add_missing=True, on_duplicate="skip"),
        adds=True,
    )


def adopted(source: Path, out: Path) -> object:
    """Take over the chunk files of a store."""
    if (source / "chunks").is_symlink():  # it is people who say which files these are
        raise sqlstore.NotAStoreError(f"{source} has a link instead of chunks")
    chunks = sorted((source / "chunks").iterdir())

    def adopt(target: Path) -> sqlstore.Merged:
        with sqlstore.open(target, "a") as store:
            return store.adopt(*chunks)

    return _tried(out / "adopting", adopt)


def _tried(target: Path, take: Callable[[Path], sqlstore.Merged], *, adds: bool = False) -> object:
    """Make a store, and let it take records; if it refuses them it must be as before.

    Parameters
    ----------
    adds
        It may have got columns all the same.
    """
    with sqlstore.create(target, fields=FIELDS, metadata=COLUMNS, key="path") as store:
        store.extend([{"path": "own", "n": 1, "f": b"own"}])
    before = _files(target)
    try:
        done = take(target)
    except sqlstore.SqlstoreError as error:
        _refuse_changed(target, before, adds=adds)
        raise error from None
    with sqlstore.open(target) as store:
        return done.counts, len(store), store[0]["path"]


def _refuse_changed(target: Path, before: dict[str, bytes], *, adds: bool) -> None:
    if not adds and _files(target) != before:
        raise RuntimeError("a merge that was refused has changed the chunks of the target")
    left = [path.name for path in target.parent.iterdir() if f".{target.name}." in path.name]
    report = sqlstore.verify(target)
    with sqlstore.open(target) as store:
        found = store.select("id", "path", "n", "f")[:].fetch(range(len(store)))
    if left or not report or found != [{"id": 0, "path": "own", "n": 1, "f": b"own"}]:
        raise RuntimeError(f"a merge that was refused has left {left}, {report}, {found}")


def _files(target: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (target / "chunks").iterdir()}
