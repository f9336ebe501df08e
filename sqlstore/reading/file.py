"""A stored value as a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from sqlstore.errors import RecordNotFoundError

if TYPE_CHECKING:
    from sqlstore.reading.field import Place
    from sqlstore.schema import Field
    from sqlstore.source import Source
    from sqlstore.types import Buffer


class ValueFile(io.RawIOBase):
    """A value, decompressed, to be read from anywhere in it.

    Parameters
    ----------
    source
        Where it is read from.
    record, field
        Whose value, and of which field.
    """

    def __init__(self, source: Source, record: int, field: Field) -> None:
        super().__init__()
        self._source = source
        self._record = record
        self._field = field
        self._position = 0
        self._is_begun = False
        self._place: Place | None = None
        self._whole: Buffer = b""
        size = source.size(record, field)
        if size is None:
            raise RecordNotFoundError(
                "the record has no value of this field", record=record, field=field.name
            )
        self._size = size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; behind the end there is nothing to read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        if whence not in base:
            raise ValueError(f"whence is 0, 1 or 2, not {whence}")
        position = base[whence] + offset
        if position < 0:
            raise ValueError(f"position {position} in a value of {self._size} bytes")
        self._position = position
        return position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on, and return how many bytes there were."""
        target = memoryview(buffer).cast("B")
        count = max(0, min(len(target), self._size - self._position))
        if count:
            target[:count] = self._part(self._position, count)
        self._position += count
        return count

    def readall(self) -> bytes:
        """Return everything from the position on."""
        count = max(0, self._size - self._position)
        data = bytes(self._part(self._position, count)) if count else b""
        self._position += count
        return data

    def _part(self, start: int, count: int) -> Buffer:
        """Return some bytes; the first time, the value as a whole is checked."""
        if not self._is_begun:
            self._place = self._source.in_place(self._record, self._field)
            if self._place is None:
                self._whole = self._source.stored(self._record, self._field) or b""
            self._is_begun = True
        if self._place is None:
            return self._whole[start : start + count]
        chunk, offset = self._place
        return self._source.piece(self._record, self._field, chunk, offset + start, count)
