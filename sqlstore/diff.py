"""What differs between two states of one store, from metadata and location rows alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sqlstore import copies
from sqlstore.cache import locations
from sqlstore.positions import as_array, is_among
from sqlstore.schema import Column, Field
from sqlstore.source import Source
from sqlstore.text import listed
from sqlstore.types import Ids
from sqlstore.view import View

_AT_ONCE: Final = 1 << 18  # records that are compared together
_NOW: Final = "now"


@dataclass(frozen=True, slots=True, eq=False)
class Diff:
    """What `Store.diff` found; true if anything differs, and ``print`` shows it.

    Attributes
    ----------
    before, after
        The names of the snapshots; None for the store as it is seen.
    added
        The records that are there after and not before.
    deleted
        The records that were there before and are not after, as they were.
    changed
        For every column and field that differs in some record that both have: the ids of those
        records, int64, ascending. NaN is as NaN and null is as null; 0.0 is as -0.0. Of fields, the
        checksums of what is stored are compared. The names are those after.
    columns_added, columns_dropped
        The columns that only one of both has.
    columns_renamed
        New names by old ones. Such a column is compared in ``changed`` as well.
    """

    before: str
    after: str | None
    added: View
    deleted: View
    changed: Mapping[str, Ids]
    columns_added: tuple[str, ...]
    columns_dropped: tuple[str, ...]
    columns_renamed: Mapping[str, str]

    def __bool__(self) -> bool:
        columns = self.columns_added or self.columns_dropped or self.columns_renamed
        return bool(len(self.added) or len(self.deleted) or self.changed or columns)

    def __str__(self) -> str:
        title = f"{self.before} -> {self.after or _NOW}"
        if not self:
            return f"{title}: no difference"
        lines = [f"{title}:"]
        for what, ids in (("added", self.added.ids), ("deleted", self.deleted.ids)):
            if len(ids):
                lines.append(f"  {what} {listed(ids, 'record')}")
        lines += [
            f"  changed {name!r} of {listed(ids, 'record')}" for name, ids in self.changed.items()
        ]
        lines += [f"  column {name!r} was added" for name in self.columns_added]
        lines += [f"  column {name!r} was dropped" for name in self.columns_dropped]
        lines += [f"  column {old!r} is now {new!r}" for old, new in self.columns_renamed.items()]
        return "\n".join(lines)


def between(source: Source, before: str, after: str | None) -> Diff:
    """Return what differs between two snapshots, or between one and what a source sees.

    Raises
    ------
    SnapshotNotFoundError
        There is none of that name.
    """
    source.check_open()
    old = snapshot_of(source, before)
    new = source if after is None else snapshot_of(source, after)
    had = {column.number: column for column in old.schema.columns.values()}
    has = {column.number: column for column in new.schema.columns.values()}
    old_ids, new_ids = as_array(old.ids()), as_array(new.ids())
    is_common = _is_there(new_ids, old)
    return Diff(
        before,
        None if new.how.snapshot is None else new.how.snapshot.name,
        View(new, new_ids[~is_common]),
        View(old, old_ids[~_is_there(old_ids, new)]),
        _changed(old, new, new_ids[is_common]),
        tuple(column.name for number, column in has.items() if number not in had),
        tuple(column.name for number, column in had.items() if number not in has),
        {
            had[number].name: column.name
            for number, column in has.items()
            if number in had and had[number].name != column.name
        },
    )


def snapshot_of(source: Source, name: str) -> Source:
    """Return a source of the same store that sees a snapshot of it."""
    snapshot = copies.find(source.root, name)
    return Source.open(dataclasses.replace(source.how, mode="r", snapshot=snapshot))


def _is_there(ids: Ids, source: Source) -> NDArray[np.bool_]:
    """Return for each id, which are of some record, whether a source sees that record."""
    return (ids < source.next_record) & ~is_among(ids, source.deleted)


def _changed(old: Source, new: Source, ids: Ids) -> dict[str, Ids]:
    """Return which of the records that both see differ, by column or field."""
    found: dict[str, Ids] = {}
    fields = {field.number: field for field in old.schema.fields.values()}
    columns = {column.number: column for column in old.schema.columns.values()}
    for field in new.schema.fields.values():
        if field.number in fields:
            marks = [_values_differ(old, new, some, field) for some in _pieces(ids)]
            _note(found, field.name, ids, marks)
    for column in new.schema.columns.values():
        if column.number in columns:
            both = columns[column.number], column
            marks = [_column_differs(old, new, some, *both) for some in _pieces(ids)]
            _note(found, column.name, ids, marks)
    return found


def _note(found: dict[str, Ids], name: str, ids: Ids, marks: list[NDArray[np.bool_]]) -> None:
    chosen = ids[np.concatenate(marks)] if marks else ids
    if len(chosen):
        found[name] = chosen


def _pieces(ids: Ids) -> Iterator[range | Ids]:
    """Return ascending ids some at a time: as a range where they are one, which is only sliced."""
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        first, last = int(some[0]), int(some[-1])
        yield range(first, last + 1) if last - first + 1 == len(some) else some


def _values_differ(old: Source, new: Source, ids: range | Ids, field: Field) -> NDArray[np.bool_]:
    """Return for each record whether what is stored of a field differs, wherever it lies."""
    marks = slice(locations.COMPRESSION, locations.CRC + 1)
    had, has = old.rows(ids, field)[:, marks], new.rows(ids, field)[:, marks]
    differs: NDArray[np.bool_] = (had != has).any(axis=1)
    return differs


def _column_differs(
    old: Source, new: Source, ids: range | Ids, before: Column, after: Column
) -> NDArray[np.bool_]:
    """Return for each record whether it has another value of a column."""
    (had,), (has,) = old.metadata(ids, [before]), new.metadata(ids, [after])
    one, other = pa.chunked_array(had), pa.chunked_array(has)
    differs = pc.fill_null(pc.not_equal(one, other), fill_value=False)
    if pa.types.is_floating(one.type):
        both_nan = pc.and_(pc.is_nan(one), pc.is_nan(other))
        differs = pc.and_not(differs, pc.fill_null(both_nan, fill_value=False))
    differs = pc.or_(differs, pc.not_equal(pc.is_null(one), pc.is_null(other)))
    found: NDArray[np.bool_] = differs.to_numpy()
    return found
