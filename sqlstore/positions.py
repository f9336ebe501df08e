"""Sequences of record ids, and positions in them as people give them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Final, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sqlstore.errors import RecordNotFoundError
from sqlstore.small import largest
from sqlstore.types import Ids

Positions: TypeAlias = "ArrayLike | slice"


NO_IDS: Final[Ids] = np.empty(0, np.int64)
_INT64: Final = np.dtype(np.int64)


def as_array(ids: range | Ids) -> Ids:
    """Return ids as an int64 array; a range of millions takes milliseconds."""
    if isinstance(ids, range):
        return np.arange(ids.start, ids.stop, ids.step, dtype=np.int64)
    return ids


def index_of(position: SupportsIndex) -> int:
    """Return a single position as an integer; what is none, such as a tuple or True, is refused."""
    if not isinstance(position, (bool, np.bool_)) and hasattr(position, "__index__"):
        return operator.index(position)
    raise TypeError(f"a position is an integer, not {position!r}")


def is_among(ids: Ids, ascending: Ids) -> NDArray[np.bool_]:
    """Return for each id whether it is one of others, which are ascending."""
    if not len(ascending):
        return np.zeros(len(ids), bool)
    place = np.searchsorted(ascending, ids)
    place[place == len(ascending)] = 0
    found: NDArray[np.bool_] = ascending[place] == ids
    return found


def is_ascending(ids: Ids) -> bool:
    """Return whether no id is lower than the one before it."""
    return bool(np.all(ids[1:] >= ids[:-1]))


def refuse_deleted(ids: range | Ids, deleted: Ids) -> None:
    """Raise if one of these records was deleted.

    Parameters
    ----------
    deleted
        The ids of all deleted records, ascending.

    Raises
    ------
    RecordNotFoundError
        One was.
    """
    if not len(deleted) or not len(ids):
        return
    if isinstance(ids, range):
        low, high = np.searchsorted(deleted, [min(ids[0], ids[-1]), max(ids[0], ids[-1]) + 1])
        inside = deleted[low:high]
        gone = inside[(inside - ids.start) % ids.step == 0]
    elif len(deleted) < len(ids) and is_ascending(ids):
        gone = deleted[is_among(deleted, ids)]  # few are looked for among many
    else:
        gone = ids[is_among(ids, deleted)]
    if len(gone):
        raise RecordNotFoundError("the record was deleted", record=int(gone[0]))


def has_repeats(ids: range | Ids) -> bool:
    """Return whether an id is there twice."""
    return not isinstance(ids, range) and len(np.unique(ids)) < len(ids)


def ids_at(ids: range | Ids, positions: Positions) -> Ids:
    """Return the ids at some positions, in the order given; repeats are kept.

    Parameters
    ----------
    ids
        The sequence.
    positions
        Integers, negative ones counted from the end, a slice, or a boolean mask as long as the
        sequence.

    Returns
    -------
    numpy.ndarray
        Perhaps the array of positions itself, where each is its own id.

    Raises
    ------
    IndexError
        A position is not in the sequence, or these are no positions.
    """
    try:
        index = np.asarray(positions)  # of a slice: an object, see `_integers`
    except ValueError as error:
        raise IndexError(f"not positions: {positions!r}") from error
    count = len(ids)
    if (index.dtype is not _INT64 and index.dtype != _INT64) or index.ndim != 1:
        index = _integers(index, positions, count)
    # Seen as unsigned, a negative position is a huge one: in the usual case one look is enough.
    if index.size and largest(index.view(np.uint64)) >= count:
        index = _from_the_end(index, count)
    if not isinstance(ids, range):
        chosen: Ids = ids[index]
        return chosen
    return index if (ids.start, ids.step) == (0, 1) else ids.start + index * ids.step


def _integers(index: NDArray[np.generic], given: Positions, count: int) -> Ids:
    if isinstance(given, slice):
        return np.arange(*given.indices(count), dtype=np.int64)
    if index.dtype == np.float64 and isinstance(given, (list, tuple)):
        index = _of_any_kinds(given, index)
    if isinstance(given, str) or index.dtype == object:
        raise IndexError(f"not positions: {given!r}; choose records by `where`")
    if index.ndim != 1 or (index.size and index.dtype.kind not in "iub"):
        raise IndexError(
            f"expected a list of integers or a mask, got {index.dtype} of shape {index.shape}"
        )
    if index.dtype == np.bool_:
        if len(index) != count:
            raise IndexError(f"a mask of length {len(index)} for {count} records")
        return np.flatnonzero(index)
    if index.dtype.kind == "u" and index.size and int(index.max()) >= count:
        raise IndexError(f"position {index.max()} in a view of {count} records")
    return index.astype(np.int64)


def _of_any_kinds(given: Sequence[Any], index: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return integers of several kinds, of which NumPy makes floats, as integers."""
    try:
        return np.array([operator.index(one) for one in given], np.int64)
    except (TypeError, OverflowError):
        return index


def _from_the_end(index: Ids, count: int) -> Ids:
    outside = (index < -count) | (index >= count)
    if outside.any():
        raise IndexError(f"position {index[outside][0]} in a view of {count} records")
    return np.where(index < 0, index + count, index)
