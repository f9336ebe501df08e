"""Checksums: CRC-32 of what is stored, and the check that ties it to its place in the index.

The log stores ``crc32(body)``. The index stores ``crc32(body) XOR mix32(...)`` of the record id and
everything else that decides how the body is read, so that a body read through a wrong, swapped or
damaged index row is noticed although its own bytes are intact.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_RECORD: Final = 0x9E3779B97F4A7C15
_RAW_LENGTH: Final = 0xC2B2AE3D27D4EB4F
_ITEMS: Final = 0x165667B19E3779F9
_FINAL: Final = 0xD6E8FEB86659FD93


def mix32(
    record: NDArray[np.int64],
    field: int,
    compression: NDArray[np.uint8],
    raw_length: NDArray[np.uint32],
    items: NDArray[np.uint32],
) -> NDArray[np.uint32]:
    """Mix what decides how a body is read into 32 bits.

    All arithmetic is unsigned and modulo 2**64. The multipliers are those of splitmix64 and xxHash;
    the mixing is the two-round multiply-and-shift finaliser of MurmurHash3. `docs/format.md` gives
    it in words.

    Parameters
    ----------
    record
        Record ids, shape ``(n,)``.
    field
        Number of the field that all ``n`` values belong to.
    compression, raw_length, items
        As in the segment table, each of shape ``(n,)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(n,)``, dtype uint32.
    """
    h = record.astype(np.uint64) * np.uint64(_RECORD)
    h += raw_length.astype(np.uint64) * np.uint64(_RAW_LENGTH)
    h += items.astype(np.uint64) * np.uint64(_ITEMS)
    h ^= (compression.astype(np.uint64) << np.uint64(32)) | np.uint64(field)
    for _ in range(2):
        h ^= h >> np.uint64(32)
        h *= np.uint64(_FINAL)
    h ^= h >> np.uint64(32)
    return (h & np.uint64(0xFFFFFFFF)).astype(np.uint32)
