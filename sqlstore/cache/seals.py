"""The seal of a location row: 32 bits by which damage to any part of the row is noticed.

The cache is not synced, and a disk may change what it holds, so no row is believed before its seal
has been checked. All arithmetic is unsigned and modulo 2**64; the multipliers are those of
splitmix64 and of `sqlstore.checksum`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sqlstore.types import Ids

_RECORD: Final = 0x9E3779B97F4A7C15
_WORD: Final = 0xD6E8FEB86659FD93
_64: Final = 0xFFFFFFFFFFFFFFFF
_32: Final = 0xFFFFFFFF


def seals(rows: NDArray[np.uint32], records: Ids, field: int) -> NDArray[np.uint32]:
    """Return the seals of location rows.

    Parameters
    ----------
    rows
        Shape ``(n, 8)``, C-contiguous, as `sqlstore.cache.locations` declares them; the last column
        is not looked at.
    records
        Their record ids, shape ``(n,)``.
    field
        The number of the field that all belong to.
    """
    words = rows.view(np.uint64)
    h = (records.astype(np.uint64) + np.uint64(1)) * np.uint64(_RECORD)
    h ^= np.uint64(field)
    for word in (words[:, 0], words[:, 1], words[:, 2], words[:, 3] & np.uint64(_32)):
        h ^= word
        h *= np.uint64(_WORD)
        h ^= h >> np.uint64(32)
    return (h & np.uint64(_32)).astype(np.uint32)


def seal(words: tuple[int, int, int, int], record: int, field: int) -> int:
    """Return the seal of one row: the same as `seals`, and faster for a single one.

    Parameters
    ----------
    words
        The first 28 bytes of the row as three integers of 64 bits and one of 32.
    """
    h = ((record + 1) * _RECORD & _64) ^ field
    for word in words:
        h = (h ^ word) * _WORD & _64
        h ^= h >> 32
    return h & _32
