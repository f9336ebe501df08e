"""Make the index anew from the chunk files."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import uuid
from collections.abc import Collection, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlstore import copies, identity, replay, restore
from sqlstore.copies import Snapshot
from sqlstore.errors import (
    CorruptChunkError,
    CorruptStoreError,
    MissingChunkError,
    NotAStoreError,
)
from sqlstore.index import records
from sqlstore.index.engine import INDEX_NAME, Index
from sqlstore.log import chain, checkpoint, files
from sqlstore.log.chain import Link
from sqlstore.log.checkpoint import Checkpoint
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
    with contextlib.closing(WriterLock(root)) as lock, lock.held():
        return rebuilt(root, lock, may_lose=False)


def rebuilt(root: Path, lock: WriterLock, *, may_lose: bool) -> int:
    """Do it under the writer lock, which must be held; return how many records there are.

    Parameters
    ----------
    may_lose
        Whether the index may know of later commits than the chunks.
    """
    with contextlib.closing(ChunkReader(root)) as reader:
        log = _Log(reader)
        if not may_lose:
            _refuse_to_lose(root, log.ordered[-1])
        snapshots = log.snapshots()
        for some in _by_checkpoint(reader, log.links, snapshots, log.last):
            with _removed_at_end(root) as temporary:
                _Log(reader, log.links, some).fill(temporary, some)
        with _new_index(root) as temporary:
            n_records = log.fill(temporary, snapshots)
        copies.remove_others(root, snapshots)
        lock.clear_pending(log.ordered[-1].trailer.number)
    return n_records


class _Log:
    """Commits from the last checkpoint on, or from the first commit if there is none.

    Parameters
    ----------
    reader
        Reads the log.
    links
        All commits that there are, in any order; read if they are not given.
    shown
        Snapshots that nothing behind is needed for; by default nothing may be missing at all.
    """

    def __init__(
        self,
        reader: ChunkReader,
        links: list[Link] | None = None,
        shown: Collection[Snapshot] | None = None,
    ) -> None:
        self._reader = reader
        self.links = _all_links(reader) if links is None else links
        end = None if shown is None else max(snapshot.commit for snapshot in shown)
        self.last = checkpoint.newest(reader, self.links, end)
        last = self.last
        start = (0, NO_COMMIT, 0) if last is None else (last.as_of, last.commit, last.next_record)
        ordered, unconnected = chain.follow(self.links, *start)
        self.ordered = [one for one in ordered if end is None or one.trailer.number <= end]
        reached = self.ordered[-1].trailer.number if self.ordered else start[0]
        if (unconnected if end is None else reached < end) or not self.ordered:
            raise CorruptStoreError(
                f"commit {reached + 1} is in none of the chunks, but commits behind it are; a "
                "chunk is missing or damaged: put it back from a copy, or let `sqlstore repair` "
                "make a store of what is left"
                if self.links
                else "the chunks hold no commit"
            )

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots that there are at the end."""
        commits = ((one.chunk, one.trailer) for one in self.ordered)
        before = copies.of_checkpoint(self.last) if self.last is not None else ()
        return list(copies.following(self._reader, commits, before).values())

    def fill(self, path: Path, snapshots: Collection[Snapshot]) -> int:
        """Write every commit into a new index; return how many records there are then.

        On the way, where the index is what a snapshot shows, it is copied.
        """
        from sqlstore.index import ddl  # SQLAlchemy is imported where tables are created

        names = {snapshot.commit: snapshot.name for snapshot in snapshots}
        index, schema = self._begun(path)
        try:
            for run in _runs(progress(self.ordered, "rebuild", "commits"), names):
                with index.transaction():
                    # A key may have been free in the index only, by what another tool did there:
                    # `absorb` has committed that later than the record that has taken the key.
                    ddl.drop_key(index, schema)
                    for link in run:
                        if link.trailer.previous != NO_COMMIT:
                            how = self._reader, link.chunk, link.trailer
                            schema = replay.insert_from_log(index, schema, *how, sealed=False)
                    _make_key(index, schema, is_last=run[-1] is self.ordered[-1])
                    index.commit()
                name = names.get(run[-1].trailer.number)
                if name is not None:
                    copies.put(index, path.parent, name)
            return records.count(index)
        finally:
            index.close()

    def _begun(self, path: Path) -> tuple[Index, Schema]:
        """Return an index that holds what the first of the commits follow, and the schema then."""
        if self.last is not None:
            index, is_of = restore.create_index(path, self._reader, self.last, self.links)
            return index, is_of.schema
        first = self.ordered[0]
        is_of = identity.of_link(self._reader, first)
        chunk = self._reader.header(first.chunk).chunk
        return replay.create_index(path, is_of, first, chunk), is_of.schema


def _all_links(reader: ChunkReader) -> list[Link]:
    """Return all commits in the chunks; refuse if these cannot hold all of them any more."""
    links: list[Link] = []
    stores: dict[uuid.UUID, str] = {}
    for name in progress(files.chunk_names(reader.root), "read", "chunks"):
        try:
            header = reader.header(name)
        except MissingChunkError:
            continue  # begun by somebody who has taken it back since it was listed
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
    return links


def _by_checkpoint(
    reader: ChunkReader,
    links: list[Link],
    snapshots: Collection[Snapshot],
    last: Checkpoint | None,
) -> list[list[Snapshot]]:
    """Return the snapshots of what was before the last checkpoint, by that which they follow."""
    found: dict[int, list[Snapshot]] = {}
    for snapshot in snapshots:
        if last is not None and snapshot.commit <= last.as_of:
            before = checkpoint.newest(reader, links, snapshot.commit)
            number = before.trailer.number if before is not None else 0
            found.setdefault(number, []).append(snapshot)
    return list(found.values())


def _refuse_to_lose(root: Path, last: Link) -> None:
    """Refuse if the index that is there, as far as it can be read, knows of later commits."""
    known = 0
    # Damage is what a rebuild is for. An index that is busy, say, may know more than the chunks.
    with contextlib.suppress(CorruptStoreError, NotAStoreError):
        index = Index(root / INDEX_NAME, write=True)
        try:
            known = records.last_commit(index).number
        finally:
            index.close()
    if known > last.trailer.number:
        raise CorruptStoreError(
            f"the index knows {known} commits, the chunks hold {last.trailer.number} of them; "
            "a chunk is missing or damaged: put it back from a copy, or let `sqlstore repair` make "
            "a store of what is left",
            chunk=last.chunk,
            offset=last.trailer.end,
        )


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
def _removed_at_end(root: Path) -> Iterator[Path]:
    """Give the place of an index that is only needed inside the block."""
    temporary = root / f"{INDEX_NAME}.{secrets.token_hex(4)}.new"
    try:
        yield temporary
    finally:
        for left_over in root.glob(f"{temporary.name}*"):
            left_over.unlink(missing_ok=True)


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
        with contextlib.suppress(OSError):
            for left_over in root.glob(f"{INDEX_NAME}.*.new*"):
                left_over.unlink(missing_ok=True)
