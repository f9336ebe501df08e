"""Where views read from: what a record is, from the cache and the log, without SQLite."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from sqlstore.cache import locations, manifest
from sqlstore.cache.chunks import ChunkFiles
from sqlstore.cache.metadata import Mirror
from sqlstore.cache.segments import table_of
from sqlstore.caches import Cache
from sqlstore.encodings import ENCODINGS
from sqlstore.errors import (
    CorruptCacheError,
    CorruptChunkError,
    CorruptIndexError,
    CorruptStoreError,
    DecodeError,
    MissingChunkError,
    RecordNotFoundError,
    StoreClosedError,
)
from sqlstore.finder import Finder, check_still_there
from sqlstore.forks import ToldOfForks
from sqlstore.index.records import CommitRow
from sqlstore.log.reader import ChunkReader
from sqlstore.opening import NOTHING_SEEN, Opening, Seen
from sqlstore.positions import as_array
from sqlstore.reading.bodies import NO_BODIES, Bodies
from sqlstore.reading.chunks import Chunks, MappedChunks, ReadChunks
from sqlstore.reading.field import FieldValues, LostRecordError, Place
from sqlstore.schema import Column, Field, Schema
from sqlstore.types import Buffer, Ids

T = TypeVar("T")

_ATTEMPTS: Final = 5  # others may extend and remove files of the cache at the same time
Raw: TypeAlias = Callable[[int], bytes | None]


class Source:
    """One store as of one commit.

    SQLite is only opened to find records, and to see which commits there are. A source that has
    come from another process does neither unless it is asked to.

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
        self._values: dict[str, FieldValues] = {}
        self._own_commit = 0
        self._closed = False
        self._mutex = threading.RLock()
        _sources.add(self)

    @classmethod
    def open(cls, how: Opening) -> Source:
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

    # Which commit is seen

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
        seen = finder.seen(last)
        self._attach_current(last, seen)
        finder.see(seen.records)

    def _attach_current(self, last: CommitRow, seen: Seen) -> None:
        """Read from a cache that holds everything up to a commit, made if need be."""
        caches = self._opened_finder().caches
        for _ in range(_ATTEMPTS):
            cache = caches.current(last) if seen.records else None
            try:
                self.attach(cache, seen)
            except CorruptCacheError:  # its files are gone
                if cache is not None:
                    caches.discard(cache)
            else:
                return
        raise CorruptCacheError(f"the cache of {self.root} does not stay whole")

    def attach(self, cache: Cache | None, seen: Seen) -> None:
        """Read from a cache from now on."""
        with self._mutex:
            if cache is not None:
                known = ChunkFiles(cache.edition, cache.manifest.chunks)
                if self._chunks is None:
                    self._chunks = self._make_chunks(known)
                self._chunks.known = known
                parts = cache.manifest.parts
                goes_on = self.cache is not None and self.cache.edition == cache.edition
                self._mirror = (
                    self._mirror.extended(parts) if goes_on else Mirror(cache.edition, parts)
                )
            self.cache, self.seen = cache, seen
            self._values = {}  # its files may be others now: what was checked is checked again
            before, self.raws = self.raws, {}
            before.clear()

    def _make_chunks(self, known: ChunkFiles) -> Chunks:
        if self.how.io == "pread":
            return ReadChunks(self._reader, self.store, known)
        in_memory = self.how.io == "memory"
        return MappedChunks(self.root, self.store, known, in_memory=in_memory)

    def committed(self, number: int) -> None:
        """Say that a writer of this store has made a commit.

        It is looked up when something is read next: what may go wrong then must not look as if the
        commit had gone wrong.
        """
        self._own_commit = number
        self.raws.clear()

    def check_open(self) -> None:
        """Raise if the store has been closed; else see the own commits that have come since."""
        if self._closed:
            raise StoreClosedError(f"the store {self.root} is closed")
        if self._own_commit > self.seen.commit:
            self.refresh(up_to=self._own_commit)

    # What a record is

    def raw(self, record: int, field: Field) -> bytes | None:
        """Return a value as its encoding made it, or None if the record has none."""
        return self._reading(lambda: self._field(field).raw(record))

    def stored(self, record: int, field: Field) -> Buffer | None:
        """Return the same without copying it where it lies in memory.

        Raises
        ------
        ChecksumError
            The bytes are not what was written.
        """
        return self._reading(lambda: self._field(field).stored(record))

    def size(self, record: int, field: Field) -> int | None:
        """Return how many bytes a value has, decompressed, or None if the record has none."""
        return self._reading(lambda: self._field(field).size(record))

    def in_place(self, record: int, field: Field) -> Place | None:
        """Return where a value lies that is stored as it is, checked; None if it is compressed."""
        return self._reading(lambda: self._field(field).in_place(record))

    def piece(self, record: int, field: Field, chunk: int, offset: int, length: int) -> Buffer:
        """Return bytes of a chunk that belong to a value."""
        return self._reading(lambda: self._field(field).piece(record, chunk, offset, length))

    def bodies(self, ids: Ids, field: Field) -> Bodies:
        """Return the stored values of many records, decompressed."""
        if not len(ids):
            return NO_BODIES
        return self._reading(lambda: self._field(field).bodies(ids))

    def decoded(self, data: Buffer | None, record: int, field: Field) -> object:
        """Return the value that stored bytes stand for."""
        if data is None:
            return None
        try:
            return ENCODINGS[field.encoding].decode(data)
        except DecodeError as error:
            where = {"record": record, "field": field.name, **error.where}
            raise DecodeError(error.message, **where) from error

    def metadata(self, ids: range | Ids, columns: Sequence[Column]) -> list[list[pa.Array]]:
        """Return metadata columns of records, in the order of the ids: each in some pieces."""
        if not columns or not len(ids):
            return [[] for _ in columns]
        return self._reading(lambda: self._metadata(ids, columns))

    def _metadata(self, ids: range | Ids, columns: Sequence[Column]) -> list[list[pa.Array]]:
        if self.cache is None:
            raise RecordNotFoundError("there is no such record", record=int(ids[0]))
        if self.cache.manifest.lost and self._refuse_lost(as_array(ids)):
            raise CorruptCacheError("a segment table that was damaged is not any more")
        return self._mirror.columns(ids, columns)

    def _field(self, field: Field) -> FieldValues:
        found = self._values.get(field.name)
        return self._loaded(field) if found is None else found

    def _loaded(self, field: Field) -> FieldValues:
        with self._mutex:
            if self.cache is None or self._chunks is None:
                raise RecordNotFoundError("there are no records")
            rows = locations.load(self.cache.edition, field.number, self.seen.records)
            loaded = FieldValues(field, rows, self._chunks, self.how.verify)
            self._values[field.name] = loaded
            self.raws[field.name] = loaded.raw
            return loaded

    def _reading(self, read: Callable[[], T]) -> T:
        """Return what a function reads; if it finds the cache damaged, again with another."""
        self.check_open()
        for _ in range(_ATTEMPTS):
            used = self.cache
            try:
                return read()
            except CorruptCacheError as error:
                if isinstance(error, LostRecordError):
                    self._refuse_lost(np.array([error.where["record"]], np.int64))
                self._renew(used)
            except MissingChunkError:
                check_still_there(self.root)  # or all of the store is gone
                raise
        return read()

    def _refuse_lost(self, ids: Ids) -> bool:
        """Raise what is wrong with the segment tables of these records.

        Returns
        -------
        bool
            Whether one was damaged when the cache was made, and is not any more.
        """
        mended = False
        for place in () if self.cache is None else self.cache.manifest.lost:
            if np.any((ids >= place.first_record) & (ids < place.first_record + place.records)):
                table_of(self._reader, place)
                mended = True
        return mended

    def _renew(self, damaged: Cache | None) -> None:
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

    def resume(self, place: Path | None, edition: str, seen: Seen) -> None:
        """See what another process sees, from the cache that it reads from.

        Parameters
        ----------
        place, edition
            The folder of the cache, and which edition it was.
        """
        self.seen = seen
        if place is not None:
            self._resume(place, edition)

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


_sources = ToldOfForks(Source._unlock_in_child)
