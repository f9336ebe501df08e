"""The location cache: for every field a file with a row of 32 bytes per record, by record id.

A row is eight little-endian 32-bit integers: chunk, offset, length, compression, raw length, items,
CRC-32 of the stored bytes, and the seal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore.cache.seals import seals
from sqlstore.errors import CorruptCacheError
from sqlstore.log import files
from sqlstore.log.table import Values

ROW_SIZE: Final = 32
CHUNK, OFFSET, LENGTH, COMPRESSION, RAW_LENGTH, ITEMS, CRC, SEAL = range(8)

ABSENT: Final = 0xFFFFFFFF
"""In place of the compression: the record has no value of this field."""
LOST: Final = 0xFFFFFFFE
"""In place of the compression: the segment table that says where the value lies is damaged."""


def file_name(field: int) -> str:
    """Return the name of the file for the field of this number."""
    return f"locations-{field}.bin"


def rows_of(values: Values, chunk: int, first_record: int, field: int) -> NDArray[np.uint32]:
    """Return the location rows of one field of an append, shape ``(n, 8)``."""
    rows = np.zeros((len(values.present), 8), np.uint32)
    rows[:, CHUNK] = chunk
    rows[:, OFFSET] = values.offset
    rows[:, LENGTH] = values.length
    rows[:, COMPRESSION] = values.compression
    rows[:, RAW_LENGTH] = values.raw_length
    rows[:, ITEMS] = values.items
    rows[:, CRC] = values.crc
    if not values.present.all():
        rows[~values.present] = 0
        rows[~values.present, COMPRESSION] = ABSENT
    return _sealed(rows, first_record, field)


def rows_lost(count: int, first_record: int, field: int) -> NDArray[np.uint32]:
    """Return the rows of records whose segment table is damaged."""
    rows = np.zeros((count, 8), np.uint32)
    rows[:, COMPRESSION] = LOST
    return _sealed(rows, first_record, field)


def _sealed(rows: NDArray[np.uint32], first_record: int, field: int) -> NDArray[np.uint32]:
    records = np.arange(first_record, first_record + len(rows), dtype=np.int64)
    rows[:, SEAL] = seals(rows, records, field)
    return rows


def write(folder: Path, field: int, first_record: int, rows: NDArray[np.uint32]) -> None:
    """Write rows at their place; they count once the manifest says so.

    Raises
    ------
    CorruptCacheError
        Rows before them are missing.
    """
    path = folder / file_name(field)
    descriptor = files.open_or_create(path)
    try:
        if files.size_of(descriptor) < first_record * ROW_SIZE:
            raise CorruptCacheError(f"{path} has been cut short")
        files.write_at(descriptor, first_record * ROW_SIZE, [rows.data.cast("B")], path)
    finally:
        files.close(descriptor)


def load(folder: Path, field: int, count: int) -> pa.Buffer:
    """Return the mapped rows of a field.

    Raises
    ------
    CorruptCacheError
        There are not as many.
    """
    try:
        buffer = files.mapped(folder / file_name(field))
    except OSError as error:
        raise CorruptCacheError(f"{folder} lacks the locations of field {field}") from error
    if buffer.size < count * ROW_SIZE:
        raise CorruptCacheError(f"{folder} has too few locations of field {field}")
    return buffer.slice(0, count * ROW_SIZE)
