"""Compression: bytes to fewer bytes, and back, one value at a time.

A value that does not get smaller is kept as it is. The length of the original is stored beside
every value, so that memory is only allocated after it has been checked.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import lz4.block
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import limits, threads
from sqlstore.dictionaries import DICTIONARY, FIRST, NO_DICTIONARIES, Compress, Dictionaries
from sqlstore.errors import CorruptStoreError, DecodeError
from sqlstore.types import Buffer

COMPRESSIONS: Final[dict[str | None, int]] = {None: 0, "lz4": 1, "zstd": 2, "gzip": 3}
"""The number that stands for each compression on disk."""

NAMES: Final = {number: name for name, number in COMPRESSIONS.items()}

CHOICES: Final = (*COMPRESSIONS, DICTIONARY)
"""What a field may declare; dictionaries have numbers of their own, from `FIRST` on."""

Method: TypeAlias = tuple[int, Compress | None]
"""The number of a compression, and what compresses: None for the function of that number."""

_LZ4: Final = 1
_PARALLEL_FROM: Final = 8 * limits.KiB  # bytes of a value; smaller ones take turns for the lock
_LZ4_RATIO: Final = 255
_LZ4_MOST: Final = 0x7E000000  # bytes that an LZ4 block can hold
_ZSTD_BLOCK: Final = 128 * limits.KiB  # what a block holds at most, ...
_ZSTD_LEAST: Final = 4  # ... and the bytes that it has at least: a header, and one to repeat
_ZSTD = pa.Codec("zstd")


def _compress_zstd(data: Buffer) -> bytes:
    smaller: bytes = _ZSTD.compress(data, asbytes=True)
    return smaller


def _compress_lz4(data: Buffer) -> bytes:
    if len(data) > _LZ4_MOST:
        return bytes(data)
    smaller: bytes = lz4.block.compress(data, store_size=False)
    return smaller


def _compress_gzip(data: Buffer) -> bytes:
    return gzip.compress(data, compresslevel=6, mtime=0)


def _decompress_lz4(data: Buffer, raw_length: int) -> bytes:
    if raw_length > _LZ4_RATIO * len(data) + 16:
        raise ValueError(f"{len(data)} bytes of LZ4 cannot hold {raw_length} bytes")
    raw: bytes = lz4.block.decompress(data, uncompressed_size=raw_length)
    return raw


def _decompress_zstd(data: Buffer, raw_length: int) -> bytes:
    if raw_length > (len(data) // _ZSTD_LEAST + 1) * _ZSTD_BLOCK:
        raise ValueError(f"{len(data)} bytes of zstd cannot hold {raw_length} bytes")
    raw: bytes = _ZSTD.decompress(data, decompressed_size=raw_length, asbytes=True)
    return raw


def _decompress_gzip(data: Buffer, raw_length: int) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    result = stream.decompress(data, raw_length + 1)
    if not stream.eof:
        raise ValueError("the gzip stream is cut short or longer than it should be")
    return result


COMPRESS: Final[dict[int, Compress]] = {
    1: _compress_lz4,
    2: _compress_zstd,
    3: _compress_gzip,
}
_DECOMPRESS: Final[dict[int, Callable[[Buffer, int], bytes]]] = {
    1: _decompress_lz4,
    2: _decompress_zstd,
    3: _decompress_gzip,
}


def compress_many(
    raws: Sequence[Buffer], number: int, function: Compress | None = None
) -> tuple[Sequence[Buffer], NDArray[np.uint8]]:
    """Compress values one by one.

    Parameters
    ----------
    raws
        The encoded values.
    number
        The compression to try; 0 is none.
    function
        What compresses a value; by default, that of the number.

    Returns
    -------
    tuple
        What to store, and for each the number of the compression that it is stored with: 0 where
        compressing did not make it smaller.
    """
    if number == 0:
        return raws, np.zeros(len(raws), np.uint8)
    function = function or COMPRESS[number]
    smaller = [function(raw) if len(raw) else raw for raw in raws]
    helped = [len(one) < len(raw) for one, raw in zip(smaller, raws, strict=True)]
    bodies = [one if helps else raw for one, raw, helps in zip(smaller, raws, helped, strict=True)]
    return bodies, np.where(helped, number, 0).astype(np.uint8)


def decompress(
    data: Buffer, number: int, raw_length: int, dictionaries: Dictionaries = NO_DICTIONARIES
) -> Buffer:
    """Return the value that was compressed.

    Parameters
    ----------
    dictionaries
        Those of the store.

    Raises
    ------
    DecodeError
        The bytes are not what this compression makes of ``raw_length`` bytes.
    CorruptStoreError
        A dictionary is damaged.
    """
    if number == 0:
        result: Buffer = data
    elif number in _DECOMPRESS:
        result = _run(_DECOMPRESS[number], data, raw_length)
    elif number >= FIRST:
        result = dictionaries.decompress(data, number - FIRST, raw_length)
    else:
        raise DecodeError(f"compression {number} is not known; a newer sqlstore may read it")
    if len(result) != raw_length:
        raise DecodeError(f"{len(result)} bytes after decompressing instead of {raw_length}")
    return result


def decompress_many(
    datas: Sequence[Buffer],
    numbers: Sequence[int],
    raw_lengths: Sequence[int],
    dictionaries: Dictionaries = NO_DICTIONARIES,
) -> list[Buffer]:
    """Return the values that were compressed, in several threads where that helps.

    That is where each is large enough, and not LZ4: it is done before another thread has begun.

    Raises
    ------
    DecodeError
        One cannot be decompressed; ``error.where["row"]`` says which.
    CorruptStoreError
        The same, if it is the dictionary that is damaged.
    """
    one_row = partial(_decompress_row, dictionaries)
    work = list(zip(range(len(datas)), datas, numbers, raw_lengths, strict=True))
    n_bytes = sum(raw_lengths)
    is_slow = _LZ4 not in numbers and n_bytes >= len(work) * _PARALLEL_FROM
    if n_bytes < limits.PARALLEL_BYTES or not is_slow:
        return [one_row(one) for one in work]
    return threads.spread(one_row, work)


def _decompress_row(dictionaries: Dictionaries, work: tuple[int, Buffer, int, int]) -> Buffer:
    row, data, number, raw_length = work
    try:
        return decompress(data, number, raw_length, dictionaries)
    except CorruptStoreError as error:
        error.where["row"] = row
        raise


_FAILURES: Final = (
    ValueError,
    OSError,
    RuntimeError,
    OverflowError,
    MemoryError,
    zlib.error,
    lz4.block.LZ4BlockError,
)


def _run(function: Callable[[Buffer, int], bytes], data: Buffer, raw_length: int) -> Buffer:
    try:
        return function(data, raw_length)
    except _FAILURES as error:
        raise DecodeError(f"cannot decompress: {error}") from error
