"""What two named subsets have in common, and what has become of their members since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sqlstore import algebra, subsets
from sqlstore.errors import RecordNotFoundError
from sqlstore.index.subsets import SubsetRow
from sqlstore.positions import is_among
from sqlstore.source import Source
from sqlstore.text import listed
from sqlstore.types import Ids
from sqlstore.view import View


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What `Store.compare` found; true if the members differ in anything, and ``print`` shows it.

    Attributes
    ----------
    first, second
        The names of the subsets.
    only_first, only_second
        The members that the other one has not, each once, in the order of the one that has them.
        Where they were deleted since they are there all the same, and reading them raises.
    both
        The members of both, each once, in the order of the first.
    repeats
        The ids of those that the two have another number of times, int64, ascending.
    reordered
        Whether what both have comes in another order in the second.
    deleted
        The ids of members of either that were deleted since, int64, ascending.
    first_changed, second_changed
        Whether the members are not any more what they were when the subset was saved, by
        `View.content_fingerprint`: any value, or which columns there are. None if that cannot be
        told, as one was deleted.
    """

    first: str
    second: str
    only_first: View
    only_second: View
    both: View
    repeats: Ids
    reordered: bool
    deleted: Ids
    first_changed: bool | None
    second_changed: bool | None

    def __bool__(self) -> bool:
        members = len(self.only_first) or len(self.only_second) or len(self.repeats)
        return bool(members or self.reordered)

    def __str__(self) -> str:
        title = f"{self.first!r} and {self.second!r}"
        lines = [f"{title}:" if self else f"{title}: the same members"]
        for what, ids in (
            (f"only in {self.first!r}", self.only_first.ids),
            (f"only in {self.second!r}", self.only_second.ids),
            ("in both", self.both.ids),
            ("not as often in one as in the other", self.repeats),
            ("deleted since", self.deleted),
        ):
            if len(ids):
                lines.append(f"  {what}: {listed(ids, 'record')}")
        if self.reordered:
            lines.append("  what is in both comes in another order")
        changed = {self.first: self.first_changed, self.second: self.second_changed}
        lines += [f"  {name!r} {_TOLD[has]}" for name, has in changed.items()]
        return "\n".join(lines)


_TOLD: Final = {
    True: "has changed since it was saved, in values or in what columns there are",
    False: "has not changed since it was saved",
    None: "has deleted members; whether others have changed is not known",
}


def compare(source: Source, first: str, second: str) -> Comparison:
    """Return what two subsets have in common, and what only one of them has.

    Raises
    ------
    SubsetNotFoundError
        There is none of that name.
    CorruptIndexError
        The index has other members than were saved.
    """
    had, first_ids = subsets.look_up(source, first)
    has, second_ids = subsets.look_up(source, second)
    first_changed = _has_changed(source, had, first_ids)
    second_changed = _has_changed(source, has, second_ids)
    repeats, reordered = _arranged(first_ids, second_ids)
    deleted = [ids[is_among(ids, source.deleted)] for ids in (first_ids, second_ids)]
    return Comparison(
        first,
        second,
        View(source, algebra.difference(first_ids, second_ids)),
        View(source, algebra.difference(second_ids, first_ids)),
        View(source, algebra.intersection(first_ids, second_ids)),
        repeats,
        reordered,
        np.unique(np.concatenate(deleted)),
        first_changed,
        second_changed,
    )


def _has_changed(source: Source, row: SubsetRow, ids: Ids) -> bool | None:
    try:
        return subsets.content_fingerprint(source, ids) != row.content
    except RecordNotFoundError:
        return None


def _arranged(first: Ids, second: Ids) -> tuple[Ids, bool]:
    """Return the ids that two have unequally often, and whether the rest comes in another order.

    The rest is each common id as often as both have it, counted from the left.
    """
    ones, one_counts = np.unique(first, return_counts=True)
    others, other_counts = np.unique(second, return_counts=True)
    common, in_first, in_second = np.intersect1d(
        ones, others, assume_unique=True, return_indices=True
    )
    one_counts, other_counts = one_counts[in_first], other_counts[in_second]
    often = np.minimum(one_counts, other_counts)
    shared = [_shared(ids, common, often) for ids in (first, second)]
    return common[one_counts != other_counts], not np.array_equal(shared[0], shared[1])


def _shared(ids: Ids, common: Ids, often: NDArray[np.int64]) -> Ids:
    """Return the first occurrences of common ids, each at most so often."""
    ids = ids[is_among(ids, common)]
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(common, ids[order])
    starts = np.searchsorted(ids[order], common)
    is_kept = np.empty(len(ids), bool)
    is_kept[order] = np.arange(len(ids)) - starts[place] < often[place]
    return ids[is_kept]
