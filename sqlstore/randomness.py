"""Random order that stays the same for ever, whatever the machine and the version of NumPy.

NumPy keeps the streams of its generators only for one build on one machine, and may change its
shuffling in any release. So nothing here draws from a stream: every value gets a key, and what is
random is the order of the keys. The key of value v under seed s is the number that SplitMix64
(Steele, Lea and Flood, OOPSLA 2014), started at s, gives as its output v, counted from 0.
"""

from __future__ import annotations

import operator
from typing import Final, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sqlstore.types import Ids

_STEP: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB
_NUMBERS: Final = 1 << 64
_BLOCK: Final = 1 << 15
"""So many keys are made at once that they stay in the processor's cache."""

_Keys: TypeAlias = NDArray[np.uint64]


def random_keys(seed: SupportsIndex, values: Ids) -> _Keys:
    """Return a key for each value, uniform over 64 bits; it depends on seed and value alone.

    Parameters
    ----------
    seed
        From 0 to 2**64 - 1.
    values
        Integers, such as positions or record ids.

    Returns
    -------
    numpy.ndarray
        Under one seed, different values have different keys.

    Raises
    ------
    TypeError, ValueError
        This is no seed.
    """
    start, keys = np.uint64(_checked(seed)), values.astype(np.uint64)
    for begin in range(0, len(keys), _BLOCK):
        _mix(keys[begin : begin + _BLOCK], start)
    return keys


def random_order(seed: SupportsIndex, count: int, first: int | None = None) -> Ids:
    """Return the positions 0 to ``count - 1`` in random order: that of their keys.

    Parameters
    ----------
    seed
        From 0 to 2**64 - 1.
    first
        Return only so many, those that come first; all by default.
    """
    keys = random_keys(seed, np.arange(count, dtype=np.int64))
    if first is not None and first < count:
        keys.partition(first)
        keys = keys[:first].copy()
    keys.sort()
    # A key tells its value, so they are sorted alone: that takes a third of the time of `argsort`.
    start = np.uint64(_checked(seed))
    for begin in range(0, len(keys), _BLOCK):
        _unmix(keys[begin : begin + _BLOCK], start)
    return keys.view(np.int64)


def _mix(values: _Keys, start: np.uint64) -> None:
    """Make keys of values, in place."""
    values += np.uint64(1)
    values *= np.uint64(_STEP)
    values += start
    values ^= values >> np.uint64(30)
    values *= np.uint64(_FIRST)
    values ^= values >> np.uint64(27)
    values *= np.uint64(_SECOND)
    values ^= values >> np.uint64(31)


def _unmix(keys: _Keys, start: np.uint64) -> None:
    """Make of keys the values that they are of, in place: each step of `_mix` backwards."""
    keys ^= (keys >> np.uint64(31)) ^ (keys >> np.uint64(62))
    keys *= _inverse(_SECOND)
    keys ^= (keys >> np.uint64(27)) ^ (keys >> np.uint64(54))
    keys *= _inverse(_FIRST)
    keys ^= (keys >> np.uint64(30)) ^ (keys >> np.uint64(60))
    keys -= start
    keys *= _inverse(_STEP)
    keys -= np.uint64(1)


def _inverse(factor: int) -> np.uint64:
    """Return what undoes a multiplication."""
    return np.uint64(pow(factor, -1, _NUMBERS))


def _checked(seed: SupportsIndex) -> int:
    if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, SupportsIndex):
        raise TypeError(f"a seed is an integer, not {seed!r}")
    number = operator.index(seed)
    if not 0 <= number < _NUMBERS:
        raise ValueError(f"a seed is from 0 to 2**64 - 1, not {number}")
    return number
