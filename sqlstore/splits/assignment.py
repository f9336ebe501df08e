"""The split of each record of a view: random, or by a hash of a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sqlstore.errors import SplitError, UnknownNameError
from sqlstore.positions import as_array
from sqlstore.randomness import random_keys
from sqlstore.schema import Column, Schema
from sqlstore.source import Source
from sqlstore.splits import groups, rounding
from sqlstore.splits.hashing import Hashes, mix, row_hashes
from sqlstore.splits.sizes import Sizes, exact_ratios, exact_sizes, largest_remainder
from sqlstore.types import Ids

Names: TypeAlias = "str | Sequence[str] | None"
Numbers: TypeAlias = NDArray[np.int32]

_ID = "id"


@dataclass(frozen=True)
class Request:
    """What was asked for: the seed, and the names of columns."""

    seed: SupportsIndex
    stratify: Names = None
    group: Names = None
    by: Names = None


def split_numbers(source: Source, ids: range | Ids, sizes: Sizes, request: Request) -> Numbers:
    """Return the number of the split of each record.

    Raises
    ------
    SplitError
        The sizes are wrong, or what is asked for excludes each other.
    UnknownNameError
        There is no such metadata column.
    """
    if request.by is None:
        return _dealt(source, ids, exact_sizes(sizes, len(ids)), request)
    if request.stratify is not None or request.group is not None:
        raise SplitError(
            "by= goes with neither group= nor stratify=: all records with one value of by= are in "
            "one split, and how many there are of each stratum is left to chance"
        )
    ratios = exact_ratios(sizes)
    hashes, _ = row_hashes(source, ids, _columns(source.schema, request.by, "by"))
    return _between(random_keys(request.seed, hashes.view(np.int64)), ratios)


def fold_numbers(source: Source, ids: range | Ids, count: int, request: Request) -> Numbers:
    """Return the number of the fold that each record is tested in.

    Raises
    ------
    SplitError
        There are fewer than two folds, or fewer records or groups than folds.
    """
    if count < 2:
        raise SplitError(f"{count} folds: two at least are needed, to train and to test")
    if count <= len(ids):
        found = _dealt(source, ids, largest_remainder(len(ids), [1] * count), request)
        if np.bincount(found, minlength=count).all():
            return found
    raise SplitError(f"{count} folds of too few records or groups: one would have nothing to test")


def _columns(schema: Schema, names: Names, what: str) -> list[Column | None]:
    """Return the columns of these names, None for the record id."""
    listed = [names] if isinstance(names, str) else list(names or ())
    if not listed:
        raise SplitError(f"{what}= names no column")
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"{what}= takes names of metadata columns, not {name!r}")
        if name in schema.fields:
            raise UnknownNameError(
                f"{name!r} is a field; {what}= takes metadata columns, which are "
                f"{', '.join(schema.columns) or '-'}, or {_ID!r}"
            )
        if name != _ID and name not in schema.columns:
            raise schema.unknown([name])
    return [None if name == _ID else schema.columns[name] for name in listed]


def _between(keys: Hashes, ratios: Sequence[Fraction]) -> Numbers:
    """Return the split that each key lies in.

    The second split has the highest keys, the third the lowest, the fourth those below the second,
    and so on from both ends; the first has what is left in the middle. So what the first gives to
    the second or third, or to one that is new, are these keys and no others.
    """
    bottom, top = 0, 1 << 64
    lower: list[tuple[int, int]] = []  # where a split begins, and which
    upper: list[tuple[int, int]] = []
    for split, ratio in enumerate(ratios[1:], 1):
        width = min(int(ratio * (1 << 64)), top - bottom)
        if not width:
            continue
        if split % 2:
            top -= width
            upper.append((top, split))
        else:
            lower.append((bottom, split))
            bottom += width
    middle = [(bottom, 0)] if bottom < top else []
    starts, splits = zip(*lower, *middle, *reversed(upper), strict=True)
    later = np.array(starts[1:], np.uint64)
    return np.array(splits, np.int32)[np.searchsorted(later, keys, side="right")]


def _dealt(source: Source, ids: range | Ids, sizes: Sequence[int], request: Request) -> Numbers:
    """Return splits of just these sizes, or as near to them as groups allow."""
    random_keys(request.seed, np.empty(0, np.int64))  # or it is no seed: nothing is read then
    strata, n_strata = None, 1
    if request.stratify is not None:
        columns = _columns(source.schema, request.stratify, "stratify")
        strata, n_strata = _numbered(row_hashes(source, ids, columns)[0], request.seed)
    units = _units(source, ids, request)
    if not len(ids):
        return np.empty(0, np.int32)
    counts = _count(strata, len(ids), n_strata)
    found = np.empty(len(ids), np.int32)
    taken = np.zeros((n_strata, len(sizes)), np.int64)
    single: NDArray[np.bool_] | slice = slice(None)
    if units is not None:
        members, single = units.members, ~units.members
        of_group, taken = groups.placed(
            units.groups, None if strata is None else strata[members], counts, sizes
        )
        found[members] = of_group[units.groups]
    free = counts - taken.sum(axis=1)
    cells = rounding.allotted(counts, sizes, taken, free)
    dealt = np.repeat(np.tile(np.arange(len(sizes), dtype=np.int32), n_strata), cells.ravel())
    order = _shuffled(
        as_array(ids)[single], None if strata is None else strata[single], n_strata, request
    )
    chosen = np.empty(len(order), np.int32)
    chosen[order] = dealt
    found[single] = chosen
    return found


@dataclass(frozen=True)
class _Units:
    """Records that stay together.

    Attributes
    ----------
    members
        Which records are in a group of several.
    groups
        The group of each of those.
    """

    members: NDArray[np.bool_]
    groups: Numbers


def _units(source: Source, ids: range | Ids, request: Request) -> _Units | None:
    """Return groups: by columns, or the copies of a record in a view that repeats some."""
    if request.group is not None:
        columns = _columns(source.schema, request.group, "group")
        hashes, alone = row_hashes(source, ids, columns)
        hashes[alone] = mix(hashes[alone] ^ mix(as_array(ids)[alone]))
        del alone
    elif not isinstance(ids, range) and _repeats(ids, source.next_record):
        hashes = mix(ids)
    else:
        return None
    numbers, count = _numbered(hashes, request.seed)
    del hashes
    several = np.bincount(numbers, minlength=count) > 1
    members = several[numbers]
    renumbered = np.cumsum(several, dtype=np.int32) - np.int32(1)
    return _Units(members, renumbered[numbers[members]])


def _repeats(ids: Ids, next_record: int) -> bool:
    seen = np.zeros(next_record, bool)
    seen[ids] = True
    return int(np.count_nonzero(seen)) < len(ids)


def _numbered(hashes: Hashes, seed: SupportsIndex) -> tuple[Numbers, int]:
    """Return a number for each value, from 0, in random order, and how many there are."""
    keys = random_keys(seed, hashes.view(np.int64))
    order = np.argsort(keys)
    keys = keys[order]
    ascending = np.zeros(len(keys), np.int32)
    np.cumsum(keys[1:] != keys[:-1], out=ascending[1:])
    numbers = np.empty(len(keys), np.int32)
    numbers[order] = ascending
    return numbers, int(ascending[-1]) + 1 if len(keys) else 0


def _count(strata: Numbers | None, count: int, n_strata: int) -> Ids:
    if strata is None:
        return np.array([count], np.int64)
    return np.bincount(strata, minlength=n_strata)


def _shuffled(ids: Ids, strata: Numbers | None, n_strata: int, request: Request) -> Ids:
    """Return positions by stratum, and within each in random order."""
    keys = random_keys(request.seed, ids)
    if strata is not None:
        bits = (n_strata - 1).bit_length()
        keys >>= np.uint64(bits)
        if bits:
            keys |= strata.astype(np.uint64) << np.uint64(64 - bits)
    return np.argsort(keys, kind="stable")
