"""Records in an order, and other choices and orders of them: what needs no more than positions."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, Literal, SupportsIndex, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from sqlstore import algebra
from sqlstore.errors import ChecksumError, CorruptChunkError, DecodeError
from sqlstore.positions import Positions, ids_at, index_of
from sqlstore.randomness import random_order
from sqlstore.types import Ids

S_co = TypeVar("S_co", covariant=True)

_DAMAGE: Final = (ChecksumError, CorruptChunkError, DecodeError)
"""What is wrong with records themselves, and not with what leads to them."""

_ITERATION_STEP = 16  # payloads may be large: few are held at once


class Selection(ABC, Generic[S_co]):
    """Records in an order, as integers that say which they are; what these mean, subclasses know.

    It is immutable: whatever selects or orders returns a new one. Positions run from 0, and may be
    negative as in a list.
    """

    @abstractmethod
    def _record_ids(self) -> range | Ids: ...

    @abstractmethod
    def _with(self, ids: range | Ids) -> S_co: ...

    @abstractmethod
    def _record(self, record: int) -> dict[str, Any]: ...

    @abstractmethod
    def _fetch(self, ids: Sequence[int]) -> list[dict[str, Any]]: ...

    def __len__(self) -> int:
        return len(self._record_ids())

    def _ids_at(self, positions: Positions) -> Ids:
        return ids_at(self._record_ids(), positions)

    def _id_at(self, position: SupportsIndex) -> int:
        index = index_of(position)
        try:
            return int(self._record_ids()[index])
        except (IndexError, OverflowError):
            raise IndexError(f"position {index} in a view of {len(self)} records") from None

    @overload
    def __getitem__(self, key: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice | ArrayLike) -> S_co: ...
    def __getitem__(self, key: SupportsIndex | slice | ArrayLike) -> dict[str, Any] | S_co:
        """Return the record at a position, or the view of several positions."""
        if type(key) is int:  # the usual case; asking for SupportsIndex takes microseconds
            return self._record(self._id_at(key))
        if isinstance(key, slice):
            return self._with(self._record_ids()[key])
        if isinstance(key, (bool, np.bool_, str)):
            raise TypeError(f"a position is an integer, a slice, a list or a mask, not {key!r}")
        # Arrays and tensors have `__index__`, whatever their shape.
        if isinstance(key, SupportsIndex) and not getattr(key, "ndim", 0):
            return self._record(self._id_at(key))
        return self.take(cast("ArrayLike", key))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        ids = self._record_ids()
        for start in range(0, len(ids), _ITERATION_STEP):
            yield from self._fetch([int(i) for i in ids[start : start + _ITERATION_STEP]])

    def fetch(
        self, positions: Positions, *, on_damage: Literal["raise", "skip"] = "raise"
    ) -> list[dict[str, Any]]:
        """Return the records at these positions, in this order, repeats kept.

        Parameters
        ----------
        on_damage
            ``"skip"`` leaves out records of which something that this view selects is damaged;
            with ``"id"`` among that, those that are left say which they are.

        Raises
        ------
        ChecksumError, CorruptChunkError, DecodeError
            Something is damaged, and is not to be skipped.
        """
        if on_damage not in ("raise", "skip"):
            raise ValueError(f'on_damage is "raise" or "skip", not {on_damage!r}')
        ids = self._ids_at(positions).tolist()
        try:
            return self._fetch(ids)
        except _DAMAGE:
            if on_damage == "raise":
                raise
        return [record for one in ids for record in self._undamaged(one)]

    def _undamaged(self, record: int) -> list[dict[str, Any]]:
        """Return a record, or nothing if it is damaged."""
        try:
            return self._fetch([record])
        except _DAMAGE:
            return []

    def __getitems__(self, positions: list[int]) -> list[dict[str, Any]]:
        """Return the same as `fetch`: what a PyTorch DataLoader calls for a batch."""
        return self.fetch(positions)

    def take(self, positions: Positions) -> S_co:
        """Return the records at these positions, in this order; repeats are kept.

        Parameters
        ----------
        positions
            Integers, negative ones counted from the end, a slice, or a boolean mask as long as the
            view.

        Raises
        ------
        IndexError
            A position is not in the view.
        """
        return self._with(np.array(self._ids_at(positions)))  # the caller's own may change

    def limit(self, count: int) -> S_co:
        """Return the first ``count`` records, or all if there are not as many."""
        if operator.index(count) < 0:
            raise ValueError(f"a limit of {count} records")
        return self._with(self._record_ids()[:count])

    def batches(self, size: int) -> Iterator[S_co]:
        """Return views of up to ``size`` consecutive records, the last of what is left."""
        if operator.index(size) < 1:
            raise ValueError(f"batches of {size} records")
        ids = self._record_ids()
        return (self._with(ids[start : start + size]) for start in range(0, len(ids), size))

    def shuffle(self, seed: SupportsIndex) -> S_co:
        """Return the same records in random order.

        Parameters
        ----------
        seed
            From 0 to 2**64 - 1. The order of a view of the same length is the same for the same
            seed, for ever.
        """
        return self._with(self._ids_at(random_order(seed, len(self))))

    def sample(
        self,
        count: SupportsIndex | None = None,
        *,
        fraction: float | None = None,
        seed: SupportsIndex,
    ) -> S_co:
        """Return some of the records, chosen at random without replacement, in random order.

        They are the first of ``shuffle(seed)``, so a larger sample begins with the smaller one of
        the same seed.

        Parameters
        ----------
        count
            How many.
        fraction
            How many, instead of ``count``, as a part of the view from 0 to 1; rounded as `round`
            does.
        seed
            As for `shuffle`.

        Raises
        ------
        ValueError
            There are not as many records.
        """
        total = len(self)
        wanted = _sample_size(count, fraction, total)
        return self._with(self._ids_at(random_order(seed, total, wanted)))

    def shard(self, index: SupportsIndex, count: SupportsIndex, *, contiguous: bool = True) -> S_co:
        """Return one of ``count`` parts that together are the view, with each position in one part.

        Parameters
        ----------
        index
            Which one, from 0 to ``count - 1``.
        count
            How many shards there are; their sizes differ by one at most.
        contiguous
            Whether a shard is a run of the view; else it is every ``count``-th record.

        Raises
        ------
        ValueError
            There is no such shard.
        """
        which, shards = operator.index(index), operator.index(count)
        if shards < 1 or not 0 <= which < shards:
            raise ValueError(f"shard {which} of {shards}; shards are counted from 0")
        ids = algebra.shard(self._record_ids(), which, shards, contiguous=contiguous)
        return self._with(ids)


def _sample_size(count: SupportsIndex | None, fraction: float | None, total: int) -> int:
    if isinstance(count, float):
        raise TypeError(f"sample() takes a number of records, not {count!r}; or fraction={count!r}")
    if count is not None and fraction is None:
        wanted = operator.index(count)
    elif count is None and fraction is not None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"a sample without replacement of the fraction {fraction}")
        wanted = round(fraction * total)
    else:
        raise TypeError("sample() takes either a count or fraction=...")
    if not 0 <= wanted <= total:
        raise ValueError(
            f"a sample of {wanted} from {total} records, without replacement; "
            "`shuffle(seed).limit(count)` gives as many as there are"
        )
    return wanted
