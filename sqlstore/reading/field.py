"""The values of one field: from record id to location row to bytes, checked."""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore.cache import locations
from sqlstore.cache.locations import ABSENT, LOST, ROW_SIZE
from sqlstore.cache.seals import seal, seals
from sqlstore.compression import decompress, decompress_many
from sqlstore.errors import (
    ChecksumError,
    CorruptCacheError,
    CorruptChunkError,
    DecodeError,
    SqlstoreError,
)
from sqlstore.reading.bodies import Bodies, with_decompressed
from sqlstore.reading.chunks import Held
from sqlstore.types import Buffer, Ids

if TYPE_CHECKING:
    from sqlstore.reading.chunks import Chunks
    from sqlstore.schema import Field

Verify: TypeAlias = Literal["once", "always", "never"]
Int = TypeVar("Int", bound=np.signedinteger[Any])
VERIFY: Final = ("once", "always", "never")

_place: Final = Struct("<IIII").unpack_from
"""Chunk, offset, length and compression of a row."""
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
    before
        The same field with fewer records: what has been checked there is not checked again.
    """

    def __init__(
        self,
        field: Field,
        rows: pa.Buffer,
        chunks: Chunks,
        verify: Verify = "once",
        before: FieldValues | None = None,
    ) -> None:
        self.field = field
        self._count = rows.size // ROW_SIZE
        self._chunks = chunks
        self._verify = verify
        self._table = np.frombuffer(rows, np.uint32).reshape(-1, 8)
        self._rows = memoryview(rows)
        self._maps = chunks.maps
        self._checked: NDArray[np.uint8] = np.zeros(self._count, np.uint8)
        if before is not None:
            self._checked[: before._count] = before._checked
        # What `raw` may return without a further look: nothing where each read is checked.
        fixed = {"always": 0, "never": 1}
        fast: NDArray[np.uint8] = self._checked
        if verify in fixed:
            fast = np.broadcast_to(np.uint8(fixed[verify]), (self._count,))
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
        _, offset, length, compression, raw_length, *_ = row = self._row(record)
        chunk = row[locations.CHUNK]
        if compression in (ABSENT, LOST):
            self._check_row(record)
            if compression == LOST:
                raise LostRecordError(record)
            return None
        if self._verify != "never" and not self._checked[record]:
            self._check_row(record)
        try:
            data = self._chunks.piece(chunk, offset, length)
        except CorruptChunkError as error:
            raise self._located(error, record, chunk, offset) from error
        if self._verify != "never":
            is_due = self._verify == "always" or not self._checked[record]
            if is_due and zlib.crc32(data) != row[locations.CRC]:
                raise self._mismatch(record, chunk, offset, length)
            self._checked[record] = 1
        if not compression and length == raw_length:
            return data
        try:
            return decompress(data, compression, raw_length)
        except DecodeError as error:
            raise self._located(error, record, chunk, offset) from error

    def size(self, record: int) -> int | None:
        """Return how many bytes a value has, decompressed; None if the record has none."""
        row = self._row(record)
        if not self._checked[record]:
            self._check_row(record)
        compression = row[locations.COMPRESSION]
        if compression in (ABSENT, LOST):
            if compression == LOST:
                raise LostRecordError(record)
            return None
        return row[locations.RAW_LENGTH]

    def part(self, record: int, start: int, count: int) -> Buffer:
        """Return some bytes of a value, which must have them.

        Raises
        ------
        ChecksumError
            The value as a whole is not what was written.
        """
        row = self._row(record)
        compression = row[locations.COMPRESSION]
        if compression == 0 and (self._verify == "never" or self._checked[record]):
            chunk, offset = row[locations.CHUNK], row[locations.OFFSET]
            return self._chunks.piece(chunk, offset + start, count)
        data = self.stored(record)
        return b"" if data is None else data[start : start + count]

    def _row(self, record: int) -> list[int]:
        row: list[int] = self._table[record].tolist()
        return row

    def _check_row(self, record: int) -> None:
        *words, found = _words(self._rows, record * ROW_SIZE)
        w0, w1, w2, crc = words
        if seal((w0, w1, w2, crc), record, self.field.number) != found:
            raise self._damaged_row(record)

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
        rows = self._table.take(ids, axis=0)
        self._check_rows(rows, ids)
        compression = rows[:, locations.COMPRESSION]
        if not compression.any():
            held = self._hold(rows, ids)
            self._check_bodies(rows, ids, held)
            return Bodies(held, rows[:, locations.LENGTH].astype(np.int64))
        return self._mixed(rows, ids, compression)

    def _hold(self, rows: NDArray[np.uint32], ids: Ids) -> Held:
        places = rows[:, : locations.LENGTH + 1].astype(np.int64)
        try:
            return self._chunks.hold(places[:, 0], places[:, 1], places[:, 2])
        except CorruptChunkError:
            for record in ids.tolist():
                self.stored(record)  # raises for the record that it is about
            raise

    def _mixed(self, rows: NDArray[np.uint32], ids: Ids, compression: NDArray[np.uint32]) -> Bodies:
        """Return values of which some are compressed or missing."""
        if (lost := compression == LOST).any():
            raise LostRecordError(int(ids[lost][0]))
        present = compression != ABSENT
        here = rows if (all_here := bool(present.all())) else rows[present]
        held = self._hold(here, ids[present])
        self._check_bodies(here, ids[present], held)
        if not all_here and self._verify != "never":
            self._checked[ids[~present]] = 1
        packed = np.flatnonzero(here[:, locations.COMPRESSION])
        length = here[:, locations.RAW_LENGTH].astype(np.int64)
        if len(packed):
            raws = self._decompressed(here[packed], ids[present][packed], held, packed)
            held = with_decompressed(held, packed, raws)
        if all_here:
            return Bodies(held, length)
        return Bodies(_widened(held, present), _spread(length, present), present)

    def _decompressed(
        self, rows: NDArray[np.uint32], ids: Ids, held: Held, packed: Ids
    ) -> list[Buffer]:
        which = None if held.which is None else held.which[packed]
        stored = Held(held.buffers, which, held.offset[packed])
        datas = Bodies(stored, rows[:, locations.LENGTH].astype(np.int64)).each()
        try:
            return decompress_many(
                [data for data in datas if data is not None],
                rows[:, locations.COMPRESSION].tolist(),
                rows[:, locations.RAW_LENGTH].tolist(),
            )
        except DecodeError as error:
            row = int(str(error.where["row"]))
            chunk, offset = rows[row, : locations.OFFSET + 1].tolist()
            raise self._located(error, int(ids[row]), chunk, offset) from error

    def _check_rows(self, rows: NDArray[np.uint32], ids: Ids) -> None:
        if self._verify == "never" or self._checked[ids].all():
            return
        wrong = seals(rows, ids, self.field.number) != rows[:, locations.SEAL]
        if wrong.any():
            raise self._damaged_row(int(ids[wrong][0]))
        plain = rows[:, locations.COMPRESSION] == 0
        wrong = plain & (rows[:, locations.LENGTH] != rows[:, locations.RAW_LENGTH])
        if wrong.any():
            self.stored(int(ids[wrong][0]))  # raises what is wrong

    def _check_bodies(self, rows: NDArray[np.uint32], ids: Ids, held: Held) -> None:
        """Compare stored bytes with their checksums; all rows have a value."""
        if self._verify == "never":
            return
        if self._verify == "once":
            due = np.flatnonzero(self._checked[ids] == 0)
            if not len(due):
                return
        else:
            due = np.arange(len(ids))
        which = None if held.which is None else held.which[due]
        part = Held(held.buffers, which, held.offset[due])
        datas = Bodies(part, rows[due, locations.LENGTH].astype(np.int64)).each()
        expected = rows[due, locations.CRC].tolist()
        for row, data, crc in zip(due.tolist(), datas, expected, strict=True):
            if zlib.crc32(data or b"") != crc:
                chunk, offset, length = rows[row, : locations.LENGTH + 1].tolist()
                raise self._mismatch(int(ids[row]), chunk, offset, length)
        self._checked[ids] = 1


class LostRecordError(CorruptCacheError):
    """The segment table that says where a value lies is damaged; `Source` says which."""

    def __init__(self, record: int) -> None:
        super().__init__("the record is lost", record=record)
        self.record = record


def _spread(values: NDArray[Int], present: NDArray[np.bool_]) -> NDArray[Int]:
    """Return values at the rows that are present, and 0 elsewhere."""
    spread = np.zeros(len(present), values.dtype)
    spread[present] = values
    return spread


def _widened(held: Held, present: NDArray[np.bool_]) -> Held:
    """Return pieces for all rows; those that are absent are empty."""
    which = None if held.which is None else _spread(held.which, present)
    return Held(held.buffers, which, _spread(held.offset, present))
