"""Sequences: many items in the body of one value, each to be read by itself.

The stored bytes of the items lie back to back; a footer behind them says for each where it ends,
how long it is when decompressed, and the CRC-32 of its stored bytes. See `docs/format.md`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sqlstore.compression import Method, compress_many, decompress
from sqlstore.dictionaries import NO_DICTIONARIES, Dictionaries
from sqlstore.errors import ChecksumError, CorruptStoreError, DecodeError
from sqlstore.small import is_any
from sqlstore.types import Buffer

_ENTRY: Final = np.dtype([("end", "<u4"), ("raw_length", "<u4"), ("crc", "<u4")])
ENTRY_SIZE: Final = _ENTRY.itemsize

Footer: TypeAlias = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Packed:
    """A sequence as it is stored.

    Attributes
    ----------
    body
        Items and footer.
    items
        How many there are.
    raw_length
        Bytes of all items, decompressed.
    crc
        Of the footer.
    """

    body: bytes
    items: int
    raw_length: int
    crc: int

    def __len__(self) -> int:
        return len(self.body)


def pack(raws: Sequence[Buffer], method: Method) -> Packed:
    """Return encoded items as one body, each compressed by itself where that helps."""
    stored, _ = compress_many(raws, *method)
    footer = np.empty(len(raws), _ENTRY)
    footer["end"] = np.cumsum([len(one) for one in stored], dtype=np.int64)
    footer["raw_length"] = [len(raw) for raw in raws]
    footer["crc"] = [zlib.crc32(one) for one in stored]
    tail = footer.tobytes()
    n_raw = sum(map(len, raws))
    return Packed(b"".join((*stored, tail)), len(raws), n_raw, zlib.crc32(tail))


def footer_of(tail: Buffer, length: int, crc: int | None) -> Footer:
    """Return the footer of a sequence.

    Parameters
    ----------
    tail
        The last bytes of the body.
    length
        Of the whole body.
    crc
        What it must have; None not to look.

    Raises
    ------
    ChecksumError
        It is not what was written.
    """
    footer = np.frombuffer(tail, _ENTRY) if len(tail) else np.empty(0, _ENTRY)
    ends = footer["end"]
    is_wrong = crc is not None and zlib.crc32(tail) != crc
    last = int(ends[-1]) if len(ends) else 0
    if is_wrong or last != length - len(tail) or is_any(ends[1:] < ends[:-1]):
        raise ChecksumError("the footer of the sequence is not what was written")
    return footer


def unpacked(
    data: Buffer,
    footer: Footer,
    first: int,
    compression: int,
    dictionaries: Dictionaries = NO_DICTIONARIES,
    *,
    check: bool,
) -> list[Buffer]:
    """Return items, decompressed.

    Parameters
    ----------
    data
        The stored bytes of the items.
    footer
        Their entries.
    first
        The number of the first of them, for the message of an error.
    dictionaries
        Those of the store.
    check
        Whether to compare each with its checksum.

    Raises
    ------
    ChecksumError, DecodeError
        ``error.where["item"]`` says which item is not what was written.
    """
    items: list[Buffer] = []
    entries = footer.tolist()
    begin = entries[-1][0] - len(data) if entries else 0
    start = 0
    for number, (end, raw_length, crc) in enumerate(entries, start=first):
        stored = data[start : end - begin]
        start = end - begin
        try:
            if check:
                _check_item(stored, crc)
            items.append(_unpacked(stored, raw_length, compression, dictionaries))
        except CorruptStoreError as error:
            raise type(error)(error.message, item=number, **error.where) from error
    return items


def check(
    body: Buffer,
    items: int,
    raw_length: int,
    crc: int,
    compression: int,
    dictionaries: Dictionaries = NO_DICTIONARIES,
) -> None:
    """Raise if anything in a sequence is not what was written.

    Parameters
    ----------
    body
        The stored bytes.
    items, raw_length, crc, compression
        What the segment table says of them.

    Raises
    ------
    ChecksumError, DecodeError
        What is wrong; ``error.where["item"]`` says where, if it is an item.
    """
    footer = _footer_behind(body, items, crc)
    start = len(body) - footer.nbytes
    if int(footer["raw_length"].sum(dtype=np.int64)) != raw_length:
        raise ChecksumError(f"the items are not {raw_length} bytes together")
    unpacked(body[:start], footer, 0, compression, dictionaries, check=True)


def check_stored(body: Buffer, items: int, crc: int) -> None:
    """Raise if the stored bytes of a sequence are not what was written; none is decompressed.

    Raises
    ------
    ChecksumError
        ``error.where["item"]`` says where, if it is an item.
    """
    footer = _footer_behind(body, items, crc)
    start = 0
    entries = zip(footer["end"].tolist(), footer["crc"].tolist(), strict=True)
    for number, (end, item_crc) in enumerate(entries):
        try:
            _check_item(body[start:end], item_crc)
        except ChecksumError as error:
            raise ChecksumError(error.message, item=number) from error
        start = end


def _footer_behind(body: Buffer, items: int, crc: int) -> Footer:
    """Return the footer of a whole body."""
    size = items * ENTRY_SIZE
    if size > len(body):
        raise ChecksumError(f"{items} items in {len(body)} bytes")
    return footer_of(body[len(body) - size :], len(body), crc)


def _check_item(stored: Buffer, crc: int) -> None:
    if zlib.crc32(stored) != crc:
        raise ChecksumError(f"these {len(stored)} bytes are not what was written")


def _unpacked(
    stored: Buffer, raw_length: int, compression: int, dictionaries: Dictionaries
) -> Buffer:
    if len(stored) == raw_length:
        return stored
    if not compression:
        raise DecodeError(f"{len(stored)} bytes instead of {raw_length}")
    return decompress(stored, compression, raw_length, dictionaries)
