"""Hashes of metadata values: the same for ever, on every machine.

``mix`` is the SplitMix64 of `random_keys` under seed 0, from 64 bits to 64. The hash of a value:

- an integer or a boolean, a date (days since 1970), a timestamp (microseconds since 1970, UTC):
  ``mix`` of it as 64 bits in two's complement;
- a floating-point number: ``mix`` of the 64 bits of the float64 that it is; -0.0 counts as 0.0, and
  every NaN has the bits 0x7ff8000000000000;
- text (as UTF-8), JSON (its text) and bytes: first ``h = mix(number of bytes)``, then for each 8
  bytes, little-endian and the last ones filled up with zeros, ``h = mix(h ^ those)``;
- null: 0x6c6c756e.

The hash of a row begins as 0, and becomes ``mix(it ^ hash of value)`` for one column after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore.arrow import presence
from sqlstore.limits import MiB
from sqlstore.positions import as_array
from sqlstore.randomness import random_keys
from sqlstore.schema import Column
from sqlstore.source import Source
from sqlstore.types import Ids

Hashes = NDArray[np.uint64]

_AT_ONCE: Final = 1 << 20
_TEXT_AT_ONCE: Final = 64 * MiB
_NULL: Final = 0x6C6C756E
_NAN: Final = 0x7FF8000000000000
_KEPT: Final = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""The bits that count of a word of which n bytes are left."""


def mix(words: NDArray[np.uint64] | Ids) -> Hashes:
    """Return 64 bits of which each depends on all 64 bits of a word."""
    return random_keys(0, words.view(np.int64))


def row_hashes(
    source: Source, ids: range | Ids, columns: Sequence[Column | None]
) -> tuple[Hashes, NDArray[np.bool_]]:
    """Return the hash of each record's values, and whether one of them is null.

    Parameters
    ----------
    columns
        Metadata columns, in the order in which they are hashed; None is the record id.
    """
    hashes = np.zeros(len(ids), np.uint64)
    missing = np.zeros(len(ids), bool)
    stored = [column for column in columns if column is not None]
    for start in range(0, len(ids), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        metadata = iter(source.metadata(ids[part], stored))
        for column in columns:
            if column is None:
                hashes[part] = mix(hashes[part] ^ mix(as_array(ids[part])))
                continue
            arrays = [array.cast(column.kind.plain) for array in next(metadata)]
            values = np.concatenate([hashed(array) for array in arrays])
            hashes[part] = mix(hashes[part] ^ values)
            missing[part] |= np.concatenate([~presence(array) for array in arrays])
    return hashes, missing


def hashed(array: pa.Array) -> Hashes:
    """Return the hash of each value of a plain array."""
    if not len(array):
        return np.empty(0, np.uint64)
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        found = _hashed_bytes(array)
    elif pa.types.is_floating(kind):
        found = mix(_float_bits(_int64s(array.cast(pa.float64()))))
    else:
        found = mix(_int64s(array.cast(pa.int64())))
    if array.null_count:
        found[~presence(array)] = _NULL
    return found


def _int64s(array: pa.Array) -> Ids:
    """Return the 64 bits of each value, of which those that are null may be anything."""
    values = np.frombuffer(array.buffers()[1], np.int64)
    return values[array.offset : array.offset + len(array)]


def _float_bits(stored: Ids) -> Ids:
    numbers = stored.view(np.float64) + 0.0  # makes 0.0 of -0.0
    bits = numbers.view(np.int64)
    bits[np.isnan(numbers)] = _NAN
    return bits


def _hashed_bytes(array: pa.Array) -> Hashes:
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset :][: len(array) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    if last - first > _TEXT_AT_ONCE and len(array) > 1:
        half = len(array) // 2
        return np.concatenate([_hashed_bytes(array[:half]), _hashed_bytes(array[half:])])
    data = np.zeros(last - first + 8, np.uint8)
    if last > first:
        data[: last - first] = np.frombuffer(array.buffers()[2], np.uint8)[first:last]
    # The 8 bytes from each place on, of which `places` below chooses.
    words: Hashes = np.ndarray((len(data) - 7,), np.dtype("<u8"), data, strides=(1,))
    lengths = np.diff(offsets).astype(np.int64)
    found = mix(lengths)
    active = np.flatnonzero(lengths)
    left = lengths[active]
    places = offsets[:-1].astype(np.int64)[active] - first
    while len(active):
        word = words[places] & _KEPT[np.minimum(left, 8)]
        found[active] = mix(found[active] ^ word)
        goes_on = left > 8
        active, left, places = active[goes_on], left[goes_on] - 8, places[goes_on] + 8
    return found
