"""A fold of a cross-validation, and splits as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from sqlstore.arrow import int64_array
from sqlstore.contents import Contents
from sqlstore.errors import SplitError
from sqlstore.splits.assignment import Numbers
from sqlstore.types import Ids

V = TypeVar("V", bound=Contents[Any])


@dataclass(frozen=True, eq=False, repr=False)
class Fold(Generic[V]):
    """One of the folds that `View.folds` gives: records to train with, and others to test with.

    The views are made when they are first asked for.
    """

    _view_of: Callable[[Ids], V]
    _ids: Ids
    _numbers: Numbers
    _number: int

    @cached_property
    def train(self) -> V:
        """Return the records of all other folds, in the order of the view."""
        return self._view_of(self._ids[self._numbers != self._number])

    @cached_property
    def test(self) -> V:
        """Return the records of this fold, in the order of the view."""
        return self._view_of(self._ids[self._numbers == self._number])

    def __repr__(self) -> str:
        return f"<sqlstore.Fold: train {len(self.train)}, test {len(self.test)} records>"


def split_names(splits: Mapping[str, Contents[Any]]) -> pa.Table:
    """Return which record is in which split, as a table of ``id`` and ``split``.

    Parameters
    ----------
    splits
        Views by name, as `View.split` gives them. Of a record that a view repeats, one row is made.

    Returns
    -------
    pyarrow.Table
        In the order of the ids.

    Raises
    ------
    SplitError
        A record is in two splits.
    """
    names = list(splits)
    ids = np.concatenate([np.empty(0, np.int64), *(view.ids for view in splits.values())])
    numbers = np.repeat(np.arange(len(names)), [len(view) for view in splits.values()])
    order = np.argsort(ids, kind="stable")
    ids, numbers = ids[order], numbers[order]
    again = ids[1:] == ids[:-1]
    if len(two := np.flatnonzero(again & (numbers[1:] != numbers[:-1]))):
        first, second = (names[number] for number in numbers[two[0] : two[0] + 2])
        raise SplitError(f"in the splits {first!r} and {second!r} at once", record=int(ids[two[0]]))
    once = np.append(True, ~again)[: len(ids)]
    named = pa.array(names, pa.string()).take(int64_array(numbers[once]))
    return pa.table({"id": int64_array(ids[once]), "split": named})
