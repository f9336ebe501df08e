"""Commits that update or delete records: their tables, and what they add up to.

The table of an edit has a row per record, with its id in ``record``. An update has the new values
of metadata columns in ``c<number>``; a replacement says in ``f<number>`` where the new values of
fields lie, as the table of an append does; a delete has the ids alone. A compaction is as a
replacement by the same values in another place.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sqlstore.arrow import int64_array
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.log.table import (
    RECORD,
    Values,
    misfit,
    parse_ids,
    parse_values,
    stream,
    values_array,
)
from sqlstore.positions import NO_IDS, is_among
from sqlstore.types import Ids

EDITS: Final = frozenset(
    {CommitKind.UPDATE, CommitKind.REPLACE, CommitKind.DELETE, CommitKind.COMPACT}
)
_NAME: Final = re.compile(r"([cf])([0-9]+)")


@dataclass(frozen=True, slots=True)
class Edit:
    """What one commit does to records that were there before it.

    Attributes
    ----------
    kind
        An update, a replacement, a delete or a compaction.
    ids
        The records, ascending, each once.
    columns
        Their new metadata by column number, in the order of the ids.
    values
        Where their new values lie, by field number, in the order of the ids.
    number, chunk
        Of the commit, and the integer of the chunk that it lies in; 0 before it is committed.
    """

    kind: CommitKind
    ids: Ids
    columns: Mapping[int, pa.Array] = dataclasses.field(default_factory=dict)
    values: Mapping[int, Values] = dataclasses.field(default_factory=dict)
    number: int = 0
    chunk: int = 0


def build(edit: Edit) -> pa.Buffer:
    """Return the table of an edit as an Arrow IPC stream."""
    arrays = {f"c{number}": array for number, array in edit.columns.items()}
    arrays |= {f"f{number}": values_array(values) for number, values in edit.values.items()}
    fields = [pa.field(name, array.type) for name, array in arrays.items()]
    schema = pa.schema([RECORD, *fields])
    return stream(pa.record_batch([int64_array(edit.ids), *arrays.values()], schema=schema))


def parse(batch: pa.RecordBatch, trailer: Trailer, name: str) -> Edit:
    """Return what the table of an edit says.

    Parameters
    ----------
    name
        The chunk, for the message of an error.

    Raises
    ------
    CorruptChunkError
        It is not such a table, or names records that did not exist.
    """
    names = [_NAME.fullmatch(field.name) for field in list(batch.schema)[1:]]
    ids = parse_ids(batch, trailer)
    if ids is None or not all(names) or bool(np.any(ids[1:] <= ids[:-1])):
        raise misfit(trailer, name, "is no edit of records that there were")
    numbers = [(match[1], int(match[2])) for match in names if match is not None]
    columns = {n: batch.column(f"c{n}") for kind, n in numbers if kind == "c"}
    values = {n: parse_values(batch, n) for kind, n in numbers if kind == "f"}
    place = trailer.number, trailer.chunk
    return Edit(CommitKind(trailer.kind), ids, columns, values, *place)


class Edited:
    """What has become of records by edits, given in the order of their commits.

    Attributes
    ----------
    deleted
        The ids of the records that were deleted, ascending.
    """

    def __init__(self, edits: Iterable[Edit] = ()) -> None:
        self.deleted: Ids = NO_IDS
        self._values: dict[int, list[tuple[Ids, pa.Array]]] = {}
        self._replaced: dict[int, list[Edit]] = {}
        self._last_replaced: dict[int, tuple[Ids, Ids, Ids]] = {}
        deleted = [self.deleted]
        for edit in edits:
            for number in edit.values:
                self._replaced.setdefault(number, []).append(edit)
            if edit.kind == CommitKind.DELETE:
                deleted.append(edit.ids)
            for number, array in edit.columns.items():
                self._values.setdefault(number, []).append((edit.ids, array))
        self.deleted = np.unique(np.concatenate(deleted))

    @property
    def updated(self) -> Ids:
        """Return the ids of the records that were updated, ascending, each once."""
        given = [ids for pieces in self._values.values() for ids, _ in pieces]
        return np.unique(np.concatenate([NO_IDS, *given]))

    def replacements(self, field: int, first: int, end: int) -> list[Edit]:
        """Return the edits that records have their present values of a field from, in order.

        Parameters
        ----------
        field
            Its number.
        first, end
            Of the records: from one id to before another.
        """
        ids, which, _ = self._replaced_last(field)
        low, high = np.searchsorted(ids, [first, end])
        return [self._replaced[field][i] for i in np.unique(which[low:high])]

    def still_of(self, ids: Ids, field: int, number: int) -> NDArray[np.bool_]:
        """Return for records whether they are there, with the value that a commit gave them.

        Parameters
        ----------
        ids
            The records that the commit appended or edited.
        field
            Number of the field.
        number
            Of the commit.
        """
        found = ~is_among(ids, self.deleted)
        replaced, _, numbers = self._replaced_last(field)
        rows = np.flatnonzero(is_among(ids, replaced))
        found[rows] &= numbers[np.searchsorted(replaced, ids[rows])] <= number
        return found

    def _replaced_last(self, field: int) -> tuple[Ids, Ids, Ids]:
        """Return records of replaced values, ascending, which edit was the last, and its number."""
        if field not in self._last_replaced:
            edits = self._replaced.get(field, [])
            ids, chosen = last_of_each(np.concatenate([NO_IDS, *(edit.ids for edit in edits)]))
            which = np.repeat(np.arange(len(edits)), [len(edit.ids) for edit in edits])[chosen]
            numbers = np.array([edit.number for edit in edits], np.int64)[which]
            self._last_replaced[field] = ids, which, numbers
        return self._last_replaced[field]

    def laid_over(self, array: pa.Array, ids: Ids, number: int) -> pa.Array:
        """Return the values of a column, as they are after the edits.

        Parameters
        ----------
        array
            As they were.
        ids
            Of their records, ascending.
        number
            Of the column.
        """
        edited, values = self._last(number)
        if not len(ids):
            return array
        low, high = np.searchsorted(edited, [ids[0], ids[-1] + 1])
        mask = is_among(ids, edited[low:high])
        if not mask.any():
            return array
        rows = np.searchsorted(edited, ids[mask])
        return pc.replace_with_mask(array, pa.array(mask), values.take(int64_array(rows)))

    def _last(self, number: int) -> tuple[Ids, pa.Array]:
        """Return the updated records, ascending, and the value that each of them has got last."""
        pieces = self._values.get(number)
        if pieces is None:
            return NO_IDS, pa.nulls(0)
        if len(pieces) > 1:
            ids, chosen = last_of_each(np.concatenate([ids for ids, _ in pieces]))
            values = pa.concat_arrays([array for _, array in pieces]).take(int64_array(chosen))
            self._values[number] = pieces = [(ids, values)]
        return pieces[0]


def last_of_each(ids: Ids) -> tuple[Ids, Ids]:
    """Return records in ascending order, each once, and the place where each is named last."""
    order = np.argsort(ids, kind="stable")
    inner = ids[order]
    is_last = np.ones(len(ids), bool)
    is_last[:-1] = inner[1:] != inner[:-1]
    chosen = order[is_last]
    return ids[chosen], chosen
