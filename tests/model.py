"""What views are to do, as plain Python over lists: written without this library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

_BITS = 2**64


def _mixed(number: int) -> int:
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % _BITS
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB % _BITS
    return number ^ (number >> 31)


def keys_of(seed: int, values: Iterable[int]) -> list[int]:
    """Return for each value the output of SplitMix64 of that number."""
    return [_mixed((seed + (value + 1) * 0x9E3779B97F4A7C15) % _BITS) for value in values]


def shuffled(members: Sequence[T], seed: int) -> list[T]:
    keys = keys_of(seed, range(len(members)))
    return [members[place] for place in sorted(range(len(members)), key=keys.__getitem__)]


def once(members: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(members))


def shard(members: Sequence[T], index: int, count: int) -> list[T]:
    sizes = [len(members) // count + (i < len(members) % count) for i in range(count)]
    start = sum(sizes[:index])
    return list(members[start : start + sizes[index]])
