"""Commits that update or delete records: their tables, and what they add up to.

The table of an update has a row per record: its id in ``record``, and its new values in a column
``c<number>`` for every metadata column that is updated. The table of a delete has the ids alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sqlstore.arrow import int64_array
from sqlstore.errors import CorruptChunkError
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.log.table import stream
from sqlstore.types import Ids

EDITS: Final = frozenset({CommitKind.UPDATE, CommitKind.DELETE})
RECORD: Final = pa.field("record", pa.int64(), nullable=False)
_COLUMN: Final = re.compile(r"c([0-9]+)")


@dataclass(frozen=True, slots=True)
class Edit:
    """What one commit does to records that were there before it.

    Attributes
    ----------
    kind
        An update or a delete.
    ids
        The records, ascending, each once.
    columns
        Their new values by column number, in the order of the ids.
    """

    kind: CommitKind
    ids: Ids
    columns: Mapping[int, pa.Array]


def build(ids: Ids, columns: Mapping[int, pa.Array]) -> pa.Buffer:
    """Return the table of an edit as an Arrow IPC stream.

    Parameters
    ----------
    ids
        Ascending, each once.
    columns
        Arrays of the declared type, by column number; none for a delete.
    """
    fields = [pa.field(f"c{number}", array.type) for number, array in columns.items()]
    arrays = [int64_array(ids), *columns.values()]
    return stream(pa.record_batch(arrays, schema=pa.schema([RECORD, *fields])))


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
    fields = list(batch.schema)
    numbers = [_COLUMN.fullmatch(field.name) for field in fields[1:]]
    if fields[:1] == [RECORD] and all(numbers) and not batch.column(0).null_count:
        ids: Ids = batch.column(0).to_numpy()
        lowest, highest = (int(ids[0]), int(ids[-1])) if len(ids) else (0, -1)
        are_those = lowest >= 0 and highest < trailer.first_record and not trailer.records
        if are_those and bool(np.all(ids[1:] > ids[:-1])):
            columns = {
                int(number[1]): array
                for number, array in zip(numbers, batch.columns[1:], strict=True)
                if number is not None
            }
            return Edit(CommitKind(trailer.kind), ids, columns)
    raise CorruptChunkError(
        f"commit {trailer.number} is no edit of records that there were",
        chunk=name,
        offset=trailer.table_start,
    )


class Edited:
    """What has become of records by edits, given in the order of their commits.

    Attributes
    ----------
    deleted
        The ids of the records that were deleted, ascending.
    """

    def __init__(self, edits: Iterable[Edit] = ()) -> None:
        self.deleted: Ids = np.empty(0, np.int64)
        self._values: dict[int, list[tuple[Ids, pa.Array]]] = {}
        deleted = [self.deleted]
        for edit in edits:
            if edit.kind == CommitKind.DELETE:
                deleted.append(edit.ids)
            for number, array in edit.columns.items():
                self._values.setdefault(number, []).append((edit.ids, array))
        self.deleted = np.unique(np.concatenate(deleted))

    @property
    def updated(self) -> Ids:
        """Return the ids of the records that were updated, ascending, each once."""
        given = [ids for pieces in self._values.values() for ids, _ in pieces]
        return np.unique(np.concatenate([np.empty(0, np.int64), *given]))

    def laid_over(self, array: pa.Array, first: int, number: int) -> pa.Array:
        """Return the values of a column of consecutive records, as they are after the edits.

        Parameters
        ----------
        array
            As they were.
        first
            The id of the first of the records.
        number
            Of the column.
        """
        ids, values = self._last(number)
        low, high = np.searchsorted(ids, [first, first + len(array)])
        if low == high:
            return array
        mask = np.zeros(len(array), bool)
        mask[ids[low:high] - first] = True
        return pc.replace_with_mask(array, pa.array(mask), values.slice(low, high - low))

    def _last(self, number: int) -> tuple[Ids, pa.Array]:
        """Return the updated records, ascending, and the value that each of them has got last."""
        pieces = self._values.get(number)
        if pieces is None:
            return np.empty(0, np.int64), pa.nulls(0)
        if len(pieces) > 1:
            ids = np.concatenate([ids for ids, _ in pieces])
            order = np.argsort(ids, kind="stable")
            inner = ids[order]
            is_last = np.append(inner[1:] != inner[:-1], True)  # the later commit comes later
            chosen = order[is_last]
            values = pa.concat_arrays([array for _, array in pieces]).take(int64_array(chosen))
            self._values[number] = pieces = [(ids[chosen], values)]
        return pieces[0]
