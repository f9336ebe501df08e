"""The first records of what somebody wants to store, without losing them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa

from sqlstore import limits
from sqlstore.columnar import as_arrow, is_frame, is_tabular
from sqlstore.columns.base import shown
from sqlstore.errors import SchemaError
from sqlstore.sizes import about_bytes
from sqlstore.types import Record
from sqlstore.writer import each_record

MOST_BYTES: Final = limits.COMMIT_BYTES
"""Where looking stops, as what was looked at is held in memory until it is stored."""


class Sample(NamedTuple):
    """The first records, column by column.

    Attributes
    ----------
    size
        How many there are.
    columns
        For each name an Arrow array, where it has a type, or else Python values.
    """

    size: int
    columns: Mapping[str, Sequence[Any] | pa.ChunkedArray]


def peeked(records: Any, first: int) -> tuple[Sample, Any]:
    """Return the first records, and all of them.

    Parameters
    ----------
    records
        As `Store.extend` takes them. What can be read only once must not be used afterwards.
    first
        How many records to look at, or fewer where they are large.

    Raises
    ------
    SchemaError
        One of the first is no mapping, or there are none.
    """
    look = _rows if not is_tabular(records) else _frame if is_frame(records) else _arrow
    sample, records = look(records, first)
    if not sample.size:
        raise SchemaError(
            "there are no records to infer a schema from; create the store without them"
        )
    return sample, records


_Look = Callable[[Any, int], tuple[Sample, Any]]


def _rows(records: Any, first: int) -> tuple[Sample, Iterator[Record]]:
    rest = iter(each_record(records))
    rows: list[Record] = []
    size = 0
    for record in itertools.islice(rest, first):
        if not isinstance(record, Mapping):
            raise SchemaError(f"a record maps names to values, got {shown(record)}", row=len(rows))
        rows.append(record)
        size += sum(map(about_bytes, record.values()))
        if size >= MOST_BYTES:
            break
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    columns = {name: [record.get(name) for record in rows] for name in names}
    return Sample(len(rows), columns), itertools.chain(rows, rest)


def _frame(frame: Any, first: int) -> tuple[Sample, Any]:
    part = frame.iloc[:first]
    columns = {name: _series(part.iloc[:, i]) for i, name in enumerate(part.columns)}
    return Sample(len(part), columns), frame


def _series(series: Any) -> Sequence[Any] | pa.ChunkedArray:
    if series.dtype == object:
        missing = series.isna().tolist()
        return [None if gone else v for v, gone in zip(series.tolist(), missing, strict=True)]
    array = pa.Array.from_pandas(series)
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _arrow(data: Any, first: int) -> tuple[Sample, Any]:
    data = as_arrow(data)
    if isinstance(data, pa.RecordBatchReader):
        batches: list[pa.RecordBatch] = []
        while (
            sum(batch.num_rows for batch in batches) < first
            and sum(batch.nbytes for batch in batches) < MOST_BYTES
        ):
            try:
                batches.append(data.read_next_batch())
            except StopIteration:
                break
        part = pa.Table.from_batches(batches, data.schema).slice(0, first)
        data = pa.RecordBatchReader.from_batches(data.schema, itertools.chain(batches, data))
    else:
        part = data.slice(0, first)
        part = pa.Table.from_batches([part]) if isinstance(part, pa.RecordBatch) else part
    return Sample(len(part), dict(zip(part.schema.names, part.columns, strict=True))), data
