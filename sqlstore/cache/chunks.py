"""The chunk files by the integers that location rows name them by: 32 bytes for each.

A row is the number and the random part of the file name, the uuid, and a checksum.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlstore.errors import CorruptCacheError, StorageError
from sqlstore.log import files

_ROW: Final = struct.Struct("<QI16sI")
_DIGITS: Final = 56  # the highest byte says how many digits the number is written with
_FILE: Final = "chunks.bin"
_MOST: Final = 1 << 20
"""Chunks of a store: as many of the default size would hold 512 TiB."""


@dataclass(frozen=True, slots=True)
class ChunkFile:
    """A chunk: its file name, and the uuid that its header must have."""

    name: str
    uuid: uuid.UUID


def write(folder: Path, numbered: Mapping[int, ChunkFile]) -> None:
    """Write the rows of chunks at their places."""
    path = folder / _FILE
    descriptor = files.open_or_create(path)
    try:
        for number, chunk in sorted(numbered.items()):
            files.write_at(descriptor, number * _ROW.size, [_packed(number, chunk)], path)
    finally:
        files.close(descriptor)


def _packed(number: int, chunk: ChunkFile) -> bytes:
    digits, _, rest = chunk.name.partition("-")
    sequence = int(digits) | len(digits) << _DIGITS
    row = _ROW.pack(sequence, int(rest[:8], 16), chunk.uuid.bytes, 0)[:-4]
    return row + struct.pack("<I", zlib.crc32(row, number))


class ChunkFiles:
    """The chunks that the cache knows.

    Parameters
    ----------
    folder
        The folder of the cache.
    count
        How many there are.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        try:
            path, most = folder / _FILE, _MOST * _ROW.size
            self._rows = files.contents(path, most) if count else b""
        except StorageError as error:
            raise CorruptCacheError(f"{folder} does not know the chunks") from error
        if len(self._rows) < count * _ROW.size:
            raise CorruptCacheError(f"{folder} knows too few chunks")

    def __getitem__(self, number: int) -> ChunkFile:
        """Return the chunk that an integer stands for.

        Raises
        ------
        CorruptCacheError
            The cache does not know it.
        """
        data = self._rows[number * _ROW.size : (number + 1) * _ROW.size]
        if len(data) == _ROW.size:
            sequence, random, chunk, crc = _ROW.unpack(data)
            if crc == zlib.crc32(data[:-4], number):
                digits, sequence = sequence >> _DIGITS, sequence & ((1 << _DIGITS) - 1)
                name = f"{sequence:0{digits}d}-{random:08x}.chunk"
                if files.CHUNK_NAME.fullmatch(name):
                    return ChunkFile(name, uuid.UUID(bytes=chunk))
        raise CorruptCacheError(f"{self._folder} does not say which file chunk {number} is")
