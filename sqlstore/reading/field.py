"""The values of one field: from record id to location row to bytes, checked."""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore.cache import locations
from sqlstore.cache.locations import ABSENT, LOST, ROW_SIZE
from sqlstore.cache.seals import seal, seals
from sqlstore.compression import decompress, decompress_many
from sqlstore.dictionaries import NO_DICTIONARIES, Dictionaries
from sqlstore.errors import (
    ChecksumError,
    CorruptCacheError,
    CorruptChunkError,
    DecodeError,
    SqlstoreError,
)
from sqlstore.limits import MiB
from sqlstore.positions import NO_IDS, refuse_deleted
from sqlstore.reading.bodies import Bodies, with_decompressed
from sqlstore.reading.held import Held, spread_out
from sqlstore.small import are_all, is_any
from sqlstore.types import Buffer, Ids

if TYPE_CHECKING:
    from sqlstore.reading.chunks import Chunks
    from sqlstore.schema import Field

Place: TypeAlias = tuple[int, int]
"""A chunk, and an offset in it."""

Verify: TypeAlias = Literal["once", "always", "never"]
VERIFY: Final = ("once", "always", "never")

_CHECKED_AT_ONCE: Final = 8 * MiB
_place: Final = Struct("<IIII").unpack_from
"""Chunk, offset, length and compression of a row."""
_whole: Final = Struct("<8I").unpack_from
_words: Final = Struct("<QQQII").unpack_from
"""A row as the seal is computed of it, and the seal."""


class FieldValues:
    """Reads the values of one field by record id.

    Parameters
    ----------
    field
        The field.
    rows
        Its location rows, mapped.
    chunks
        Gives the bytes.
    verify
        When the stored bytes are compared with their checksum: ``"once"`` in this process for each
        value, ``"always"``, or ``"never"``. The seal of a row is checked once, except for
        ``"never"``.
    dictionaries
        Those of the store.
    deleted
        The ids of the records that were deleted, ascending.
    """

    def __init__(
        self,
        field: Field,
        rows: pa.Buffer,
        chunks: Chunks,
        verify: Verify = "once",
        dictionaries: Dictionaries = NO_DICTIONARIES,
        deleted: Ids = NO_IDS,
    ) -> None:
        self.field = field
        self._count = rows.size // ROW_SIZE
        self._chunks = chunks
        self._verify = verify
        self._dictionaries = dictionaries
        self._deleted = deleted
        self._table = np.frombuffer(rows, np.uint32).reshape(-1, 8)
        self._rows = memoryview(rows)
        self._maps = chunks.maps
        self._checked: NDArray[np.uint8] = np.zeros(self._count, np.uint8)
        self._known = self._checked.data
        self._always = verify == "always"
        # What `raw` may return without a further look: nothing where each read is checked.
        fixed = {"always": 0, "never": 1}
        fast: NDArray[np.uint8] = self._checked
        if verify in fixed:
            fast = np.broadcast_to(np.uint8(fixed[verify]), (self._count,))
            if len(deleted):
                fast = fast.copy()
                fast[deleted] = 0
        self._fast = fast.data

    def raw(self, record: int) -> bytes | None:
        """Return a value as its encoding made it, decompressed; None if the record has none.

        Parameters
        ----------
        record
            An id that is in the store.
        """
        chunk, offset, length, compression = _place(self._rows, record * ROW_SIZE)
        if self._fast[record] and not compression:
            try:
                data = self._maps[chunk][offset : offset + length].tobytes()
            except KeyError:  # not in memory yet
                data = b""
            if len(data) == length:
                return data
        found = self.stored(record)
        return None if found is None else bytes(found)

    def stored(self, record: int) -> Buffer | None:
        """Return the same without copying it where it lies in memory.

        Raises
        ------
        ChecksumError
            The bytes are not what was written.
        CorruptCacheError
            The location row is damaged.
        DecodeError
            The checksum is right, and they cannot be decompressed.
        """
        chunk, offset, length, compression = _place(self._rows, record * ROW_SIZE)
        memory = self._maps.get(chunk)
        if memory is not None and self._fast[record] and not compression:
            data = memory[offset : offset + length]
            if len(data) == length:
                return data
        return self._checked_stored(record)

    def _checked_stored(self, record: int) -> Buffer | None:
        chunk, offset, length, compression, raw_length, _, crc, _ = self._row(record)
        if compression >= LOST:
            self._refuse_lost(record, compression)
            return None
        data = self.piece(record, chunk, offset, length)
        if self._always or not self._known[record]:
            if self._verify != "never" and zlib.crc32(data) != crc:
                raise self._mismatch(record, chunk, offset, length)
            self._known[record] = 1
        if not compression and length == raw_length:
            return data
        try:
            return decompress(data, compression, raw_length, self._dictionaries)
        except (DecodeError, ChecksumError, CorruptChunkError) as error:
            raise self._located(error, record, chunk, offset) from error

    def _row(self, record: int) -> tuple[int, ...]:
        """Return a location row, whose seal is checked when it is first used."""
        start = record * ROW_SIZE
        if len(self._deleted) and not self._known[record]:
            refuse_deleted(range(record, record + 1), self._deleted)
        if not self._known[record] and self._verify != "never":
            w0, w1, w2, crc, found = _words(self._rows, start)
            if seal((w0, w1, w2, crc), record, self.field.number) != found:
                raise self._damaged_row(record)
        return _whole(self._rows, start)

    def _refuse_lost(self, record: int, compression: int) -> None:
        if compression == LOST:
            raise LostRecordError("the segment table is damaged", record=record)

    def size(self, record: int) -> int | None:
        """Return how many bytes a value has, decompressed; None if the record has none."""
        row = self._row(record)
        if row[locations.COMPRESSION] >= LOST:
            self._refuse_lost(record, row[locations.COMPRESSION])
            return None
        return row[locations.RAW_LENGTH]

    def in_place(self, record: int) -> Place | None:
        """Return where a value lies that is stored as it is; None if it must be decompressed.

        It has been checked then, piece by piece, as often as `stored` would do it.

        Raises
        ------
        ChecksumError
            The value as a whole is not what was written.
        """
        chunk, offset, length, compression, raw_length, _, crc, _ = self._row(record)
        if compression or length != raw_length:
            return None
        if self._verify != "never" and (self._always or not self._known[record]):
            found = 0
            for start in range(offset, offset + length, _CHECKED_AT_ONCE):
                count = min(_CHECKED_AT_ONCE, offset + length - start)
                found = zlib.crc32(self.piece(record, chunk, start, count), found)
            if found != crc:
                raise self._mismatch(record, chunk, offset, length)
            self._known[record] = 1
        return chunk, offset

    def piece(self, record: int, chunk: int, offset: int, length: int) -> Buffer:
        """Return bytes of a chunk that belong to a record."""
        try:
            return self._chunks.piece(chunk, offset, length)
        except CorruptChunkError as error:
            raise self._located(error, record, chunk, offset) from error

    def _damaged_row(self, record: int) -> CorruptCacheError:
        return CorruptCacheError(
            "the cache is damaged where it says where this value lies",
            record=record,
            field=self.field.name,
        )

    def _mismatch(self, record: int, chunk: int, offset: int, length: int) -> SqlstoreError:
        error = ChecksumError(f"these {length} bytes are not what was written")
        return self._located(error, record, chunk, offset)

    def _located(self, error: SqlstoreError, record: int, chunk: int, offset: int) -> SqlstoreError:
        where = {"record": record, "field": self.field.name}
        if "chunk" not in error.where:
            where |= {"chunk": self._chunks.name(chunk), "offset": offset}
        return type(error)(error.message, **{**where, **error.where})

    def bodies(self, ids: Ids) -> Bodies:
        """Return many values, decompressed, in the order asked for; repeats are kept.

        Parameters
        ----------
        ids
            Ids that are in the store.

        Raises
        ------
        ChecksumError, CorruptCacheError, DecodeError
            As `stored`.
        """
        refuse_deleted(ids, self._deleted)
        rows = self._table.take(ids, axis=0)
        due = self._due(rows, ids)
        compression = rows[:, locations.COMPRESSION]
        if is_any(compression):
            return self._mixed(rows, ids, due, compression)
        held = self._hold(rows, ids)
        if due is not None:
            self._check_bodies(rows, ids, held, due)
        return Bodies(held, rows[:, locations.LENGTH])

    def rows(self, ids: Ids) -> NDArray[np.uint32]:
        """Return the location rows of many records, shape ``(n, 8)``.

        Raises
        ------
        CorruptCacheError
            One is damaged.
        """
        refuse_deleted(ids, self._deleted)
        rows = self._table.take(ids, axis=0)
        if self._verify != "never":
            self._check_seals(rows, ids)
        if is_any(lost := rows[:, locations.COMPRESSION] == LOST):
            self._refuse_lost(int(ids[lost][0]), LOST)
        return rows

    def as_stored(self, ids: Ids) -> tuple[NDArray[np.uint32], list[memoryview]]:
        """Return location rows, and the bodies of those that have one as they lie in the chunks.

        Raises
        ------
        ChecksumError, CorruptCacheError
            As `stored`; only what can be checked without decompressing is.
        """
        rows = self.rows(ids)
        present = rows[:, locations.COMPRESSION] != ABSENT
        here, records = rows[present], ids[present]
        held = self._hold(here, records)
        if self._verify != "never":
            self._check_stored(here, records, held)
        return rows, [
            one for one in Bodies(held, here[:, locations.LENGTH]).each() if one is not None
        ]

    def _check_stored(self, rows: NDArray[np.uint32], ids: Ids, held: Held) -> None:
        self._check_lengths(rows, ids)
        self._check_bodies(rows, ids, held, np.ones(len(ids), bool))

    def _due(self, rows: NDArray[np.uint32], ids: Ids) -> NDArray[np.bool_] | None:
        """Return which bodies are to be checked, None for none; new rows are checked here."""
        if self._verify == "never":
            return None
        known = self._checked.take(ids)
        if not are_all(known):
            self._check_rows(rows, ids)
        elif not self._always:
            return None
        return np.ones(len(ids), bool) if self._always else known == 0

    def _check_rows(self, rows: NDArray[np.uint32], ids: Ids) -> None:
        self._check_seals(rows, ids)
        self._check_lengths(rows, ids)

    def _check_lengths(self, rows: NDArray[np.uint32], ids: Ids) -> None:
        plain = rows[:, locations.COMPRESSION] == 0
        wrong = plain & (rows[:, locations.LENGTH] != rows[:, locations.RAW_LENGTH])
        if is_any(wrong):
            self.stored(int(ids[wrong][0]))  # raises what is wrong

    def _check_seals(self, rows: NDArray[np.uint32], ids: Ids) -> None:
        wrong = seals(rows, ids, self.field.number) != rows[:, locations.SEAL]
        if is_any(wrong):
            raise self._damaged_row(int(ids[wrong][0]))

    def _check_bodies(
        self, rows: NDArray[np.uint32], ids: Ids, held: Held, due: NDArray[np.bool_]
    ) -> None:
        """Compare stored bytes with their checksums; all rows have a value."""
        part = Bodies(held.some(due), rows[due, locations.LENGTH])
        found = [zlib.crc32(data) for data in part.each() if data is not None]
        wrong = rows[due, locations.CRC] != found
        if is_any(wrong):
            place = np.flatnonzero(due)[wrong][0]
            chunk, offset, length = rows[place, : locations.LENGTH + 1].tolist()
            raise self._mismatch(int(ids[place]), chunk, offset, length)
        self._checked[ids] = 1

    def _hold(self, rows: NDArray[np.uint32], ids: Ids) -> Held:
        chunk, offset = rows[:, locations.CHUNK], rows[:, locations.OFFSET]
        try:
            return self._chunks.hold(chunk, offset, rows[:, locations.LENGTH])
        except CorruptChunkError:
            for record, place in zip(ids.tolist(), rows.tolist(), strict=True):
                self.piece(record, *place[: locations.LENGTH + 1])  # raises for the one at fault
            raise

    def _mixed(
        self,
        rows: NDArray[np.uint32],
        ids: Ids,
        due: NDArray[np.bool_] | None,
        compression: NDArray[np.uint32],
    ) -> Bodies:
        """Return values of which some are compressed or missing."""
        if is_any(lost := compression == LOST):
            self._refuse_lost(int(ids[lost][0]), LOST)
        present = compression != ABSENT
        if are_all(present):
            return self._unpacked(rows, ids, due)
        here = self._unpacked(rows[present], ids[present], None if due is None else due[present])
        if due is not None:
            self._checked[ids[~present]] = 1
        return Bodies(here.held.widened(present), spread_out(here.length, present), present)

    def _unpacked(
        self, rows: NDArray[np.uint32], ids: Ids, due: NDArray[np.bool_] | None
    ) -> Bodies:
        """Return values that are all there, decompressed."""
        held = self._hold(rows, ids)
        if due is not None:
            self._check_bodies(rows, ids, held, due)
        packed = np.flatnonzero(rows[:, locations.COMPRESSION])
        if len(packed):
            raws = self._decompressed(rows[packed], ids[packed], held.some(packed))
            held = with_decompressed(held, packed, raws)
        # The raw length of what is stored as it is may be wrong where nothing is checked.
        plain = rows[:, locations.COMPRESSION] == 0
        lengths = np.where(plain, rows[:, locations.LENGTH], rows[:, locations.RAW_LENGTH])
        return Bodies(held, lengths)

    def _decompressed(self, rows: NDArray[np.uint32], ids: Ids, held: Held) -> list[Buffer]:
        datas = Bodies(held, rows[:, locations.LENGTH]).each()
        try:
            return decompress_many(
                [data for data in datas if data is not None],
                rows[:, locations.COMPRESSION].tolist(),
                rows[:, locations.RAW_LENGTH].tolist(),
                self._dictionaries,
            )
        except (DecodeError, ChecksumError, CorruptChunkError) as error:
            row = int(str(error.where.pop("row")))
            chunk, offset = rows[row, : locations.OFFSET + 1].tolist()
            raise self._located(error, int(ids[row]), chunk, offset) from error


class LostRecordError(CorruptCacheError):
    """The segment table that says where a value lies is damaged; `Source` says which it is."""
