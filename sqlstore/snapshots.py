"""Snapshots: the store as it was at a commit, under a name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from sqlstore import copies
from sqlstore.copies import Snapshot
from sqlstore.edits import committing
from sqlstore.errors import SnapshotExistsError, StorageError, StoreBusyError, StoreClosedError
from sqlstore.index.engine import Index
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind
from sqlstore.log.snapshots import Titled
from sqlstore.source import Source
from sqlstore.staged import StagedSnapshot


def take(source: Source, name: str, note: str | None) -> None:
    """Take a snapshot of the store as it is now.

    Raises
    ------
    SnapshotExistsError
        There is one of that name.
    SchemaError
        That is no name.
    """
    copies.check_name(name)
    _commit(source, CommitKind.SNAPSHOT, Titled(name, note), _copy)


def _copy(name: str, index: Index, reader: ChunkReader) -> None:
    """Copy the index as it is before the commit, so that the copy is there when the commit is."""
    twin = copies.twin(name)
    for other in copies.known(index, reader):
        if copies.twin(other) == twin:
            raise SnapshotExistsError(
                f"there is a snapshot {other!r} already; drop it, or take another name"
            )
    copies.put(index, index.root, name)


def drop(source: Source, name: str) -> None:
    """Forget a snapshot, and remove the copy of the index that it is.

    Raises
    ------
    SnapshotNotFoundError
        There is none of that name.
    """
    _commit(source, CommitKind.DROP_SNAPSHOT, Titled(name), _look_for)


def _look_for(name: str, index: Index, reader: ChunkReader) -> None:
    copies.named(copies.known(index, reader), name)


def _commit(
    source: Source,
    kind: CommitKind,
    titled: Titled,
    prepare: Callable[[str, Index, ChunkReader], None],
) -> None:
    with committing(source) as committer:
        staged = StagedSnapshot(kind, titled)
        committer.commit(staged, source.committed, partial(prepare, titled.name))
        # What is left over is removed another time; the commit has happened in any case.
        with contextlib.suppress(StorageError, StoreBusyError, StoreClosedError):
            committer.look_up(copies.remove_unknown)


def listed(source: Source) -> list[Snapshot]:
    """Return what is known of every snapshot, in the order in which they were taken."""
    source.check_open()
    return list(source.finder.snapshots().values())
