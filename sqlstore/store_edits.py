"""What a store can have done to its columns, its SQL indices and its named subsets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pyarrow as pa

from sqlstore import edits, subsets
from sqlstore.log.segment import CommitKind
from sqlstore.schema import Column, Schema, with_index, with_renamed, without_column
from sqlstore.subsets import Subset
from sqlstore.view import View


class StoreEdits(View):
    """The methods of `Store` that change what there is of every record, or name some of them."""

    def add_column(
        self, name: str, declared: str | pa.DataType | Column, values: Any = None
    ) -> None:
        """Add a metadata column.

        Parameters
        ----------
        name
            Of the column.
        declared
            Its type, or a `Column`, as in `create`; the value may be missing.
        values
            As in `update`: one value for all records, or an array with a value for each. By default
            all are missing.

        Raises
        ------
        SchemaError
            The name or type is not valid, or a value does not fit.
        """
        edits.add_column(self._source, name, declared, values)

    def drop_column(self, name: str) -> None:
        """Drop a metadata column and its values.

        Raises
        ------
        UnknownNameError
            There is no such column.
        SchemaError
            It is the key.
        """
        self._change(CommitKind.DROP_COLUMN, partial(without_column, name=name))

    def rename_column(self, name: str, new_name: str) -> None:
        """Give a metadata column another name."""
        change = partial(with_renamed, name=name, new_name=new_name)
        self._change(CommitKind.RENAME_COLUMN, change)

    def create_index(self, column: str) -> None:
        """Make an SQL index on a metadata column, so that filters by it need not look at all."""
        change = partial(with_index, name=column, is_indexed=True)
        self._change(CommitKind.CREATE_INDEX, change)

    def drop_index(self, column: str) -> None:
        """Drop the SQL index of a metadata column."""
        change = partial(with_index, name=column, is_indexed=False)
        self._change(CommitKind.DROP_INDEX, change)

    def _change(self, kind: CommitKind, change: Callable[[Schema], Schema]) -> None:
        edits.change_schema(self._source, kind, change)

    def subset(self, name: str, *, missing: Literal["raise", "skip"] = "raise") -> View:
        """Return the records of a named subset, in its order.

        Parameters
        ----------
        name
            As it was saved by `View.save`.
        missing
            What to do about members that were deleted since: ``"raise"`` keeps them in the view,
            and reading them raises; ``"skip"`` leaves them out.

        Raises
        ------
        SubsetNotFoundError
            There is none of that name.
        """
        if missing not in ("raise", "skip"):
            raise ValueError(f'missing is "raise" or "skip", not {missing!r}')
        ids = subsets.members(self._source, name)
        if missing == "skip":
            ids = subsets.without_deleted(self._source, ids)
        return View(self._source, ids)

    def subsets(self) -> list[Subset]:
        """Return what is known of every named subset, in the order in which they were saved."""
        return subsets.listed(self._source)

    def drop_subset(self, name: str) -> None:
        """Forget a named subset; its records stay.

        Raises
        ------
        SubsetNotFoundError
            There is none of that name.
        """
        subsets.drop(self._source, name)
