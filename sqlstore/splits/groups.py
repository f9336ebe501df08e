"""Which group goes to which split, so that sizes and strata come near to what is wanted.

That is a packing problem, which is solved greedily. A group weighs as much as the root of the sum
of the squares of the parts that it holds of each stratum; without strata, that is its size. Groups
are taken from heavy to light, somewhat shaken. Each goes to the split that lacks most of what the
group has, among those that still have room for it; if none has, to that with the most room. What a
split lacks of a stratum is its share of what all groups so far had of it, less what it got.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import mul
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sqlstore.types import Ids

_SHAKEN: Final = 0.25
"""A group is taken as if it were heavier by up to this part, at random."""

_AT_ONCE: Final = 1 << 16
_Small: TypeAlias = NDArray[np.int32]


def placed(
    groups: _Small, strata: _Small | None, counts: Ids, sizes: Sequence[int]
) -> tuple[_Small, Ids]:
    """Return the split of each group, and how many of each stratum each split has then.

    Parameters
    ----------
    groups
        The group of each record; groups are numbered from 0, in random order.
    strata
        The stratum of each record; None if there is but one.
    counts
        How many records each stratum has, also those that are not among these.
    sizes
        How many records each split is to have, of all records.
    """
    n_groups = int(groups.max(initial=-1)) + 1
    found = np.zeros(n_groups, np.int32)
    taken = np.zeros((len(counts), len(sizes)), np.int64)
    group, stratum, number = _cells(groups, strata, len(counts))
    part = number / counts[stratum]
    weight = np.sqrt(np.bincount(group, part * part, n_groups))
    order = np.argsort(-weight * (1 + _SHAKEN * np.linspace(0, 1, n_groups)), kind="stable")
    rank = np.empty(n_groups, np.int32)
    rank[order] = np.arange(n_groups)
    taking = np.argsort(rank[group], kind="stable")
    bounds = np.append(0, np.cumsum(np.bincount(group, minlength=n_groups)[order]))
    stratum, number, part = stratum[taking], number[taking], part[taking]
    del group, taking, weight, rank
    packing = _Packing(counts, sizes)
    for start in range(0, n_groups, _AT_ONCE):
        ends = bounds[start : start + _AT_ONCE + 1]
        piece = slice(ends[0], ends[-1])
        chosen = packing.place(ends - ends[0], stratum[piece], number[piece], part[piece])
        found[order[start : start + _AT_ONCE]] = chosen
        np.add.at(taken, (stratum[piece], np.repeat(chosen, np.diff(ends))), number[piece])
    return found, taken


def _cells(groups: _Small, strata: _Small | None, n_strata: int) -> tuple[_Small, _Small, _Small]:
    """Return group, stratum and number of records, where there are any, by group."""
    cells = groups.astype(np.int64)
    if strata is not None:
        cells *= n_strata
        cells += strata
    cells.sort()
    first = np.flatnonzero(np.append(True, cells[1:] != cells[:-1])[: len(cells)])
    number = np.diff(first, append=len(cells)).astype(np.int32)
    cells = cells[first]
    return (cells // n_strata).astype(np.int32), (cells % n_strata).astype(np.int32), number


class _Packing:
    """Splits that are being filled; lists, as in NumPy a step of few numbers takes longer."""

    def __init__(self, counts: Ids, sizes: Sequence[int]) -> None:
        total = sum(sizes)
        self._shares = [size / total for size in sizes]
        self._room = list(sizes)
        # Both as parts of the strata: what all groups had so far, and what each split has got.
        self._all = [0.0] * len(counts)
        self._got = [[0.0] * len(counts) for _ in sizes]

    def place(
        self, bounds: Ids, stratum: _Small, number: _Small, part: NDArray[np.float64]
    ) -> list[int]:
        """Return the split of each of some groups, which are taken in this order."""
        sizes = np.add.reduceat(number, bounds[:-1]).tolist()
        strata, parts, limits = stratum.tolist(), part.tolist(), bounds.tolist()
        return [
            self._placed(size, strata[start:stop], parts[start:stop])
            for size, (start, stop) in zip(sizes, pairwise(limits), strict=True)
        ]

    def _placed(self, size: int, strata: list[int], parts: list[float]) -> int:
        room, had, got = self._room, self._all, self._got
        wanted = 0.0
        for stratum, part in zip(strata, parts, strict=True):
            had[stratum] += part
            wanted += part * had[stratum]
        best, most = -1, 0.0
        for split, share in enumerate(self._shares):
            if room[split] >= size:
                of = got[split]
                lacks = share * wanted - sum(map(mul, parts, [of[s] for s in strata]))
                if best < 0 or lacks > most:
                    best, most = split, lacks
        if best < 0:
            best = room.index(max(room))
        room[best] -= size
        of = got[best]
        for stratum, part in zip(strata, parts, strict=True):
            of[stratum] += part
        return best
