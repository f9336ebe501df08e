"""Make the index anew from the chunk files."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import uuid
from collections.abc import Collection, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlstore import copies, identity, replay
from sqlstore.copies import Snapshot
from sqlstore.errors import (
    CorruptChunkError,
    CorruptStoreError,
    NotAStoreError,
    QueryError,
)
from sqlstore.index import records
from sqlstore.index.engine import INDEX_NAME, Index
from sqlstore.log import chain, files
from sqlstore.log.chain import Link
from sqlstore.log.lock import WriterLock
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import NO_COMMIT
from sqlstore.progress import progress
from sqlstore.schema import Schema
from sqlstore.types import StrPath


def rebuild(path: StrPath) -> int:
    """Make ``index.sqlite`` and all snapshots anew from the chunk files, which are not changed.

    Every commit in the chunks is there afterwards, with the same ids, also one that a crash kept
    from the index. The old index stays in place until the new one is complete.

    Parameters
    ----------
    path
        The folder of the store.

    Returns
    -------
    int
        How many records the store holds.

    Raises
    ------
    CorruptStoreError
        The chunks do not hold the whole chain of commits, or less than the index that is there.
    """
    root = Path(path).absolute()
    files.check_has_chunks(root)
    lock = WriterLock(root)
    reader = ChunkReader(root)
    try:
        with lock.held():
            ordered = _whole_chain(reader)
            _refuse_to_lose(root, ordered[-1])
            snapshots = copies.following(reader, ((one.chunk, one.trailer) for one in ordered))
            with _new_index(root) as temporary:
                n_records = _fill(temporary, reader, ordered, snapshots.values())
            copies.remove_others(root, snapshots.values())
            lock.clear_pending(ordered[-1].trailer.number)
    finally:
        reader.close()
        lock.close()
    return n_records


def _whole_chain(reader: ChunkReader) -> list[Link]:
    """Return all commits in order; refuse if the chunks cannot hold all of them any more."""
    links: list[Link] = []
    stores: dict[uuid.UUID, str] = {}
    for name in progress(files.chunk_names(reader.root), "read", "chunks"):
        try:
            header = reader.header(name)
        except CorruptChunkError:
            if chain.mentions_commit(reader, name):
                raise
            continue  # begun and never committed to
        walk = chain.walk(reader, name, header.chunk)
        if walk.faults:
            raise walk.faults[0]
        if walk.links:
            stores.setdefault(header.store, name)
        links += walk.links
    if len(stores) > 1:
        raise CorruptStoreError(
            f"the chunks {', '.join(stores.values())} belong to different stores"
        )
    ordered, unconnected = chain.follow(links, 0, NO_COMMIT)
    if not ordered or unconnected:
        after = ordered[-1].trailer.number if ordered else 0
        raise CorruptStoreError(
            f"commit {after + 1} is in none of the chunks, but commits behind it are; "
            "a chunk is missing or damaged: run `sqlstore verify`"
            if unconnected
            else "the chunks hold no commit"
        )
    return ordered


def _refuse_to_lose(root: Path, last: Link) -> None:
    """Refuse if the index that is there, as far as it can be read, knows of later commits."""
    known = 0
    # Damage is what a rebuild is for. An index that is busy, say, may know more than the chunks.
    with contextlib.suppress(CorruptStoreError, NotAStoreError, QueryError):
        index = Index(root / INDEX_NAME, write=True)
        try:
            known = records.last_commit(index).number
        finally:
            index.close()
    if known > last.trailer.number:
        raise CorruptStoreError(
            f"the index knows {known} commits, the chunks hold {last.trailer.number} of them; "
            "run `sqlstore verify` to see what is damaged, and move index.sqlite away if you want "
            "a store of what is left",
            chunk=last.chunk,
            offset=last.trailer.end,
        )


def _fill(
    path: Path, reader: ChunkReader, ordered: list[Link], snapshots: Collection[Snapshot]
) -> int:
    """Write every commit into a new index; return how many records there are then.

    On the way, where the index is what a snapshot shows, it is copied.
    """
    from sqlstore.index import ddl  # SQLAlchemy is imported where tables are created, not before

    first, names = ordered[0], {snapshot.commit: snapshot.name for snapshot in snapshots}
    is_of = identity.of_link(reader, first)
    index = replay.create_index(path, is_of, first, reader.header(first.chunk).chunk)
    try:
        schema = is_of.schema
        for run in _runs(progress(ordered, "rebuild", "commits"), names):
            with index.transaction():
                # A key may have been free in the index only, by what another tool did there:
                # `absorb` has committed that later than the record that has taken the key.
                ddl.drop_key(index, schema)
                for link in run:
                    if link is not first:
                        schema = replay.insert_from_log(
                            index, schema, reader, link.chunk, link.trailer, sealed=False
                        )
                _make_key(index, schema, is_last=run[-1] is ordered[-1])
                index.commit()
            name = names.get(run[-1].trailer.number)
            if name is not None:
                copies.put(index, path.parent, name)
        return records.count(index)
    finally:
        index.close()


def _make_key(index: Index, schema: Schema, *, is_last: bool) -> None:
    """Make keys unique again; before the last commit they may not be, and then stay as they are."""
    from sqlstore.index import ddl  # as above

    try:
        ddl.make_key(index, schema)
    except sqlite3.IntegrityError as error:
        if not is_last:
            return
        raise CorruptStoreError(
            f"two records in the chunks have one key ({error}): another tool has changed the index "
            "between their commits; `sqlstore absorb` takes that into the log, while the index is "
            "still there"
        ) from error


def _runs(links: Iterable[Link], ends: Container[int]) -> Iterator[list[Link]]:
    """Return commits in runs, of which each but the last ends with one of some numbers."""
    run: list[Link] = []
    for link in links:
        run.append(link)
        if link.trailer.number in ends:
            yield run
            run = []
    if run:
        yield run


@contextmanager
def _new_index(root: Path) -> Iterator[Path]:
    """Put a new index in place of the old one once the block has filled it.

    The old index is moved away before its journal is removed: a crash in between leaves a store
    without an index, which says so, and never an index beside the journal of another.
    """
    temporary = root / f"{INDEX_NAME}.{secrets.token_hex(4)}.new"
    old = root / f"{INDEX_NAME}.{secrets.token_hex(4)}.old"
    index = root / INDEX_NAME
    try:
        yield temporary
        with files.storage_errors("replace", index):
            if index.exists():
                index.rename(old)
            root.joinpath(f"{INDEX_NAME}-journal").unlink(missing_ok=True)
            temporary.rename(index)
            files.sync_folder(root)
            for left_over in root.glob(f"{INDEX_NAME}.*.old"):
                left_over.unlink(missing_ok=True)
    finally:
        for left_over in root.glob(f"{INDEX_NAME}.*.new*"):
            left_over.unlink(missing_ok=True)
