"""Which stratum gives how many records to which split, in whole numbers.

A table has a row per stratum and a column per split; its rows have the sums that the strata have,
its columns those that the splits are to have, and each cell is in proportion to both. Rounding a
cell up or down, so that rows and columns keep their sums, is always possible: such a table is a
flow from rows to columns, and where all sums are whole, so can the flow be.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sqlstore.splits.sizes import largest_remainder
from sqlstore.types import Ids


def allotted(strata: Ids, sizes: Sequence[int], taken: Ids, free: Ids) -> Ids:
    """Return how many of the free records of each stratum go to each split.

    Parameters
    ----------
    strata
        How many records each stratum has.
    sizes
        How many records each split is to have; of the same sum.
    taken
        How many of each stratum (rows) each split (columns) has already, by way of groups.
    free
        How many of each stratum have no split yet.

    Returns
    -------
    numpy.ndarray
        Rows have the sums ``free``, columns what is missing from ``sizes``. If nothing is taken,
        each cell is ``strata * size / sum``, rounded up or down; else cells are near to what is
        missing from that.
    """
    total = max(int(strata.sum()), 1)
    share = strata[:, None] * np.array(sizes, np.int64)
    low = share // total - taken
    rest: NDArray[np.float64] = (share % total) / total
    over = (low < 0).any(axis=1)
    if over.any():  # groups took more than a share: what is free goes where anything is missing
        wanted = np.maximum(share[over] / total - taken[over], 0)
        sums = np.maximum(wanted.sum(axis=1), 1e-300)
        wanted *= (free[over] / sums)[:, None]
        low[over] = np.floor(wanted)
        rest[over] = wanted - low[over]
    # In each row as many are rounded up as are missing, first those that lose most.
    rank = np.argsort(np.argsort(-rest, axis=1, kind="stable"), axis=1, kind="stable")
    cells: Ids = low + (rank < (free - low.sum(axis=1))[:, None])
    room = [max(size - int(had), 0) for size, had in zip(sizes, taken.sum(axis=0), strict=True)]
    columns = largest_remainder(int(free.sum()), room) if any(room) else room
    excess = cells.sum(axis=0) - columns
    ideal = low + rest
    _balance(cells, excess, ideal, low, low + (rest > 0))
    _balance(cells, excess, ideal, np.zeros_like(low), np.broadcast_to(free[:, None], low.shape))
    return cells


def _balance(cells: Ids, excess: Ids, ideal: NDArray[np.float64], least: Ids, most: Ids) -> None:
    """Move records within rows until no column has an excess, or bounds leave no way."""
    while path := _path(excess, (cells > least).astype(np.float32), (cells < most)):
        steps = list(pairwise(path))
        caps = [np.minimum(cells[:, a] - least[:, a], most[:, b] - cells[:, b]) for a, b in steps]
        amount = min(int(excess[path[0]]), -int(excess[path[-1]]), *(int(c.sum()) for c in caps))
        # On a shortest path, no row is part of two steps: there would be a shorter one.
        for (a, b), cap in zip(steps, caps, strict=True):
            loss = (ideal[:, a] - cells[:, a]) - (ideal[:, b] - cells[:, b])
            moved = _spread(amount, cap, loss)
            cells[:, a] -= moved
            cells[:, b] += moved
        excess[path[0]] -= amount
        excess[path[-1]] += amount


def _spread(amount: int, cap: Ids, loss: NDArray[np.float64]) -> Ids:
    """Return what each row gives of an amount: in proportion to its cap, the rest at least loss."""
    given: Ids = cap * amount // cap.sum()
    able = np.flatnonzero(given < cap)
    cheapest = able[np.argsort(loss[able], kind="stable")]
    given[cheapest[: amount - int(given.sum())]] += 1
    return given


def _path(excess: Ids, can_give: NDArray[np.float32], can_take: NDArray[np.bool_]) -> list[int]:
    """Return the shortest way from a column with an excess to one that lacks, or nothing."""
    starts = np.flatnonzero(excess > 0).tolist()
    if not starts:
        return []
    linked = can_give.T @ can_take.astype(np.float32) > 0
    ways = {start: [start] for start in starts}
    for column, way in (queue := list(ways.items())):
        if excess[column] < 0:
            return way
        for other in np.flatnonzero(linked[column]).tolist():
            if other not in ways:
                ways[other] = [*way, other]
                queue.append((other, ways[other]))
    return []
