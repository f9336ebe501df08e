"""Where views read from: what a record is, from the cache and the log, without SQLite."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from sqlstore.cache import locations, manifest
from sqlstore.cache.chunks import ChunkFiles
from sqlstore.cache.manifest import Manifest
from sqlstore.cache.metadata import Mirror
from sqlstore.cache.segments import table_of
from sqlstore.caches import Cache
from sqlstore.encodings import ENCODINGS
from sqlstore.errors import (
    CorruptCacheError,
    CorruptStoreError,
    DecodeError,
    RecordNotFoundError,
    StoreClosedError,
)
from sqlstore.finder import Finder
from sqlstore.forks import ToldOfForks
from sqlstore.index.records import CommitRow
from sqlstore.log import mounts
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import NO_COMMIT
from sqlstore.reading.bodies import Bodies
from sqlstore.reading.chunks import Chunks, MappedChunks, ReadChunks
from sqlstore.reading.field import VERIFY, FieldValues, LostRecordError, Verify
from sqlstore.schema import Column, Field, Schema
from sqlstore.types import Buffer, Ids

T = TypeVar("T")
Raw: TypeAlias = Callable[[int], bytes | None]

Io: TypeAlias = Literal["mmap", "pread", "memory"]
IO: Final = ("mmap", "pread", "memory")


@dataclass(frozen=True, slots=True)
class Seen:
    """The commit that a store is seen at, and how many records there were then."""

    commit: int
    uuid: uuid.UUID
    records: int


@dataclass(frozen=True, slots=True)
class Opening:
    """How a store is opened.

    Attributes
    ----------
    root
        Its folder.
    io
        How chunks are read: mapped, piece by piece, or whole files into memory.
    verify
        When stored bytes are compared with their checksums.
    """

    root: Path
    io: Io
    verify: Verify


def opening(root: Path, io: str | None, verify: str) -> Opening:
    """Return how to open a store; without ``io``, as fits the file system that it lies on.

    Raises
    ------
    ValueError
        There is no such way.
    """
    if io is None:
        io = "pread" if mounts.is_on_network(root) else "mmap"
    if io not in IO or verify not in VERIFY:
        raise ValueError(
            f"io is one of {', '.join(IO)}, not {io!r}"
            if io not in IO
            else f"verify is one of {', '.join(VERIFY)}, not {verify!r}"
        )
    return Opening(root, io, verify)  # type: ignore[arg-type]  # as has just been checked


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
        self.seen = Seen(0, NO_COMMIT, 0)
        self.raws: dict[str, Raw] = {}
        self.cache: Cache | None = None
        self._finder = finder
        self._reader = ChunkReader(how.root)
        self._chunks: Chunks | None = None
        self._values: dict[str, FieldValues] = {}
        self._former: dict[str, FieldValues] = {}
        self._own_commit = 0
        self._closed = False
        self._mutex = threading.RLock()
        _sources.add(self)

    @classmethod
    def open(cls, how: Opening) -> Source:
        """Open a store as of its newest commit."""
        finder = Finder(how.root)
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
                self._finder = Finder(self.root)
                self._finder.see(self.seen.records)
            return self._finder

    @property
    def is_closed(self) -> bool:
        """Return whether it has been closed."""
        return self._closed

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
            last = finder.last_commit() if up_to is None else finder.commit(up_to)
            if last.number > self.seen.commit:
                self._see(last)

    def _see(self, last: CommitRow) -> None:
        finder = self._opened_finder()
        records = last.first_record + last.records
        cache = finder.cache(last) if records else None
        self.attach(cache, Seen(last.number, uuid.UUID(last.uuid), records))
        finder.see(records)

    def attach(self, cache: Cache | None, seen: Seen) -> None:
        """Read from a cache from now on."""
        with self._mutex:
            if cache is not None:
                known = ChunkFiles(cache.edition, cache.manifest.chunks)
                if self._chunks is None:
                    self._chunks = self._make_chunks(known)
                self._chunks.known = known
                check = self.how.verify != "never"
                self._mirror = Mirror(cache.edition, cache.manifest.parts, check=check)
            self.cache, self.seen = cache, seen
            self._former, self._values = {**self._former, **self._values}, {}
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

    def part(self, record: int, field: Field, start: int, count: int) -> Buffer:
        """Return some bytes of a value, which must be there."""
        return self._reading(lambda: self._field(field).part(record, start, count))

    def bodies(self, ids: Ids, field: Field) -> Bodies:
        """Return the stored values of many records, decompressed."""
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

    def metadata(self, ids: range | Ids, columns: Sequence[Column]) -> list[pa.ChunkedArray]:
        """Return metadata columns of records, in the order of the ids."""
        return self._reading(lambda: self._metadata(ids, columns))

    def _metadata(self, ids: range | Ids, columns: Sequence[Column]) -> list[pa.ChunkedArray]:
        if not columns:
            return []
        if self.cache is None:
            if len(ids):
                raise RecordNotFoundError("there is no such record", record=int(ids[0]))
            return [pa.chunked_array([], column.kind.arrow) for column in columns]
        if self.cache.manifest.lost and self._refuse_lost(np.asarray(ids, np.int64)):
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
            before = self._former.pop(field.name, None)
            loaded = FieldValues(field, rows, self._chunks, self.how.verify, before)
            self._values[field.name] = loaded
            self.raws[field.name] = loaded.raw
            return loaded

    def _reading(self, read: Callable[[], T]) -> T:
        """Return what a function reads; if it finds the cache damaged, once more with another."""
        self.check_open()
        try:
            return read()
        except CorruptCacheError as error:
            if isinstance(error, LostRecordError):
                self._refuse_lost(np.array([error.record]))
            self._renew()
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

    def _renew(self) -> None:
        """Read from another cache than the one that has turned out to be damaged or gone."""
        with self._mutex:
            damaged = self.cache
            if damaged is None:
                return
            self._former.clear()
            self._values.clear()
            found = manifest.load(damaged.folder)
            if found is not None and found != damaged.manifest and self._holds(found):
                self.attach(Cache(damaged.folder, found), self.seen)
                return
            self._opened_finder().caches.discard(damaged)
            self._attach_anew()

    def resume(self, place: Path | None, seen: Seen) -> None:
        """See what another process sees, from the cache that it reads from."""
        self.seen = seen
        found = None if place is None else manifest.load(place)
        if place is None or found is None or not self._holds(found):
            if seen.records:
                self._attach_anew()
        else:
            self.attach(Cache(place, found), seen)

    def _attach_anew(self) -> None:
        """Read from a cache that is made from the index."""
        finder = self._opened_finder()
        finder.follow_rebuild()
        now = finder.commit(self.seen.commit)
        if now.uuid != str(self.seen.uuid):
            raise CorruptStoreError(
                f"{self.root} has another history than when it was opened; open it anew"
            )
        self.attach(finder.cache(now), self.seen)

    def _holds(self, found: Manifest) -> bool:
        is_same = found.commit > self.seen.commit or found.commit_uuid == self.seen.uuid
        return found.store == self.store and found.records >= self.seen.records and is_same

    def close(self) -> None:
        """Close the index and every chunk."""
        self._closed = True
        self.raws.clear()
        if self._finder is not None:
            self._finder.close()
        if self._chunks is not None:
            self._chunks.close()
        self._reader.close()

    def _unlock_in_child(self) -> None:
        """Begin anew with the mutex, which another thread of the parent may have held."""
        self._mutex = threading.RLock()


_sources = ToldOfForks(Source._unlock_in_child)
