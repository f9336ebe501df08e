"""The commit of a dictionary: its body is the dictionary, its table one row that places it."""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from sqlstore.dictionaries import MOST
from sqlstore.errors import ChecksumError
from sqlstore.log.segment import Trailer
from sqlstore.log.table import misfit, stream
from sqlstore.types import Buffer

ROW: Final = pa.schema(
    [
        pa.field(name, pa.uint32(), nullable=False)
        for name in ("number", "field", "offset", "length", "crc")
    ]
)


@dataclass(frozen=True, slots=True)
class DictionaryPlace:
    """Where a dictionary lies.

    Attributes
    ----------
    number
        From 0, in the order in which the dictionaries of the store were committed.
    field
        Number of the field that it was trained for.
    chunk, offset, length
        The integer of the chunk, and bytes in it.
    crc
        CRC-32 of the dictionary.
    """

    number: int
    field: int
    chunk: int
    offset: int
    length: int
    crc: int


def build(number: int, field: int, offset: int, data: bytes) -> pa.Buffer:
    """Return the table of the commit of a dictionary that begins at an offset."""
    row = number, field, offset, len(data), zlib.crc32(data)
    return stream(pa.record_batch([pa.array([one], pa.uint32()) for one in row], schema=ROW))


def parse(batch: pa.RecordBatch, trailer: Trailer, name: str) -> DictionaryPlace:
    """Return what the table of such a commit says.

    Parameters
    ----------
    name
        The chunk, for the message of an error.

    Raises
    ------
    CorruptChunkError
        It is not such a table, or names bytes outside of its segment.
    """
    if batch.schema.equals(ROW) and batch.num_rows == 1 and not trailer.records:
        (row,) = batch.to_pylist()
        place = DictionaryPlace(**row, chunk=trailer.chunk)
        is_inside = trailer.bodies_start <= place.offset <= trailer.bodies_end - place.length
        if is_inside and place.number < MOST:
            return place
    raise misfit(trailer, name, "adds no dictionary")


def checked(data: Buffer, place: DictionaryPlace, name: str) -> bytes:
    """Return the bytes of a dictionary if they are those that were written.

    Parameters
    ----------
    name
        The chunk, for the message of an error.

    Raises
    ------
    ChecksumError
        They are not; every value that was compressed with it is lost with it.
    """
    if zlib.crc32(data) != place.crc:
        raise ChecksumError(
            f"dictionary {place.number}, which values are compressed with, is damaged",
            chunk=name,
            offset=place.offset,
        )
    return bytes(data)


def row_of(place: DictionaryPlace) -> tuple[int, ...]:
    """Return a place as plain integers, in the order of its attributes."""
    return dataclasses.astuple(place)
