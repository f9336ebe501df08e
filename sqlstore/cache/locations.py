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
from sqlstore.types import Ids

ROW_SIZE: Final = 32
_AT_ONCE: Final = 1 << 18  # rows: 8 MiB
CHUNK, OFFSET, LENGTH, COMPRESSION, RAW_LENGTH, ITEMS, CRC, SEAL = range(8)

ABSENT: Final = 0xFFFFFFFF
"""In place of the compression: the record has no value of this field."""
LOST: Final = 0xFFFFFFFE
"""In place of the compression: the segment table that says where the value lies is damaged."""


def file_name(field: int, commit: int) -> str:
    """Return the name of the file for the field of this number.

    Parameters
    ----------
    commit
        The last commit that replaced values of the field; 0 if none has.
    """
    return f"locations-{field}-{commit}.bin"


def rows_of(
    values: Values, chunk: int | NDArray[np.uint32], records: Ids, field: int
) -> NDArray[np.uint32]:
    """Return the location rows of values of one field, shape ``(n, 8)``.

    Parameters
    ----------
    chunk
        That all of them lie in, or a chunk for each.
    """
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
    return _sealed(rows, records, field)


def values_of(rows: NDArray[np.uint32]) -> Values:
    """Return what location rows say of values but for the chunk that each lies in."""
    present = rows[:, COMPRESSION] != ABSENT
    return Values(
        present=present,
        offset=rows[:, OFFSET],
        length=rows[:, LENGTH],
        raw_length=rows[:, RAW_LENGTH],
        items=rows[:, ITEMS],
        crc=rows[:, CRC],
        compression=np.where(present, rows[:, COMPRESSION], 0).astype(np.uint8),
    )


def rows_lost(records: Ids, field: int) -> NDArray[np.uint32]:
    """Return the rows of records whose segment table is damaged."""
    rows = np.zeros((len(records), 8), np.uint32)
    rows[:, COMPRESSION] = LOST
    return _sealed(rows, records, field)


def _sealed(rows: NDArray[np.uint32], records: Ids, field: int) -> NDArray[np.uint32]:
    rows[:, SEAL] = seals(rows, records, field)
    return rows


def write(path: Path, first_record: int, rows: NDArray[np.uint32]) -> None:
    """Write rows at their place; they count once the manifest says so.

    Raises
    ------
    CorruptCacheError
        Rows before them are missing.
    """
    descriptor = files.open_or_create(path)
    try:
        if files.size_of(descriptor) < first_record * ROW_SIZE:
            raise CorruptCacheError(f"{path} has been cut short")
        files.write_at(descriptor, first_record * ROW_SIZE, [rows.data.cast("B")], path)
    finally:
        files.close(descriptor)


def write_anew(path: Path, rows: NDArray[np.uint32], ids: Ids, changed: NDArray[np.uint32]) -> None:
    """Write a file of rows of which some are others.

    Parameters
    ----------
    rows
        All rows, shape ``(n, 8)``.
    ids, changed
        The records whose rows are others, ascending, and those rows.
    """
    descriptor = files.open_or_create(path)
    try:
        for start in range(0, len(rows), _AT_ONCE):
            piece = rows[start : start + _AT_ONCE].copy()
            low, high = np.searchsorted(ids, [start, start + len(piece)])
            piece[ids[low:high] - start] = changed[low:high]
            files.write_at(descriptor, start * ROW_SIZE, [piece.data.cast("B")], path)
    finally:
        files.close(descriptor)


def load(path: Path, count: int) -> pa.Buffer:
    """Return the mapped rows of a field.

    Raises
    ------
    CorruptCacheError
        There are not as many.
    """
    try:
        buffer = files.mapped(path)
    except OSError as error:
        raise CorruptCacheError(f"{path} is gone") from error
    if buffer.size < count * ROW_SIZE:
        raise CorruptCacheError(f"{path} has too few locations")
    return buffer.slice(0, count * ROW_SIZE)
