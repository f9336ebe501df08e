"""The commit protocol.

1. Without a lock: bodies and segment table are appended to this writer's own chunk and synced.
2. Under the writer lock: what a crashed writer left pending is settled; an exclusive transaction
   takes the commit's number and ids and inserts its rows, so that every constraint speaks now.
3. The commit is named as pending; its trailer is appended and synced. From here on it exists.
4. SQLite commits; pending is cleared; the lock is given up.

Why no crash loses or halves a commit: before 3 the chunk only has bytes that no trailer vouches
for, and the transaction is rolled back. After 3 the trailer is durable, together with everything
that it vouches for, and whoever takes the lock next finds it, by the lock file or, after a power
failure, by the size of the chunk, and rolls it forward. It cannot be overtaken: the lock file is
looked at before a number is taken.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlstore import identity, limits, recover, replay
from sqlstore.caches import CacheFollower, CacheKeeper
from sqlstore.errors import (
    CommitOutcomeUnknownError,
    CorruptIndexError,
    ForkedStoreError,
    SchemaError,
    SqlstoreError,
    StorageError,
    StoreBusyError,
    StoreClosedError,
)
from sqlstore.forks import ToldOfForks
from sqlstore.index import records, versions
from sqlstore.index.engine import INDEX_NAME, Index
from sqlstore.interrupts import deferred_interrupts
from sqlstore.log import files
from sqlstore.log.lock import Pending, WriterLock
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, Trailer, align
from sqlstore.log.writer import ChunkWriter
from sqlstore.staged import EditedSinceError, Staged

T = TypeVar("T")


class Committer:
    """Commits what is staged to one store.

    Parameters
    ----------
    root
        The folder of the store.

    Attributes
    ----------
    schema
        The schema at the time it was opened; a commit under another is refused.
    settings
        What a commit says of the store that changes the schema; given that.
    usable
        Whether this process may commit; if not, `check_usable` says why.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._process = os.getpid()
        with contextlib.ExitStack() as opened:
            self._lock = opened.enter_context(contextlib.closing(WriterLock(root)))
            self._reader = opened.enter_context(contextlib.closing(ChunkReader(root)))
            # Under the lock, as all use of a connection that may write: see `_begin`.
            with self._lock.held():
                path = root / INDEX_NAME
                self._index = opened.enter_context(contextlib.closing(Index(path, write=True)))
                versions.check(self._index)
                self._identity = identity.of_index(self._index, self._reader)
                known = records.last_commit(self._index).number
                self._settle(thorough=True, own=None)
                if records.last_commit(self._index).number != known:  # it may be another schema
                    self._identity = identity.of_index(self._index, self._reader)
            opened.pop_all()
        self.schema = self._identity.schema
        self.settings = self._identity.settings
        keeper = CacheKeeper(root, self._index, self._reader, self._identity)
        self._cache = CacheFollower(keeper)
        self._chunk: ChunkWriter | None = None
        self._to_seal: set[str] = set()
        self._is_rebuilt = False
        self._failure: SqlstoreError | None = None
        self._closed = False
        self.usable = True
        _committers.add(self)

    def commit(
        self,
        staged: Staged,
        acknowledge: Callable[[Trailer], None],
        prepare: Callable[[Index, ChunkReader], None] | None = None,
    ) -> None:
        """Make what is staged durable.

        Parameters
        ----------
        staged
            What is committed.
        acknowledge
            Called with the commit once it is durable, before an interrupt can come between.
        prepare
            Called with index and log as of the commit before, under the writer lock; nothing is
            committed if it raises.

        Raises
        ------
        DuplicateKeyError
            A record with one of the keys exists. Nothing is committed.
        StoreFullError, StorageError
            The disk is full or fails. Nothing is committed, and this writer is at its end.
        CommitOutcomeUnknownError
            It failed so late that it may have been committed.
        """
        self.check_usable()
        try:
            chunk = self._write_segment(staged)
            try:
                self._lock.acquire()
                with deferred_interrupts():
                    try:
                        acknowledge(self._publish(chunk, staged, prepare))
                        self._cache.committed(staged.count)
                    finally:
                        self._lock.release()
            except BaseException:
                self._lock.release()  # once more: an interrupt may have come right behind acquire
                self._discard(chunk)
                raise
        except StorageError as error:
            # After a failed write or sync nobody knows what the disk holds: never try again.
            self._fail(error)
            raise

    def _fail(self, error: SqlstoreError) -> None:
        """Be at the end: what comes next is refused."""
        self._failure = error
        self.usable = False

    def _disable(self) -> None:
        self.usable = False

    def check_usable(self) -> None:
        """Raise unless this process may commit."""
        if os.getpid() != self._process:
            raise ForkedStoreError(
                "this process is a forked child of the one that opened the writer; open one here"
            )
        if self._failure is not None:
            message = f"the writer failed and cannot go on: {self._failure}"
            raise StoreClosedError(message) from self._failure
        if self._closed:
            raise StoreClosedError("the writer is closed")

    def _write_segment(self, staged: Staged) -> ChunkWriter:
        """Do step 1: everything but the trailer, in a chunk of this writer's own."""
        chunk = self._chunk if self._chunk is not None else self._begin(resume=True)
        staged.lay_out(chunk.size)
        if not self._fits(chunk, staged.end):
            self._to_seal.add(chunk.name)
            self._chunk = None
            chunk.close()
            chunk = self._begin(resume=False)
            staged.lay_out(chunk.size)
        if staged.end > limits.MAX_CHUNK_BYTES:
            raise SchemaError(
                f"a commit of {staged.end} bytes; a chunk stays below 2 GiB, commit more often"
            )
        try:
            chunk.write(staged.bodies(), staged.bodies_end, staged.table)
        except BaseException:
            self._discard(chunk)
            raise
        return chunk

    def look_up(self, read: Callable[[Index, ChunkReader], T], *, settled: bool = False) -> T:
        """Return what a function reads from index and log, under the writer lock as in `_begin`.

        If asked for, the index is brought up to the log first.
        """
        self.check_usable()
        with self._lock.held():
            self._follow_rebuild()
            if settled:
                self._settle(thorough=True, own=None)
            return read(self._index, self._reader)

    def _begin(self, *, resume: bool) -> ChunkWriter:
        """Take a chunk to append to: one that was begun before, if asked for, or a new one.

        Under the writer lock, because it reads the index on a connection that may write: after a
        rebuild that is another file than the one that has the journal, and SQLite would roll the
        journal of the new one back into the old one.
        """
        with self._lock.held():
            self._follow_rebuild()
            chunk = self._resume() if resume else None
            if chunk is None:
                sequence = records.next_chunk(self._index)
                chunk = ChunkWriter.create(self._root, self._identity.store, sequence)
            self._chunk = chunk
        return chunk

    def _follow_rebuild(self) -> None:
        """Open the index that a rebuild has put in the place of the one that is open."""
        if self._index.is_replaced():
            self._index.reopen()
            self._is_rebuilt = True

    def _fits(self, chunk: ChunkWriter, end: int) -> bool:
        """Return whether the chunk is as this writer left it and has room for the segment."""
        untouched = chunk.actual_size() == chunk.size
        return untouched and (chunk.size == HEADER_SIZE or end <= self._identity.chunk_size)

    def _resume(self) -> ChunkWriter | None:
        """Return a chunk that was begun before, that nobody writes, and that is as committed."""
        unsealed = [row for row in records.chunks(self._index) if not row.sealed]
        for candidate in reversed(unsealed):
            if files.chunk_size(self._root, candidate.name) is None:
                continue
            chunk = ChunkWriter.resume(self._root, self._identity.store, candidate.name)
            if chunk is None:
                continue
            with contextlib.ExitStack() as opened:
                opened.callback(chunk.close)
                row = records.chunk_named(self._index, candidate.name)  # as it is now, locked
                is_whole = row is not None and not row.sealed and chunk.actual_size() == row.size
                if row is not None and is_whole and row.size < self._identity.chunk_size:
                    chunk.size, chunk.integer = row.size, row.chunk
                    opened.pop_all()
                    return chunk
            self._to_seal.add(candidate.name)
        return None

    def _publish(
        self,
        chunk: ChunkWriter,
        staged: Staged,
        prepare: Callable[[Index, ChunkReader], None] | None,
    ) -> Trailer:
        """Do steps 2 to 4, under the writer lock."""
        self._follow_rebuild()
        versions.check(self._index)  # it may have been migrated meanwhile
        thorough = self._is_rebuilt or bool(self._to_seal)
        self._settle(thorough=thorough, own=chunk.name if self._is_as_left(chunk) else None)
        self._is_rebuilt = False
        if prepare is not None:
            prepare(self._index, self._reader)
        with self._index.transaction():
            trailer = self._insert(chunk, staged)
            self._lock.name_pending(Pending(chunk.name, trailer.table_end, trailer.number))
            try:
                chunk.write_trailer(trailer)
                self._index.commit()
            except BaseException as error:
                self._undo(chunk, trailer, error)
                raise
        chunk.committed(trailer)
        try:
            self._lock.clear_pending(trailer.number)
        except StorageError as error:
            self._fail(error)  # this commit stands, and what is still named does no harm
        return trailer

    def _settle(self, *, thorough: bool, own: str | None) -> None:
        how = self._identity.schema, self._reader, self._lock
        recover.settle(self._index, *how, thorough=thorough, own=own)

    def _is_as_left(self, chunk: ChunkWriter) -> bool:
        """Return whether the index knows all that this writer has committed to its chunk."""
        row = records.chunk_named(self._index, chunk.name)
        return chunk.is_new if row is None else row.size == chunk.size

    def _insert(self, chunk: ChunkWriter, staged: Staged) -> Trailer:
        """Do step 2: take number and ids, and insert the rows."""
        last = self._last_commit()
        since = staged.computed_at
        if since is not None and records.is_other_since(self._index, since, staged.allows):
            raise EditedSinceError(f"{self._root} was changed meanwhile; try again")
        table_start = align(staged.bodies_end)
        trailer = Trailer(
            kind=staged.kind,
            skippable=staged.skippable,
            schema_version=last.number + 1 if staged.changes_schema else last.schema_version,
            number=last.number + 1,
            commit=uuid.uuid4(),
            previous=last.commit,
            first_record=last.first_record + last.records,
            records=staged.count,
            committed_at=time.time_ns() // 1000,
            chunk=records.next_chunk(self._index) if chunk.integer is None else chunk.integer,
            bodies_start=chunk.size,
            bodies_end=staged.bodies_end,
            table_start=table_start,
            table_end=table_start + staged.table.size,
            table_crc=zlib.crc32(staged.table),
        )
        try:
            staged.insert(self._index, trailer)
            for name in self._to_seal:
                records.seal_chunk(self._index, name)
            replay.insert_commit(self._index, trailer, chunk.name, str(chunk.chunk), sealed=False)
        except sqlite3.IntegrityError as error:
            self._index.rollback()
            raise staged.refused(self._index, error) from error
        self._to_seal.clear()
        return trailer

    def _last_commit(self) -> Trailer:
        """Return the commit to follow, as the log has it.

        Raises
        ------
        CorruptIndexError
            The index says otherwise; following it would carry its damage into the log.
        SchemaError
            The schema has changed since this writer was opened.
        """
        row = records.last_commit(self._index)
        _, trailer = identity.trailer_of(self._index, self._reader, row)
        known = records.store(self._index)
        next_record = trailer.first_record + trailer.records
        not_in_log = known.generation, known.checkpoint
        expected = replay.store_row(self._identity, next_record, *not_in_log)
        if known.schema_version == trailer.schema_version != self.schema.version:
            raise SchemaError("the schema has changed: try again, or open the writer anew")
        if known != expected:
            raise CorruptIndexError(
                f"{self._index.path} says otherwise than the log what the store is; "
                f"run `sqlstore rebuild {self._root}`"
            )
        return trailer

    def _undo(self, chunk: ChunkWriter, trailer: Trailer, error: BaseException) -> None:
        """Make a commit not have happened whose trailer may be there already.

        Raises
        ------
        CommitOutcomeUnknownError
            That cannot be done, or not be known.
        """
        try:
            if self._index.connection.in_transaction:
                self._index.rollback()
            if records.last_commit(self._index).number < trailer.number:
                chunk.discard()
                self._lock.clear_pending(trailer.number - 1)
                return
        except (SqlstoreError, OSError):
            pass  # what can be done is said below, with the first error as its cause
        unknown = CommitOutcomeUnknownError(
            f"commit {trailer.number} may or may not have happened; open the store anew to see",
            chunk=chunk.name,
            offset=trailer.table_end,
        )
        self._fail(unknown)
        raise unknown from error

    def _discard(self, chunk: ChunkWriter) -> None:
        """Cut off what was written; if that fails the chunk is not used again."""
        try:
            if not chunk.may_hold_commit:
                chunk.discard()
        except StorageError:
            self._to_seal.add(chunk.name)
            chunk.close()
            self._chunk = None

    def close(self) -> None:
        """Give up the chunk and the connection."""
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        self.usable = False
        if self._cache.is_behind and self._failure is None:
            with contextlib.suppress(StorageError, StoreBusyError), self._lock.held():
                self._follow_rebuild()
                self._cache.extend()
        if self._chunk is not None:
            self._chunk.abandon()
        self._lock.close()
        self._reader.close()
        self._index.close()


_committers = ToldOfForks(Committer._disable)
