"""What is known of the commits of a damaged store: from its chunks, from its index, by numbers.

A commit whose trailer is gone is still known if the index has its row; or else by the gap that it
leaves in the numbers, and by the commit behind it, which names its uuid. The cache knows which
chunks there were, and how many commits.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlstore import limits, replay, restore
from sqlstore.cache.segments import Place
from sqlstore.errors import CorruptStoreError, ForkedLogError
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.index.records import ChunkRow, CommitRow
from sqlstore.log import chain, files
from sqlstore.log.chain import Link
from sqlstore.log.checkpoint import Checkpoint
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, CommitKind, Header
from sqlstore.maintenance.repair.from_cache import Cached

MOST_GONE = 1000
"""Commits behind the last that is known: what says how many there were may be damaged itself."""

_NOWHERE = "000000-00000000.chunk"
"""The name of a chunk of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Known:
    """A commit: its row, where it lies, and its trailer unless that is damaged.

    Neither log nor index has the row of one that is guessed: what kind it was nobody knows.
    """

    row: CommitRow
    chunk: ChunkRow
    link: Link | None
    is_guessed: bool

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
    cached
        What the cache says; None if there is none.

    Attributes
    ----------
    store
        The uuid of the store.
    headers
        What the headers of chunks say, or said before they were damaged, by name.
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

    def __init__(self, reader: ChunkReader, index: Index | None, cached: Cached | None) -> None:
        self._reader = reader
        self._index = index
        self._cached = cached
        self._uuids = self._known_uuids()
        self._tails: set[str] = set()
        self._ends: dict[str, int] = {}
        self.damaged: set[str] = set()
        self.headers = headers = dict(self._headers())
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
        for row in self.chunks.values():
            if self._ends.get(row.name, row.size) < row.size:  # commits at its end are gone
                self.damaged.add(row.name)
        self.commits = self._known()
        self._take_cached_chunks()
        if not (self.commits or self._history):
            raise CorruptStoreError("neither chunks nor index know of any commit")

    def _known_uuids(self) -> dict[str, tuple[uuid.UUID, uuid.UUID]]:
        """Return the uuids of store and chunk by the names of the chunks that others know."""
        found = {}
        if self._cached is not None:
            of_cache = self._cached.chunks.values()
            found = {one.name: (self._cached.manifest.store, one.uuid) for one in of_cache}
        if self._index is not None:
            store = uuid.UUID(records.store(self._index).uuid)
            of_index = records.chunks(self._index)
            found |= {row.name: (store, uuid.UUID(row.uuid)) for row in of_index}
        return found

    def _headers(self) -> Iterator[tuple[str, Header]]:
        """Return the headers of all chunk files; a damaged one as others say that it was."""
        for name in files.chunk_names(self._reader.root):
            try:
                yield name, self._reader.header(name)
            except CorruptStoreError:
                known = self._uuids.get(name)
                if known is not None:
                    yield name, Header(*known)
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
        self._ends[name] = walk.end
        if walk.end < self._reader.size(name):
            self._tails.add(name)
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

    def _take_cached_chunks(self) -> None:
        """Take chunks that only the cache knows: it may be all that says what lies in them."""
        if self._cached is None or not self.is_ours(self._cached):
            return
        for number, row in self._cached_only().items():
            self.chunks[number] = row
            self.damaged |= {row.name}.intersection(files.chunk_names(self._reader.root))

    def _cached_only(self) -> dict[int, ChunkRow]:
        """Return the chunks that only the cache knows, by number."""
        if self._cached is None or self._cached.manifest.store != self.store:
            return {}
        names = {row.name for row in self.chunks.values()}
        return {
            number: ChunkRow(number, one.name, str(one.uuid), HEADER_SIZE, 1)
            for number, one in self._cached.chunks.items()
            if number not in self.chunks and one.name not in names
        }

    def is_ours(self, cached: Cached) -> bool:
        """Return whether the cache is of these commits, and not of those of a copy."""
        uuids = {known.row.number: known.row.uuid for known in self.commits}
        found = cached.manifest
        return found.store == self.store and uuids.get(found.commit) == str(found.commit_uuid)

    def _behind(self, rows: dict[int, CommitRow], before: CommitRow | None) -> CommitRow | None:
        """Return the last commit that the cache has, if that is behind all that are known.

        It counts as one without records where others are gone before it, as of every gap.
        """
        if self._cached is None or self._cached.manifest.store != self.store:
            return None
        found = self._cached.manifest
        end = max(rows, default=before.number if before is not None else 0)
        last = rows.get(end, before)
        if last is None or found.commit <= end or found.commit > end + MOST_GONE:
            return None
        next_record = last.first_record + last.records
        count = found.records - next_record if found.commit == end + 1 else 0
        if count < 0 or found.records < next_record:
            return None
        kind = CommitKind.APPEND if count else CommitKind.UPDATE
        uuids, place = str(found.commit_uuid), self._nowhere(found.commit)
        return CommitRow(
            found.commit, uuids, kind, *place, last.committed_at, found.records - count, count
        )

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
        said = set(rows)
        if (behind := self._behind(rows, previous)) is not None:
            rows[behind.number] = behind
        there = sorted(number for number in rows if number > start)
        end = there[-1] if there else start
        if end - start - len(there) > limits.MAX_LOST_COMMITS:
            raise CorruptStoreError(
                f"of the commits up to {end} only {len(there)} are there; a chunk is missing, or "
                "the number is damaged: put the chunks back from a copy"
            )
        for number in range(start + 1, end + 1):
            after = rows[there[bisect.bisect_left(there, number)]]
            row = after if after.number == number else self._from_gap(number, after, previous)
            link = self.links.get(number)
            if row.chunk not in self.chunks:
                raise CorruptStoreError(
                    f"commit {number} lies in chunk {row.chunk}, of which nobody knows"
                )
            self._check_follows(row, link, previous)
            if link is None:
                # Where a commit lay of which nothing tells, any bytes of no commit may be its.
                names = {self.chunks[row.chunk].name} if number in said else self._tails
                self.damaged |= names
            is_guessed = number not in said and row.kind != CommitKind.CHECKPOINT_PART
            found.append(Known(row, self.chunks[row.chunk], link, is_guessed))
            previous = row
        return found

    def _check_follows(self, row: CommitRow, link: Link | None, previous: CommitRow | None) -> None:
        record = previous.first_record + previous.records if previous is not None else 0
        if row.first_record != record or row.records < 0:
            raise CorruptStoreError(
                f"commit {row.number} has {row.records} records from {row.first_record} on, and "
                f"the one before it ends at {record}; one of them is damaged",
                chunk=self.chunks[row.chunk].name,
                offset=row.offset,
            )
        if link is None or previous is None or str(link.trailer.previous) == previous.uuid:
            return
        raise ForkedLogError(
            f"commit {link.trailer.number} does not follow commit {previous.number}; chunks of two "
            "copies of the store were mixed: keep those of one",
            chunk=link.chunk,
            offset=link.trailer.table_end,
        )

    def _from_gap(self, number: int, after: CommitRow, previous: CommitRow | None) -> CommitRow:
        """Return the row of a commit of which only the commits around it tell.

        What records there were between them, the first has appended: nothing else brings records.
        A checkpoint that is whole names its parts.
        """
        link = self.links.get(number + 1)
        own = str(link.trailer.previous) if link is not None else str(uuid.uuid4())
        first = previous.first_record + previous.records if previous is not None else 0
        count = after.first_record - first
        kind = CommitKind.APPEND if count else CommitKind.UPDATE
        kind = kind if number > 1 else CommitKind.CREATE
        if self.base is not None and number in (span.commit for span in self.base.spans):
            kind = CommitKind.CHECKPOINT_PART
        place = self._nowhere(number)
        return CommitRow(number, own, kind, *place, after.committed_at, first, count)

    def _nowhere(self, commit: int) -> tuple[int, int]:
        """Return the number of a chunk that a lost commit may have been in, and its own offset.

        Chunks that only the cache knows come first, then one of which nothing is known, with the
        lowest number that is free: numbers of chunks stay below those of their commits.
        """
        gone, known = self._cached_only(), {row.name: row for row in self.chunks.values()}
        free = next(number for number in itertools.count() if number not in self.chunks)
        unknown = ChunkRow(free, _NOWHERE, str(uuid.uuid4()), HEADER_SIZE, 1)
        row = next(iter(gone.values()), known.get(_NOWHERE, unknown))
        self.chunks[row.chunk] = row
        return row.chunk, HEADER_SIZE + commit

    def dictionaries_before(self, known: Known) -> int:
        """Return how many dictionaries were committed before a commit."""
        rows = [*self._history, *(one.row for one in self.commits)]
        kinds = [row.kind for row in rows if row.number < known.row.number]
        return kinds.count(CommitKind.DICTIONARY)

    def gone(self) -> set[int]:
        """Return the numbers of the chunks that are damaged, or not there."""
        there = set(files.chunk_names(self._reader.root)) - self.damaged
        return {number for number, row in self.chunks.items() if row.name not in there}

    def is_whole(self) -> bool:
        """Return whether no chunk is damaged, and none is missing that is needed."""
        return not self.damaged and all(self.chunks[number].retired for number in self.gone())
