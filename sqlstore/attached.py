"""Which commit of a store is seen, and which cache it is read from."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeAlias

import numpy as np

from sqlstore.cache import manifest, removed
from sqlstore.cache.chunks import ChunkFiles
from sqlstore.cache.metadata import Mirror
from sqlstore.caches import Cache
from sqlstore.encodings import Encoding
from sqlstore.errors import (
    CorruptCacheError,
    CorruptChunkError,
    CorruptIndexError,
    CorruptStoreError,
    ReadOnlyError,
    StoreClosedError,
)
from sqlstore.finder import Finder, check_still_there
from sqlstore.forks import ToldOfForks
from sqlstore.index.records import CommitRow
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import Trailer
from sqlstore.opening import NOTHING_SEEN, Opening, Seen
from sqlstore.positions import NO_IDS, as_array
from sqlstore.reading.chunks import Chunks, MappedChunks, ReadChunks
from sqlstore.reading.dictionaries import StoredDictionaries
from sqlstore.reading.field import FieldValues
from sqlstore.schema import Schema
from sqlstore.types import Ids

ATTEMPTS: Final = 5
"""How often a cache is looked for: others may extend and remove its files at the same time."""

Raw: TypeAlias = Callable[[int], bytes | None]


class Attached:
    """One store as of one commit, attached to its cache.

    SQLite is only opened to find records, and to see which commits there are. What has come from
    another process does neither unless it is asked to.

    Parameters
    ----------
    how
        How it is opened.
    store, schema
        Its uuid, its fields and metadata columns.
    finder
        The index; None to open it when it is needed.

    Attributes
    ----------
    raws
        `FieldValues.raw` by the names of fields that have been used. Another dict whenever other
        records are seen; the old one is emptied then, and when the store is closed.
    seen
        What is visible.
    deleted
        The ids of the records that were deleted, ascending.
    """

    def __init__(
        self, how: Opening, store: uuid.UUID, schema: Schema, finder: Finder | None = None
    ) -> None:
        self.how = how
        self.root = how.root
        self.store = store
        self.schema = schema
        self.seen = NOTHING_SEEN
        self.raws: dict[str, Raw] = {}
        self.cache: Cache | None = None
        self._finder = finder
        self._reader = ChunkReader(how.root)
        self._chunks: Chunks | None = None
        self._mirror = Mirror(how.root, ())
        self.deleted = NO_IDS
        self._ids: range | Ids | None = None
        self._dictionaries: StoredDictionaries | None = None
        self._values: dict[str, FieldValues] = {}
        self._encodings: dict[int, Encoding] = {}
        self._own_commit = 0
        self._closed = False
        self._mutex = threading.RLock()
        _attached.add(self)

    @classmethod
    def open(cls, how: Opening) -> Self:
        """Open a store as of its newest commit."""
        finder = Finder(how)
        try:
            source = cls(how, finder.identity.store, finder.schema, finder)
            source.refresh()
        except BaseException:
            finder.close()
            raise
        return source

    @property
    def finder(self) -> Finder:
        """Return the index, opened when first needed."""
        self.check_open()
        return self._opened_finder()

    def _opened_finder(self) -> Finder:
        with self._mutex:
            if self._finder is None:
                self._finder = Finder(self.how)
                self._finder.see(self.seen.records)
            return self._finder

    @property
    def next_record(self) -> int:
        """Return the id that the next record would get: those below it are visible."""
        return self.seen.records

    def ids(self) -> range | Ids:
        """Return the ids of all records that are visible."""
        ids = self._ids
        if ids is None:
            ids = range(self.next_record)
            if len(self.deleted):
                ids = np.delete(as_array(ids), self.deleted)
            self._ids = ids  # in one step, as other threads ask as well
        return ids

    def refresh(self, up_to: int | None = None) -> None:
        """See the commits that have come since.

        Parameters
        ----------
        up_to
            Number of the last commit to see; all by default.
        """
        with self._mutex:
            finder = self._opened_finder()
            finder.follow_rebuild()
            if self.seen.commit:
                self._commit_seen(finder)
            last = finder.last_commit() if up_to is None else finder.commit(up_to)
            if last is None:
                raise CorruptIndexError(f"the index of {self.root} lacks commit {up_to}")
            if last.number > self.seen.commit:
                self._see(last)

    def _commit_seen(self, finder: Finder) -> CommitRow:
        """Return the commit that is seen, as the index has it.

        Raises
        ------
        CorruptStoreError
            It has another one of that number.
        """
        found = finder.commit(self.seen.commit)
        if found is None:
            raise CorruptIndexError(
                f"the index of {self.root} lacks commit {self.seen.commit}: it is damaged, or the "
                "store has another history than when it was opened; open it anew"
            )
        if found.uuid != str(self.seen.uuid):
            raise CorruptStoreError(
                f"{self.root} has another history than when it was opened; open it anew"
            )
        return found

    def _see(self, last: CommitRow) -> None:
        finder = self._opened_finder()
        finder.follow_schema()
        seen = finder.seen(last)
        self._attach_current(last, seen)
        self.schema = finder.schema
        finder.see(seen.records)

    def _attach_current(self, last: CommitRow, seen: Seen) -> None:
        """Read from a cache that holds everything up to a commit, made if need be."""
        caches = self._opened_finder().caches
        refused: CorruptCacheError | None = None
        for _ in range(ATTEMPTS):
            cache = caches.current(last) if seen.records else None
            try:
                self.attach(cache, seen)
            except CorruptCacheError as error:  # its files are gone, or the disk gives none
                refused = error
                if cache is not None:
                    caches.discard(cache)
            else:
                return
        raise CorruptCacheError(f"the cache of {self.root} does not stay whole") from refused

    def attach(self, cache: Cache | None, seen: Seen) -> None:
        """Read from a cache from now on.

        Records stay visible that were deleted behind the commit that is seen, as positions must not
        change under who holds them; but to read them is refused.
        """
        with self._mutex:
            ids = self.ids() if self.cache is not None and seen == self.seen else None
            if cache is not None:
                known = ChunkFiles(cache.edition, cache.manifest.chunks)
                if self._chunks is None:
                    self._chunks = self._make_chunks(known)
                self._chunks.known = known
                known_before = self._dictionaries
                if known_before is None or not known_before.are_those_of(cache.manifest):
                    self._dictionaries = StoredDictionaries(
                        cache.manifest, self._chunks, self._reader
                    )
                parts = cache.manifest.parts
                goes_on = self.cache is not None and self.cache.edition == cache.edition
                self._mirror = (
                    self._mirror.extended(parts) if goes_on else Mirror(cache.edition, parts)
                )
                deleted = removed.load(cache.edition, cache.manifest.deleted)
                self.deleted = deleted[: np.searchsorted(deleted, seen.records)]
            self.cache, self.seen, self._ids = cache, seen, ids
            self._values = {}  # its files may be others now: what was checked is checked again
            before, self.raws = self.raws, {}
            before.clear()

    def _make_chunks(self, known: ChunkFiles) -> Chunks:
        if self.how.io == "pread":
            return ReadChunks(self._reader, self.store, known)
        in_memory = self.how.io == "memory"
        return MappedChunks(self.root, self.store, known, in_memory=in_memory)

    def committed(self, trailer: Trailer) -> None:
        """Say that a commit was made from here.

        It is looked up when something is read next: what may go wrong then must not look as if the
        commit had gone wrong.
        """
        if not self._closed:
            self._own_commit = max(self._own_commit, trailer.number)
            self.raws.clear()

    def check_writable(self) -> None:
        """Raise unless commits can be made from here."""
        if self.how.snapshot is not None:
            raise ReadOnlyError(f"snapshot {self.how.snapshot.name!r} of {self.root} never changes")
        if self.how.mode != "a":
            raise ReadOnlyError(
                f'{self.root} is open for reading; open it with mode="a" to append or edit'
            )
        check_still_there(self.root)

    def check_open(self) -> None:
        """Raise if the store has been closed; else see the own commits that have come since."""
        if self._closed:
            raise StoreClosedError(f"the store {self.root} is closed")
        if self._own_commit > self.seen.commit:
            self.refresh(up_to=self._own_commit)

    def renew(self, damaged: Cache | None) -> None:
        """Read from another cache than the one that has turned out to be damaged or gone."""
        with self._mutex:
            if damaged is None or self.cache is not damaged:
                return  # another thread has done it
            self._values.clear()
            found = manifest.load(damaged.folder)
            if found is None or found == damaged.manifest:
                self._opened_finder().caches.discard(damaged)
                self._attach_from_index()
            else:
                self._resume(damaged.folder, damaged.manifest.edition)

    def follow_compaction(self, used: Cache | None) -> bool:
        """Read from where a compaction has moved values to; ids and what is seen stay.

        Parameters
        ----------
        used
            What was read from when a chunk turned out to be gone.

        Returns
        -------
        bool
            Whether there has been one since that cache was made.
        """
        with self._mutex:
            if self.cache is not used:
                return True  # another thread has done it
            finder = self._opened_finder()
            finder.follow_rebuild()
            self._commit_seen(finder)
            last = finder.checkpoint()
            if used is None or last is None or last.number <= used.manifest.commit:
                return False
            self._attach_current(last, self.seen)
            return True

    def resume(
        self, place: Path | None, edition: str, seen: Seen, visible: range | Ids | None
    ) -> None:
        """See what another process sees, from the cache that it reads from.

        Parameters
        ----------
        place, edition
            The folder of the cache, and which edition it was.
        seen
            What it sees.
        visible
            The ids of all records that it sees; None if they are not needed here.
        """
        self.seen = seen
        if place is not None:
            self._resume(place, edition)
        self._ids = visible

    def _resume(self, place: Path, edition: str) -> None:
        found = manifest.load(place)
        if found is not None and found.edition == edition and found.commit >= self.seen.commit:
            with contextlib.suppress(CorruptCacheError):
                self.attach(Cache(place, found), self.seen)
                if self._is_in_log(self.seen):
                    return
        self._attach_from_index()

    def _is_in_log(self, seen: Seen) -> bool:
        """Return whether a commit lies where it lay when it was seen.

        An edition only ever grows, but not always along one history: a store can have been put back
        to what it was, cache and all, and have been written to since.
        """
        if self._chunks is None:
            return False
        chunk = self._chunks.known[seen.chunk]
        with contextlib.suppress(CorruptChunkError):
            trailer = self._reader.trailer(chunk.name, seen.trailer, chunk.uuid)
            return trailer is not None and trailer.commit == seen.uuid
        return False

    def _attach_from_index(self) -> None:
        """Read from a cache that the index says is right, made if need be."""
        finder = self._opened_finder()
        finder.follow_rebuild()
        self._attach_current(self._commit_seen(finder), self.seen)

    def rest(self) -> None:
        """Hold no file open until one is needed again; nobody else may be reading from here."""
        if self._finder is not None:
            self._finder.close()
            self._finder = None
        self._reader.close_idle()

    def close(self) -> None:
        """Close the index and every chunk."""
        self._closed = True
        self.raws.clear()
        if self._finder is not None:
            self._finder.close()
        if self._chunks is not None:
            self._chunks.close()
        self._reader.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def _unlock_in_child(self) -> None:
        """Begin anew with the mutex, which another thread of the parent may have held."""
        self._mutex = threading.RLock()


_attached = ToldOfForks(Attached._unlock_in_child)
