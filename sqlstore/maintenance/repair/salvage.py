"""What is known of the commits of a damaged store: from its chunks, from its index, by numbers.

A commit whose trailer is gone is still known if the index has its row; or else by the gap that it
leaves in the numbers, and by the commit behind it, which names its uuid.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlstore import replay, restore
from sqlstore.cache.segments import Place
from sqlstore.errors import CorruptStoreError, ForkedLogError
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.index.records import ChunkRow, CommitRow
from sqlstore.log import chain, files
from sqlstore.log.chain import Link
from sqlstore.log.checkpoint import Checkpoint
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, TRAILER_SIZE, CommitKind, Header

NOWHERE = "000000-00000000.chunk"
"""The name of a chunk of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Known:
    """A commit: its row, where it lies, and its trailer unless that is damaged."""

    row: CommitRow
    chunk: ChunkRow
    link: Link | None

    def place(self) -> Place:
        """Return where it lies."""
        row, name = self.row, self.link.chunk if self.link is not None else self.chunk.name
        ids = row.first_record, row.records
        uuids = uuid.UUID(self.chunk.uuid), uuid.UUID(row.uuid)
        return Place(row.number, row.kind, *ids, row.chunk, name, row.offset, *uuids)


class Salvage:
    """All commits of a store as far as they are known.

    Parameters
    ----------
    reader
        Reads the log.
    index
        The index if SQLite finds no damage in it; None otherwise.

    Attributes
    ----------
    store
        The uuid of the store.
    damaged
        The names of chunks that are damaged in themselves.
    chunks
        The chunks by number, retired ones included.
    base
        The last checkpoint that is whole, or None.
    links
        The commits whose trailers are right, by number.
    commits
        All commits behind the state of the checkpoint, in order.

    Raises
    ------
    ForkedLogError, CorruptStoreError
        Chunks of several stores, or of copies with histories of their own, were mixed.
    """

    def __init__(self, reader: ChunkReader, index: Index | None) -> None:
        self._reader = reader
        self._index = index
        self._uuids = {row.name: row.uuid for row in records.chunks(index)} if index else {}
        self.damaged: set[str] = set()
        headers = dict(self._headers())
        self.store = self._store(headers)
        self.links: dict[int, Link] = {}
        self.chunks: dict[int, ChunkRow] = {}
        for row in records.chunks(index) if index is not None else ():
            self.chunks[row.chunk] = row
        for name, header in headers.items():
            if header.store == self.store:
                self._walk(name, header.chunk)
            else:
                self.damaged.add(name)
        self.base, self._history = self._last_checkpoint()
        self.commits = self._known()
        if not (self.commits or self._history):
            raise CorruptStoreError("neither chunks nor index know of any commit")

    def _headers(self) -> Iterator[tuple[str, Header]]:
        """Return the headers of all chunk files; a damaged one as the index says that it was."""
        for name in files.chunk_names(self._reader.root):
            try:
                yield name, self._reader.header(name)
            except CorruptStoreError:
                known = self._uuids.get(name)
                if known is not None and self._index is not None:
                    store = uuid.UUID(records.store(self._index).uuid)
                    yield name, Header(store, uuid.UUID(known))
                if known is not None or chain.mentions_commit(self._reader, name):
                    self.damaged.add(name)

    def _store(self, headers: dict[str, Header]) -> uuid.UUID:
        stores = Counter(header.store for header in headers.values())
        if self._index is not None:
            named = uuid.UUID(records.store(self._index).uuid)
            if named not in stores:
                raise CorruptStoreError(
                    "index.sqlite is of another store than all chunks: move it away"
                )
            return named
        if len(stores) != 1:
            raise CorruptStoreError(
                f"the chunks belong to {len(stores)} stores, and there is no index that says which "
                "is meant: move those of others away"
                if stores
                else "no chunk has a header that can be read, and there is no index"
            )
        return next(iter(stores))

    def _walk(self, name: str, chunk: uuid.UUID) -> None:
        walk = chain.walk(self._reader, name, chunk)
        if walk.faults:
            self.damaged.add(name)
        for link in walk.links:
            number = link.trailer.number
            other = self.links.setdefault(number, link)
            if other.trailer != link.trailer:
                raise ForkedLogError(
                    f"commit {number} is in {other.chunk} and another one in {name}; chunks of two "
                    "copies of the store were mixed: keep those of one"
                )
        if walk.links:
            number = walk.links[-1].trailer.chunk
            before = self.chunks.get(number)
            flags = (before.sealed, before.retired) if before is not None else (0, 0)
            size = max(walk.end, before.size if before is not None else 0)
            self.chunks[number] = ChunkRow(number, name, str(chunk), size, *flags)

    def _last_checkpoint(self) -> tuple[Checkpoint | None, list[CommitRow]]:
        """Return the last checkpoint that is whole, and the commits that it knows."""
        for link in sorted(self.links.values(), key=lambda one: -one.trailer.number):
            if link.trailer.kind != CommitKind.CHECKPOINT:
                continue
            with contextlib.suppress(CorruptStoreError):
                found = Checkpoint(self._reader, link.chunk, link.trailer)
                for fault in found.check():
                    raise fault
                history = restore.commits(found)
                for row in found.rows("chunks"):
                    self._take_chunk(row)
                return found, history
            self.damaged.add(link.chunk)
        return None, []

    def _take_chunk(self, row: dict[str, object]) -> None:
        number, retired = int(str(row["chunk"])), int(bool(row["retired"]))
        place = str(row["name"]), str(row["uuid"]), int(str(row["size"]))
        before = self.chunks.get(number, ChunkRow(number, *place, sealed=retired))
        size, sealed = max(before.size, place[2]), max(before.sealed, retired)
        retired = max(before.retired, retired)
        self.chunks[number] = ChunkRow(number, before.name, before.uuid, size, sealed, retired)

    @property
    def end(self) -> CommitRow:
        """Return the last commit that is known."""
        return self.commits[-1].row if self.commits else self._history[-1]

    def _known(self) -> list[Known]:
        rows = {number: replay.commit_row(link.trailer) for number, link in self.links.items()}
        for row in records.commits(self._index) if self._index is not None else ():
            if rows.setdefault(row.number, row).uuid != row.uuid:
                raise CorruptStoreError(
                    f"index and chunks have different commits {row.number}; one of them is of "
                    "another copy of the store: move index.sqlite away if the chunks are right"
                )
        start = self.base.as_of if self.base is not None else 0
        found: list[Known] = []
        previous = self._history[-1] if self._history else None
        for number in range(start + 1, max(rows, default=0) + 1):
            row = rows.get(number) or self._from_gap(number, rows, previous)
            link = self.links.get(number)
            self._check_follows(link, previous)
            if link is None:
                self.damaged.add(self.chunks[row.chunk].name)
            found.append(Known(row, self.chunks[row.chunk], link))
            previous = row
        return found

    def _check_follows(self, link: Link | None, previous: CommitRow | None) -> None:
        if link is None or previous is None or str(link.trailer.previous) == previous.uuid:
            return
        raise ForkedLogError(
            f"commit {link.trailer.number} does not follow commit {previous.number}; chunks of two "
            "copies of the store were mixed: keep those of one",
            chunk=link.chunk,
            offset=link.trailer.table_end,
        )

    def _from_gap(
        self, number: int, rows: dict[int, CommitRow], previous: CommitRow | None
    ) -> CommitRow:
        """Return the row of a commit of which only the commits around it tell.

        What records there were between them, the first has appended: nothing else brings records.
        """
        after = next(rows[n] for n in itertools.count(number + 1) if n in rows)
        link = self.links.get(number + 1)
        own = str(link.trailer.previous) if link is not None else str(uuid.uuid4())
        first = previous.first_record + previous.records if previous is not None else 0
        count = after.first_record - first
        kind = CommitKind.APPEND if count else CommitKind.UPDATE
        kind = kind if number > 1 else CommitKind.CREATE
        # The lowest that is free: numbers of chunks stay below those of their commits.
        chunk = next(number for number in itertools.count() if number not in self.chunks)
        if NOWHERE in (known := {row.name: row.chunk for row in self.chunks.values()}):
            chunk = known[NOWHERE]
        self.chunks[chunk] = ChunkRow(chunk, NOWHERE, str(uuid.uuid4()), HEADER_SIZE, 1)
        offset = HEADER_SIZE + number * TRAILER_SIZE  # each has a place of its own
        return CommitRow(number, own, kind, chunk, offset, after.committed_at, first, count)

    def gone(self) -> set[int]:
        """Return the numbers of the chunks that are damaged, or not there."""
        there = set(files.chunk_names(self._reader.root)) - self.damaged
        return {number for number, row in self.chunks.items() if row.name not in there}

    def is_whole(self) -> bool:
        """Return whether no chunk is damaged, and none is missing that is needed."""
        return not self.damaged and all(self.chunks[number].retired for number in self.gone())
