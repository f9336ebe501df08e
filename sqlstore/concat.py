"""Views put together: of one store a view, of several a selection of its own."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, SupportsIndex, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import algebra, pickling
from sqlstore.arrow import int64_array, reordered
from sqlstore.errors import SchemaError
from sqlstore.positions import Positions, as_array
from sqlstore.reading.masks import Items, Mask
from sqlstore.selection import Selection
from sqlstore.source import Source
from sqlstore.types import Ids
from sqlstore.view import View, is_one_store, latest


class ConcatView(Selection["ConcatView"]):
    """Some records of several stores, in an order, with what to read of each.

    Records are chosen by position or at random, and read, as of a `View`. What is about one store
    is done before views are put together: filters and orders by SQL, operators, edits.

    Made by `concat`.
    """

    # The records of all stores are numbered through: those of the first store by their ids, those
    # of the next by their ids and how many ids the first one has, and so on. So there is one range
    # or array of numbers, in any order, whatever it is made of.

    def __init__(self, wholes: Sequence[View], numbers: range | Ids) -> None:
        self._wholes = tuple(wholes)
        self._starts = _starts(self._wholes)
        self._numbers = numbers

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what another process needs to read the same records, without SQLite."""
        sources = [whole._source for whole in self._wholes]
        with_cache = next((one for one in sources if one.cache is not None), sources[0])
        chosen = pickling.ids_state(with_cache, self._numbers)
        return pickling.concat_again, (ConcatView, self._wholes, chosen)

    def __repr__(self) -> str:
        stores = ", ".join(whole._source.root.name for whole in self._wholes)
        names = ", ".join(self._wholes[0]._selected())
        count = f"{len(self)} record{'' if len(self) == 1 else 's'}"
        return f"<sqlstore.ConcatView of {count} of {stores}: {names}>"

    def _record_ids(self) -> range | Ids:
        return self._numbers

    def _with(self, ids: range | Ids) -> ConcatView:
        return ConcatView(self._wholes, ids)

    def _place(self, number: int) -> tuple[View, int]:
        """Return the view of the store that has the record of this number, and its id there."""
        store = bisect_right(self._starts, number) - 1
        return self._wholes[store], number - self._starts[store]

    def _at(self, position: SupportsIndex) -> tuple[View, int]:
        return self._place(self._id_at(position))

    def _record(self, record: int) -> dict[str, Any]:
        view, position = self._place(record)
        return view[position]

    def _fetch(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        parts, order = self._split(np.asarray(ids, np.int64))
        records = [record for part in parts for record in part.fetch(slice(None))]
        return records if order is None else [records[place] for place in order.tolist()]

    def _split(self, numbers: range | Ids) -> tuple[list[View], Ids | None]:
        """Return views of the stores that have the records of these numbers.

        Returns
        -------
        parts
            At least one.
        order
            Where each record is, if one part is put behind the other; None if they then lie in
            order.
        """
        origins, order = self._origins_of(numbers), None
        if len(origins) and not np.all(origins[1:] >= origins[:-1]):
            by_store = np.argsort(origins, kind="stable")
            numbers, origins = as_array(numbers)[by_store], origins[by_store]
            order = np.empty_like(by_store)
            order[by_store] = np.arange(len(by_store))
        ends = np.searchsorted(origins, np.arange(len(self._wholes)), "right").tolist()
        parts = [
            whole._with(algebra.shifted(numbers[begin:end], -start))
            for whole, start, (begin, end) in zip(
                self._wholes, self._starts, pairwise([0, *ends]), strict=True
            )
        ]
        return [part for part in parts if len(part)] or parts[:1], order

    def _origins_of(self, numbers: range | Ids) -> Ids:
        origins: Ids = np.searchsorted(self._starts, as_array(numbers), "right") - 1
        return origins

    @property
    def parts(self) -> tuple[View, ...]:
        """Return the records of each store, in the order that they have here."""
        origins, numbers = self.origins, as_array(self._numbers)
        return tuple(
            whole._with(numbers[origins == store] - start)
            for store, (whole, start) in enumerate(zip(self._wholes, self._starts, strict=True))
        )

    @property
    def origins(self) -> Ids:
        """Return for each record which of `parts` it is in."""
        return self._origins_of(self._numbers)

    @property
    def ids(self) -> Ids:
        """Return the record ids, each as in its own store, in the order of the view."""
        ids: Ids = as_array(self._numbers) - np.array(self._starts)[self.origins]
        ids.flags.writeable = False
        return ids

    def select(self, *names: str) -> ConcatView:
        """Return the same records with only these fields and metadata columns.

        Raises
        ------
        UnknownNameError
            There is no such field or column, or this view does not select it.
        """
        return ConcatView([whole.select(*names) for whole in self._wholes], self._numbers)

    def read(self, position: SupportsIndex, mask: Mask) -> dict[str, Any]:
        """Return parts of one record, as `View.read` does."""
        view, there = self._at(position)
        return view.read(there, mask)

    def available(self, position: SupportsIndex) -> dict[str, bool | range]:
        """Return for each field whether the record has a value, as `View.available` does."""
        view, there = self._at(position)
        return view.available(there)

    def raw(self, position: SupportsIndex, field: str) -> bytes | None:
        """Return a value as its encoding made it, as `View.raw` does."""
        view, there = self._at(position)
        return view.raw(there, field)

    def raw_items(
        self, position: SupportsIndex, field: str, items: Items = True
    ) -> list[bytes] | None:
        """Return items of a sequence as their encoding made them, as `View.raw_items` does."""
        view, there = self._at(position)
        return view.raw_items(there, field, items)

    def open(self, position: SupportsIndex, field: str) -> io.BufferedReader:
        """Return a value as a file to read from, as `View.open` does."""
        view, there = self._at(position)
        return view.open(there, field)

    def _numbers_at(self, positions: Positions | None) -> range | Ids:
        return self._numbers if positions is None else self._ids_at(positions)

    def blobs(
        self, field: str, positions: Positions | None = None, *, copy: bool = True
    ) -> pa.Array:
        """Return the values of a field, not decoded, as one Arrow array, as `View.blobs` does."""
        parts, order = self._split(self._numbers_at(positions))
        together = pa.concat_arrays([part.blobs(field, copy=copy) for part in parts])
        return together if order is None else reordered(together, order)

    def stack(self, field: str, positions: Positions | None = None) -> NDArray[Any]:
        """Return the arrays or images of a field as one array, as `View.stack` does.

        Raises
        ------
        SchemaError
            They differ in shape or dtype, one is missing, or they are no arrays.
        """
        parts, order = self._split(self._numbers_at(positions))
        stacks = [part.stack(field) for part in parts]
        kinds = {(stack.dtype, stack.shape[1:]) for stack in stacks}
        if len(kinds) > 1:
            found = " and ".join(sorted(f"{dtype} of shape {shape}" for dtype, shape in kinds))
            raise SchemaError(f"the stores hold arrays of {found}: no one array", field=field)
        together = stacks[0] if len(stacks) == 1 else np.concatenate(stacks)
        return together if order is None else together[order]

    @property
    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema of `to_arrow`.

        Raises
        ------
        SchemaError
            A metadata column has different types in the stores.
        """
        first, *others = (whole.arrow_schema for whole in self._wholes)
        for other in others:
            for column in first:
                if other.field(column.name).type != column.type:
                    raise SchemaError(
                        f"it is {column.type} in one store and {other.field(column.name).type} in "
                        "another; cast the tables of `parts`, or select other columns",
                        column=column.name,
                    )
        return first

    def to_arrow(self) -> pa.Table:
        """Return the record ids and the metadata as an Arrow table of the declared types.

        Ids are those of the record's own store, so they can be there twice; `origins` says which
        store that is.

        Raises
        ------
        SchemaError
            A metadata column has different types in the stores.
        """
        names = self.arrow_schema.names
        parts, order = self._split(self._numbers)
        table = pa.concat_tables([part.to_arrow().select(names) for part in parts])
        return table if order is None else table.take(int64_array(order))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the metadata as an Arrow stream, so that ``pyarrow.table(view)`` works."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)


def concat(views: Iterable[View | ConcatView]) -> View | ConcatView:
    """Return all records of some views, one view after the other, repeats kept.

    Parameters
    ----------
    views
        Views or stores, which may be of several stores. All must select the same names.

    Returns
    -------
    View or ConcatView
        A view if all are of one store; else a selection that is read like a view.

    Raises
    ------
    SchemaError
        They do not select the same fields and metadata columns.
    CorruptStoreError
        They are of one store with different histories.
    """
    given = _checked(views)
    chosen = [view._record_ids() for view in given]  # first, as a store then sees its own commits
    sources: list[Source] = []
    for source in (whole._source for view in given for whole in _wholes(view)):
        store = _find(sources, source)
        if store == len(sources):
            sources.append(source)
        else:
            sources[store] = latest(sources[store], source)
    first = _wholes(given[0])[0]
    wholes = [View(source, range(source.next_record), first._selected()) for source in sources]
    starts = _starts(wholes)
    numbers = algebra.joined(
        *(
            _renumbered(view, ids, [starts[_find(sources, w._source)] for w in _wholes(view)])
            for view, ids in zip(given, chosen, strict=True)
        )
    )
    if len(sources) == 1:
        return View(sources[0], numbers, first._names)
    return ConcatView(wholes, numbers)


def _wholes(view: View | ConcatView) -> Sequence[View]:
    """Return a view of each store, for what it reads from and what it selects."""
    return view._wholes if isinstance(view, ConcatView) else [view]


def _checked(views: Iterable[View | ConcatView]) -> list[View | ConcatView]:
    if isinstance(cast("object", views), Selection):  # it can be iterated: over records
        raise TypeError("concat takes a list of views: concat([a, b])")
    given = list(views)
    if not given:
        raise ValueError("concat of no views")
    for view in given:
        if not isinstance(view, (View, ConcatView)):
            raise TypeError(f"concat takes views and stores, not {view!r}")
    first, *others = (whole for view in given for whole in _wholes(view))
    for other in others:
        _check_alike(first, other)
    return given


def _check_alike(first: View, other: View) -> None:
    """Raise if two views do not select names that mean the same kind of thing."""
    ours, theirs = _kinds(first), _kinds(other)
    if others := sorted(ours.keys() ^ theirs.keys()):
        raise SchemaError(
            f"these views do not all select {', '.join(others)}; `select` the same names of each"
        )
    for name, kind in ours.items():
        if theirs[name] != kind:
            raise SchemaError(f"{name!r} is a {kind} in one store and a {theirs[name]} in another")


def _kinds(view: View) -> dict[str, str]:
    fields = {f.name: "sequence" if f.is_sequence else "field" for f in view._fields}
    return fields | {column.name: "metadata column" for column in view._columns}


def _find(sources: Sequence[Source], source: Source) -> int:
    """Return which of some sources reads from the same store; their number if none does."""
    found = (i for i, one in enumerate(sources) if is_one_store(one, source))
    return next(found, len(sources))


def _starts(wholes: Sequence[View]) -> list[int]:
    """Return the number that the first record of each store has."""
    return [0, *accumulate(len(whole) for whole in wholes[:-1])]


def _renumbered(view: View | ConcatView, ids: range | Ids, starts: Sequence[int]) -> range | Ids:
    """Return the numbers of a view's records where its stores start at other numbers."""
    if isinstance(view, View):
        return algebra.shifted(ids, starts[0])
    by = np.array(starts) - np.array(view._starts)
    if np.all(by == by[0]):
        return algebra.shifted(ids, int(by[0]))
    renumbered: Ids = as_array(ids) + by[view.origins]
    return renumbered
