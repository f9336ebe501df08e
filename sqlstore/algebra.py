"""What can be done with sequences of record ids, knowing nothing else: all of it vectorised.

A sequence is a range or an int64 array. A range of step 1 stays one where the result is one, so
that a store of any size, its slices and its shards take no memory.
"""

from __future__ import annotations

from typing import Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from sqlstore.positions import as_array
from sqlstore.types import Ids

_SPARSE: Final = 8
"""A table is made as long as it has at most so many places for each id."""


def joined(*parts: range | Ids) -> range | Ids:
    """Return all ids of some sequences, one sequence after the other."""
    pieces: list[range | Ids] = []
    for part in parts:
        if not len(part):
            continue
        before = pieces[-1] if pieces else None
        if _is_run(part) and _is_run(before) and before.stop == part.start:
            pieces[-1] = range(before.start, part.stop)
        else:
            pieces.append(part)
    if len(pieces) < 2:
        return pieces[0] if pieces else range(0)
    return np.concatenate([as_array(piece) for piece in pieces])


def distinct(ids: range | Ids) -> range | Ids:
    """Return every id once, where it is first."""
    if isinstance(ids, range) or bool(np.all(ids[1:] > ids[:-1])):
        return ids
    lowest = int(ids.min())
    span = int(ids.max()) - lowest + 1
    if span > _SPARSE * len(ids):
        first = np.unique(ids, return_index=True)[1]
        return ids if len(first) == len(ids) else ids[np.sort(first)]
    offsets = ids - lowest
    there = np.zeros(span, bool)
    there[offsets] = True
    if np.count_nonzero(there) == len(ids):
        return ids
    place = np.arange(len(ids))
    first = np.full(span, len(ids))
    np.minimum.at(first, offsets, place)
    found: Ids = ids[first[offsets] == place]
    return found


def within(ids: range | Ids, members: range | Ids) -> range | Ids:
    """Return the ids that are among the members, in their order, repeats kept."""
    if _is_run(ids) and _is_run(members):
        return range(max(ids.start, members.start), min(ids.stop, members.stop))
    return _where(_are_in(ids, members), ids)


def without(ids: range | Ids, members: range | Ids) -> range | Ids:
    """Return the ids that are not among the members, in their order, repeats kept."""
    if _is_run(ids) and _is_run(members):
        before = range(ids.start, min(ids.stop, members.start))
        after = range(max(ids.start, members.stop), ids.stop)
        return joined(before, after) if len(members) else ids
    return _where(~_are_in(ids, members), ids)


def union(left: range | Ids, right: range | Ids) -> range | Ids:
    """Return the distinct ids of both: the left ones, then what is new in the right ones."""
    return joined(distinct(left), without(distinct(right), left))


def intersection(left: range | Ids, right: range | Ids) -> range | Ids:
    """Return the distinct ids of the left one that are in the right one."""
    return within(distinct(left), right)


def difference(left: range | Ids, right: range | Ids) -> range | Ids:
    """Return the distinct ids of the left one that are not in the right one."""
    return without(distinct(left), right)


def symmetric_difference(left: range | Ids, right: range | Ids) -> range | Ids:
    """Return the distinct ids that are in one of both only: the left one's, then the right's."""
    return joined(difference(left, right), difference(right, left))


def shifted(ids: range | Ids, by: int) -> range | Ids:
    """Return every id and a number together."""
    if isinstance(ids, range):
        return range(ids.start + by, ids.stop + by, ids.step)
    return ids + by if by else ids


def shard(ids: range | Ids, index: int, count: int, *, contiguous: bool) -> range | Ids:
    """Return one of ``count`` shards: a run of the ids, or every ``count``-th of them."""
    if not contiguous:
        return ids[index::count]
    size, larger = divmod(len(ids), count)
    start = index * size + min(index, larger)
    return ids[start : start + size + (index < larger)]


def _are_in(ids: range | Ids, members: range | Ids) -> NDArray[np.bool_]:
    if _is_run(members):
        array = as_array(ids)
        return (array >= members.start) & (array < members.stop)
    if _is_run(ids):
        offsets = as_array(members) - ids.start
        mask = np.zeros(len(ids), bool)
        mask[offsets[(offsets >= 0) & (offsets < len(ids))]] = True
        return mask
    return np.isin(as_array(ids), as_array(members))


def _where(mask: NDArray[np.bool_], ids: range | Ids) -> Ids:
    return np.flatnonzero(mask) + ids.start if _is_run(ids) else as_array(ids)[mask]


def _is_run(ids: range | Ids | None) -> TypeGuard[range]:
    return isinstance(ids, range) and ids.step == 1
