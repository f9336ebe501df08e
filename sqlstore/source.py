"""Where views read from: what a record is, from the cache and the log, without SQLite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore.attached import ATTEMPTS, Attached
from sqlstore.cache import locations
from sqlstore.cache.segments import check_lost
from sqlstore.encodings import Encoding
from sqlstore.errors import CorruptCacheError, MissingChunkError, RecordNotFoundError
from sqlstore.finder import check_still_there
from sqlstore.log.edits import EDITS
from sqlstore.opening import Seen
from sqlstore.positions import as_array, refuse_deleted
from sqlstore.reading.bodies import NO_BODIES, Bodies
from sqlstore.reading.dictionaries import StoredDictionaries
from sqlstore.reading.field import FieldValues, LostRecordError, Place
from sqlstore.reading.sequence import SequenceValues
from sqlstore.schema import Column, Field
from sqlstore.types import Buffer, Ids

T = TypeVar("T")


class Source(Attached):
    """One store as of one commit, to be read by record id.

    A cache that turns out to be damaged, or to be gone, is replaced, and what was read is read
    again.
    """

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

    def rows(self, ids: range | Ids, field: Field) -> NDArray[np.uint32]:
        """Return the location rows of many records, checked: shape ``(n, 8)``."""
        if not len(ids):
            return np.empty((0, 8), np.uint32)
        return self._reading(lambda: self._field(field).rows(as_array(ids)))

    def as_stored(
        self, ids: range | Ids, field: Field
    ) -> tuple[NDArray[np.uint32], list[memoryview]]:
        """Return location rows and stored bodies as `FieldValues.as_stored` does."""
        return self._reading(lambda: self._field(field).as_stored(as_array(ids)))

    def dictionary(self, number: int) -> bytes:
        """Return a dictionary that values are compressed with."""
        return self._reading(lambda: self._known_dictionaries().stored(number))

    def _known_dictionaries(self) -> StoredDictionaries:
        if self._dictionaries is None:
            raise RecordNotFoundError("there are no records")
        return self._dictionaries

    def count(self, record: int, field: Field) -> int | None:
        """Return how many items a sequence has, or None if the record has none."""
        return self._reading(lambda: self._sequence(field).count(record))

    def items(
        self, record: int, field: Field, chosen: Sequence[int] | None = None
    ) -> list[Buffer] | None:
        """Return items of a sequence as `SequenceValues.items` does."""
        return self._reading(lambda: self._sequence(field).items(record, chosen))

    def encoding(self, field: Field) -> Encoding:
        """Return the encoding of a value, or of each item of a sequence.

        Raises
        ------
        EncodingUnavailableError
            It is not registered, or not allowed.
        """
        found = self._encodings.get(field.number)
        if found is None:
            found = self.how.encodings.of(field.item_encoding, field.name)
            self._encodings[field.number] = found
        return found

    def metadata(self, ids: range | Ids, columns: Sequence[Column]) -> list[list[pa.Array]]:
        """Return metadata columns of records, in the order of the ids: each in some pieces.

        Records that were deleted are refused, also where no column is asked for.
        """
        if not len(ids):
            return [[] for _ in columns]
        if not columns:
            self.check_open()  # which sees what was deleted from here
            refuse_deleted(ids, self.deleted)
            return []
        return self._reading(lambda: self._metadata(ids, columns))

    def has_seen(self, seen: Seen) -> bool:
        """Return whether a commit is the one that is seen here, or one before it."""
        if seen.uuid == self.seen.uuid or not seen.records:
            return True
        return seen.commit < self.seen.commit and self._reading(lambda: self._is_before(seen))

    def _is_before(self, seen: Seen) -> bool:
        """Return whether a commit lies in the log, or lay there until its chunk was retired."""
        if self._is_in_log(seen):
            return True
        row = self.finder.commit(seen.commit)
        return row is not None and row.uuid == str(seen.uuid)

    def _metadata(self, ids: range | Ids, columns: Sequence[Column]) -> list[list[pa.Array]]:
        if self.cache is None:
            raise RecordNotFoundError("there is no such record", record=int(ids[0]))
        if self.cache.manifest.lost and self._refuse_lost(as_array(ids)):
            raise CorruptCacheError("a segment table that was damaged is not any more")
        refuse_deleted(ids, self.deleted)
        return self._mirror.columns(ids, columns)

    def _field(self, field: Field) -> FieldValues:
        found = self._values.get(field.name)
        return self._loaded(field) if found is None else found

    def _loaded(self, field: Field) -> FieldValues:
        with self._mutex:
            dictionaries = self._known_dictionaries()
            if self.cache is None or self._chunks is None:
                raise RecordNotFoundError("there are no records")
            rows = locations.load(
                self.cache.edition / self.cache.manifest.locations_of(field.number),
                self.seen.records,
            )
            kind = SequenceValues if field.is_sequence else FieldValues
            how = self._chunks, self.how.verify, dictionaries, self.deleted
            loaded = kind(field, rows, *how)
            self._values[field.name] = loaded
            if not field.is_sequence:
                self.raws[field.name] = loaded.raw
            return loaded

    def _sequence(self, field: Field) -> SequenceValues:
        return cast("SequenceValues", self._field(field))

    def _reading(self, read: Callable[[], T]) -> T:
        """Return what a function reads; if it finds the cache damaged, again with another."""
        self.check_open()
        for _ in range(ATTEMPTS):
            used = self.cache
            try:
                return read()
            except CorruptCacheError as error:
                if isinstance(error, LostRecordError):
                    self._refuse_lost(np.array([error.where["record"]], np.int64))
                self.renew(used)
            except MissingChunkError:
                check_still_there(self.root)  # or all of the store is gone
                if not self.follow_compaction(used):
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
            # An edit may be of any record before it; nobody knows of which.
            first = 0 if place.kind in EDITS else place.first_record
            if np.any((ids >= first) & (ids < place.first_record + place.records)):
                check_lost(self._reader, place)
                mended = True
        return mended
