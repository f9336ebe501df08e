"""The one selection type: ordered record ids, and which fields and columns to read of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex

from sqlstore import algebra, edits, pickling, subsets
from sqlstore.errors import CorruptStoreError, DifferentStoresError
from sqlstore.positions import as_array
from sqlstore.queried import Queried
from sqlstore.source import Source
from sqlstore.splits.assignment import Names, Request, fold_numbers, split_numbers
from sqlstore.splits.folds import Fold
from sqlstore.splits.sizes import Sizes
from sqlstore.types import Ids


class View(Queried["View"]):
    """Some records of a store, in an order, with what to read of each.

    A view is immutable: every method that selects or orders returns a new one. It holds record ids,
    so records that are appended later do not appear in it. Positions in it run from 0, and may be
    negative as in a list.

    Views of one store are combined by operators. ``a | b``, ``a & b``, ``a - b`` and ``a ^ b`` hold
    each record once, in the order of ``a``; what is new in ``b`` follows in the order of ``b``.
    ``a + b`` holds all records of both, repeats kept. What is read of each record is what ``a``
    selects. If the views see different commits, the result sees the later one. Views of several
    stores are put together by `sqlstore.concat`.

    Made by `Store` and by the methods of views.
    """

    __array_ufunc__ = None  # NumPy would take a view for a list of all its records, and read them

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what another process needs to read the same records, without SQLite."""
        return pickling.view_again, (
            View,
            pickling.source_state(self._source),
            pickling.ids_state(self._source, self._record_ids()),
            self._names,
        )

    def __repr__(self) -> str:
        names = ", ".join(self._selected() if self._names is None else self._names)
        count = f"{len(self)} record{'' if len(self) == 1 else 's'}"
        return f"<sqlstore.View of {count} of {self._source.root.name}: {names}>"

    def _with(self, ids: range | Ids) -> View:
        return View(self._source, ids, self._names)

    def select(self, *names: str) -> View:
        """Return the same records with only these fields and metadata columns.

        ``"id"`` makes the record id part of each record.

        Raises
        ------
        UnknownNameError
            There is no such field or column, or this view does not select it.
        """
        if not all(isinstance(name, str) for name in names):
            raise TypeError('give the names one by one: select("image", "label")')
        self._check_selected(names)
        selected = View(self._source, self._record_ids(), names)
        selected._condition = self._condition
        return selected

    def update(self, **values: Any) -> None:
        """Give metadata columns of these records other values.

        It is one commit, or several if the values are more than 512 MiB.

        Parameters
        ----------
        **values
            By column name: one value for all records; an array with a value for each of them, in
            the order of the view (NumPy, Arrow, pandas or polars); or a SQLAlchemy expression over
            `Store.c`, which SQLite computes for each record.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        UnknownNameError
            There is no such column.
        SchemaError
            A value does not fit its column, or the view has a record twice. Nothing is changed.
        DuplicateKeyError
            Another record has one of the new keys. Nothing is changed.
        RecordNotFoundError
            A record was deleted. Nothing is changed.
        """
        edits.update(self._source, self.ids, values)

    def replace(self, field: str, values: Iterable[Any]) -> None:
        """Give a field of these records other values.

        What they had stays in the chunk files.

        Parameters
        ----------
        field
            The name of the field.
        values
            A value for each record, in the order of the view; None for no value. More than 64 MiB
            of them become several commits.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        EncodeError
            A value does not fit the field. Nothing is changed.
        SchemaError
            There are more or fewer values than records, or the view has a record twice. Nothing is
            changed.
        RecordNotFoundError
            A record was deleted.
        """
        edits.replace(self._source, self.ids, field, values)

    def delete(self) -> None:
        """Delete these records, in one commit.

        Their ids are never used again. Their bytes stay in the chunk files.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        RecordNotFoundError
            A record was deleted before. Nothing is changed.
        """
        edits.delete(self._source, self.ids)

    def save(self, name: str, *, note: str | None = None) -> None:
        """Save these records as a named subset, which later edits and appends do not change.

        Where they were chosen by conditions alone, those are kept with it.

        Parameters
        ----------
        name
            Printable text; no other subset has it.
        note
            What to say of it.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        SubsetExistsError
            There is a subset of that name.
        RecordNotFoundError
            A record was deleted.
        """
        subsets.save(self._source, self.ids, name, note, self._condition)

    def content_fingerprint(self) -> str:
        """Return the SHA-256, in hexadecimal digits, of what these records are, in their order.

        It covers the metadata, and the checksums of what is stored of every field: so it changes
        with every value, with the compression, and with the columns that there are.

        Raises
        ------
        RecordNotFoundError
            A record was deleted.
        """
        return subsets.content_fingerprint(self._source, self.ids)

    def split(
        self,
        sizes: Sizes,
        *,
        seed: SupportsIndex = 0,
        stratify: Names = None,
        group: Names = None,
        by: Names = None,
    ) -> dict[str, View]:
        """Return views that share out the records; in each, the order is that of this view.

        Every record is in one of them. Which one depends on the seed and on the records, not on
        their order; all copies of a record are in the same. `docs/splits.md` has the rules.

        Parameters
        ----------
        sizes
            Names with ratios, which sum to 1, such as ``{"train": 0.9, "val": 0.1}``; or, if all
            are integers, with numbers of records. One may be None, for the rest.
        seed
            Another gives other splits.
        stratify
            Metadata columns. Of the records with the same values in them, each split has the same
            share, to within one record; null is a value.
        group
            Metadata columns. Records with the same values in them are never in two splits; sizes,
            and the shares of `stratify`, are then as near as that allows. A record with a null in
            one of them is in no group.
        by
            Metadata columns, or ``"id"``. A hash of seed and values alone decides on the split,
            so that the split of a record stays the same when others are appended. Sizes are then
            left to chance. Goes with neither `stratify` nor `group`; the same values are in the
            same split anyway.

        Raises
        ------
        SplitError
            The sizes are no ratios that sum to 1, and no numbers that sum to that of the records;
            or what is asked for excludes each other.
        UnknownNameError
            There is no such metadata column.
        """
        ids = self._record_ids()
        numbers = split_numbers(self._source, ids, sizes, Request(seed, stratify, group, by))
        array = as_array(ids)
        return {name: self._with(array[numbers == number]) for number, name in enumerate(sizes)}

    def folds(
        self,
        count: SupportsIndex,
        *,
        seed: SupportsIndex = 0,
        stratify: Names = None,
        group: Names = None,
    ) -> list[Fold[View]]:
        """Return folds for cross-validation: each record is in the test part of one of them.

        Parameters
        ----------
        count
            How many folds; two at least.
        seed, stratify, group
            As in `split`.

        Returns
        -------
        list of Fold
            Each with the views ``train`` and ``test``.

        Raises
        ------
        SplitError
            There are fewer records, or groups, than folds.
        """
        ids, count = self._record_ids(), operator.index(count)
        numbers = fold_numbers(self._source, ids, count, Request(seed, stratify, group))
        array = as_array(ids)
        return [Fold(self._with, array, numbers, number) for number in range(count)]

    def _combined(
        self, other: View, combine: Callable[[range | Ids, range | Ids], range | Ids]
    ) -> View:
        left, right = self._record_ids(), other._record_ids()  # a store now sees its own commits
        source = latest(self._source, other._source)
        return View(source, combine(left, right), self._names)

    def __or__(self, other: View) -> View:
        if not isinstance(other, View):
            return NotImplemented
        return self._combined(other, algebra.union)

    def __and__(self, other: View) -> View:
        if not isinstance(other, View):
            return NotImplemented
        return self._combined(other, algebra.intersection)

    def __sub__(self, other: View) -> View:
        if not isinstance(other, View):
            return NotImplemented
        return self._combined(other, algebra.difference)

    def __xor__(self, other: View) -> View:
        if not isinstance(other, View):
            return NotImplemented
        return self._combined(other, algebra.symmetric_difference)

    def __add__(self, other: View) -> View:
        if not isinstance(other, View):
            return NotImplemented
        return self._combined(other, algebra.joined)


def is_one_store(one: Source, other: Source) -> bool:
    """Return whether two sources read from the same folder, with the same store in it."""
    if one.store != other.store:
        return False
    return one.root == other.root or one.root.resolve() == other.root.resolve()


def latest(one: Source, other: Source) -> Source:
    """Return the source that sees the records of both: that of the later commit.

    Raises
    ------
    DifferentStoresError
        They read from different stores.
    CorruptStoreError
        They read from one store with different histories.
    """
    if one is other:
        return one
    if not is_one_store(one, other):
        raise DifferentStoresError(
            f"operators combine views of one store, and these are of {one.root} and {other.root}; "
            "sqlstore.concat([...]) puts views of several stores together"
        )
    old, new = (one, other) if one.seen.commit < other.seen.commit else (other, one)
    if not new.has_seen(old.seen):
        raise CorruptStoreError(
            f"{one.root} had another history when one of these views was made; open it anew"
        )
    return new
