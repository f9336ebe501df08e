"""What changes records that are there, or the columns that they have: each a commit of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from sqlstore import limits
from sqlstore.arrow import int64_array
from sqlstore.batch import FieldEncoder, field_block
from sqlstore.commit import Committer
from sqlstore.compressors import Compressors
from sqlstore.errors import SchemaError
from sqlstore.given import MISFIT, Given, metadata_array, one_array, series_values
from sqlstore.log.edits import Edit
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.portions import runs
from sqlstore.positions import as_array
from sqlstore.schema import Column, Schema, with_column
from sqlstore.source import Source
from sqlstore.staged import EditedSinceError, StagedEdit, StagedSchema
from sqlstore.types import Ids

_ATTEMPTS: Final = 20
"""How often what others edit meanwhile is computed again."""
LARGEST: Final = limits.GiB // 2
"""Bytes of values that go into one commit; more become several."""


@contextmanager
def committing(source: Source) -> Iterator[Committer]:
    """Commit to the store that is read from, inside the block.

    Raises
    ------
    ReadOnlyError
        It was opened for reading.
    """
    source.check_open()
    source.check_writable()
    with contextlib.closing(Committer(source.root)) as committer:
        yield committer


def see_newest(source: Source) -> None:
    """See the commits that have come since, also one that a killed writer kept from the index."""
    with committing(source):  # which settles that
        source.refresh()


def update(source: Source, ids: Ids, values: Mapping[str, Any]) -> None:
    """Give metadata columns of records other values.

    Parameters
    ----------
    ids
        The records, each once.
    values
        For every column one value for all records; an array with a value for each; or a SQLAlchemy
        expression.

    Raises
    ------
    UnknownNameError
        There is no such column.
    SchemaError
        A value does not fit its column, or a record is there twice.
    DuplicateKeyError
        Another record has one of the new keys.
    RecordNotFoundError
        A record is not there any more.
    """
    if not values:
        raise TypeError("say what to update: update(label=...)")
    order = np.argsort(ids, kind="stable")
    _refuse_repeats(ids[order])
    with committing(source) as committer:
        columns = [committer.schema.column(name) for name in values]
        for attempt in range(_ATTEMPTS):
            is_computed = any(map(is_expression, values.values()))
            at = source.finder.last_commit().number if is_computed else None
            arrays = _arrays(source, ids, columns, list(values.values()))
            inner = int64_array(order)
            sorted_arrays = {n: array.take(inner) for n, array in arrays.items()}
            try:
                commit_update(committer, ids[order], sorted_arrays, source.committed, at)
            except EditedSinceError:
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return


def commit_update(
    committer: Committer,
    ids: Ids,
    arrays: Mapping[int, pa.Array],
    acknowledge: Callable[[Trailer], None],
    computed_at: int | None = None,
) -> None:
    """Commit new values of metadata columns.

    Parameters
    ----------
    ids
        Ascending, each once.
    arrays
        By column number, in the declared types and in the order of the ids.
    acknowledge
        As for `Committer.commit`.
    computed_at
        As in `Staged`.
    """
    for edit in in_steps(ids, arrays):
        staged = StagedEdit(edit, committer.schema)
        staged.computed_at, computed_at = computed_at, None
        committer.commit(staged, acknowledge)


def in_steps(ids: Ids, arrays: Mapping[int, pa.Array]) -> Iterator[Edit]:
    """Return updates as one edit, or as several if they are large."""
    size = ids.nbytes + sum(int(array.nbytes) for array in arrays.values())
    step = max(1, len(ids) * LARGEST // max(size, 1))
    for start in range(0, len(ids), step):
        pieces = {number: array.slice(start, step) for number, array in arrays.items()}
        yield Edit(CommitKind.UPDATE, ids[start : start + step], pieces)


def replace(source: Source, ids: Ids, name: str, values: Iterable[Any]) -> None:
    """Give a field of records other values; what they had stays in the chunks.

    Parameters
    ----------
    ids
        The records, each once.
    values
        As many, in the order of the ids; None for no value.

    Raises
    ------
    EncodeError
        A value does not fit the field.
    SchemaError
        There are more or fewer values than records, or a record is there twice.
    RecordNotFoundError
        A record is not there any more.
    """
    if isinstance(values, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"a list of values is needed, one for each record, not {values!r:.80}")
    order = np.argsort(ids, kind="stable")
    _refuse_repeats(ids[order])
    with committing(source) as committer:
        field = committer.schema.field(name)
        encode = FieldEncoder(field, source.how.encodings)
        raws = [encode(value, row) for row, value in enumerate(values)]
        if len(raws) != len(ids):
            raise SchemaError(f"{len(raws)} values for {len(ids)} records", field=name)
        compressors, inner = Compressors(committer), [raws[place] for place in order.tolist()]
        sizes = np.array([0 if raw is None else len(raw) for raw in inner], np.int64)
        for rows in runs(sizes, limits.COMMIT_BYTES):
            block = field_block(field, inner[rows], compressors.choose)
            chosen = {field.number: block.values}
            edit = Edit(CommitKind.REPLACE, ids[order][rows], values=chosen)
            committer.commit(StagedEdit(edit, committer.schema, block.bodies), source.committed)


def delete(source: Source, ids: Ids) -> None:
    """Delete records: their metadata, and where their values lie.

    Raises
    ------
    RecordNotFoundError
        A record is not there any more.
    """
    with committing(source) as committer:
        if len(ids):
            edit = Edit(CommitKind.DELETE, np.unique(ids))
            committer.commit(StagedEdit(edit, committer.schema), source.committed)


def add_column(
    source: Source, name: str, declared: str | pa.DataType | Column, values: Any
) -> None:
    """Add a metadata column, and give it values if there are any; `update` says which.

    Values that do not fit are refused before there is a column.
    """
    source.check_open()
    ids = as_array(source.ids())
    add = partial(with_column, name=name, given=declared)
    column = add(source.schema).columns[name]
    if values is not None and not is_expression(values):
        values = given_array(column, values, len(ids), source.schema)
    change_schema(source, CommitKind.ADD_COLUMN, add)
    if values is not None:
        update(source, ids, {name: values})


def change_schema(source: Source, kind: CommitKind, change: Callable[[Schema], Schema]) -> None:
    """Commit another schema.

    Parameters
    ----------
    kind
        What is changed.
    change
        Makes the new schema of the present one.
    """
    with committing(source) as committer:
        before = committer.schema
        after = change(before)
        staged = StagedSchema(kind, before, after, committer.settings(after))
        committer.commit(staged, source.committed)


def _refuse_repeats(ascending: Ids) -> None:
    repeats = ascending[1:][ascending[1:] == ascending[:-1]]
    if len(repeats):
        raise SchemaError("the view has the record twice", record=int(repeats[0]))


def _arrays(
    source: Source, ids: Ids, columns: list[Column], values: list[Any]
) -> dict[int, pa.Array]:
    """Return the new values of columns by column number, in the order of the ids."""
    expressions = {c.name: v for c, v in zip(columns, values, strict=True) if is_expression(v)}
    computed = dict(
        zip(expressions, source.finder.values(ids, expressions), strict=True) if expressions else ()
    )
    found = {}
    for column, value in zip(columns, values, strict=True):
        if column.name in computed:
            array = _computed(column, computed[column.name])
        else:
            array = given_array(column, value, len(ids), source.schema)
        found[column.number] = array
    return found


def is_expression(value: object) -> bool:
    """Return whether a value is an SQLAlchemy expression, without importing it for others."""
    return hasattr(value, "__clause_element__") or hasattr(value, "self_group")


def is_array(value: object) -> bool:
    """Return whether these are values in an order, and no table, though they may have a stream."""
    is_series = type(value).__name__ == "Series"
    return is_series or isinstance(value, (pa.Array, pa.ChunkedArray, np.ndarray))


def _computed(column: Column, values: list[Any]) -> pa.Array:
    """Return what SQLite has computed for a column, or refuse it."""
    try:
        array = column.kind.build(values)
        column.kind.check(array)
    except MISFIT as error:
        raise SchemaError(f"what is computed does not fit: {error}", column=column.name) from error
    return metadata_array(column, array, len(array))


def given_array(column: Column, value: Any, count: int, schema: Schema) -> pa.Array:
    """Return one value for all records, or a value for each, as an array of the declared type."""
    each = _each(column, value, schema)
    if each is None and isinstance(value, (list, tuple)) and column.kind.name != "json":
        raise SchemaError(
            "one value for all records, or an array with a value for each; make an array of a "
            "list, as in `numpy.array([...])` or `pyarrow.array([...])`",
            column=column.name,
        )
    if each is None:
        return metadata_array(column, [value], 1).take(pa.array(np.zeros(count, np.int64)))
    if len(each) != count:
        raise SchemaError(f"{len(each)} values for {count} records", column=column.name)
    return metadata_array(column, each, count)


def _each(column: Column, value: Any, schema: Schema) -> Given | None:
    """Return the values of an array, or None for a single value."""
    if isinstance(value, pa.Array):
        value = pa.chunked_array([value])
    elif isinstance(value, np.ndarray) and value.ndim == 1:
        value = pa.chunked_array([pa.array(value)])
    elif type(value).__name__ == "Series" and hasattr(value, "__arrow_c_stream__"):
        if type(value).__module__.startswith("pandas"):
            return series_values(value, column.name, schema)
        value = pa.chunked_array(value)
    if isinstance(value, pa.ChunkedArray):
        return one_array(value, column.name, schema)
    return None
