"""Tables of values for records that are there, found by id or by key, and for new ones."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sqlstore.arrow import int64_array
from sqlstore.columnar import as_arrow, check_names, is_frame, is_tabular
from sqlstore.edits import LARGEST, change_schema, commit_update, committing, see_newest
from sqlstore.errors import RecordNotFoundError, SchemaError, SqlstoreError
from sqlstore.given import metadata_array, one_array, series_values
from sqlstore.log.segment import CommitKind
from sqlstore.positions import as_array, is_among
from sqlstore.schema import ID, Column, Schema, with_column
from sqlstore.source import Source
from sqlstore.types import Ids
from sqlstore.writer import Writer

NEW: Final = -1
"""In place of the id of a record: there is none with this key."""
_ID: Final = Column("int64", nullable=False, name=ID)


class GivenTable:
    """A table that somebody gives, read column by column.

    Attributes
    ----------
    names
        Of its columns.
    """

    def __init__(self, data: Any, schema: Schema) -> None:
        if not is_tabular(data):
            raise TypeError(
                "expected an Arrow table, a DataFrame or anything with an Arrow stream, got "
                f"{type(data).__name__}; of a view, take view.to_arrow()"
            )
        self._is_frame = is_frame(data)
        if not self._is_frame:
            data = as_arrow(data)
            if isinstance(data, pa.RecordBatch):
                data = pa.Table.from_batches([data])
            elif isinstance(data, pa.RecordBatchReader):
                data = data.read_all()
        self._data = data
        self._schema = schema
        self.names: list[str] = list(data.columns if self._is_frame else data.column_names)
        if len(set(self.names)) < len(self.names):
            raise SchemaError("two columns of the table have the same name")

    def __len__(self) -> int:
        return len(self._data)

    def array(self, name: str, column: Column) -> pa.Array:
        """Return a column of the table as the values of a metadata column.

        Raises
        ------
        SchemaError
            A value does not fit, or is missing where one is required.
        """
        if self._is_frame:
            given = series_values(self._data[name], column.name, self._schema)
        else:
            given = one_array(self._data.column(name), column.name, self._schema)
        return metadata_array(column, given, len(self))

    def only(self, rows: NDArray[np.bool_]) -> Any:
        """Return some rows as a table that can be appended."""
        if self._is_frame:
            return self._data[rows].drop(columns=ID, errors="ignore")
        kept = self._data.drop_columns([ID]) if ID in self.names else self._data
        if rows.all():
            return kept
        # Plain, as Arrow cannot filter views.
        names = kept.column_names
        arrays = [one_array(kept.column(name), name, self._schema) for name in names]
        return pa.Table.from_arrays(arrays, names=names).filter(pa.array(rows))


def upsert(source: Source, data: Any, on: str | None) -> Ids:
    """Update records that are there, and append those whose key is new.

    Parameters
    ----------
    data
        The table.
    on
        As in `Store.upsert`.

    Returns
    -------
    numpy.ndarray
        The ids, in the order of the table.
    """
    see_newest(source)  # keys that others have appended are not new
    schema = source.schema
    table = GivenTable(data, schema)
    check_names([name for name in table.names if name != ID], schema)
    on = _joined_by(schema, table.names, on)
    ids = _record_ids(source, table, on)
    is_new = ids == NEW
    _refuse_values(schema, table.names, ids)
    arrays = {
        column.number: table.array(name, column)
        for name, column in schema.columns.items()
        if name in table.names and name != on
    }
    appended = np.empty(0, np.int64)
    if is_new.any():
        ids[is_new] = appended = _append(source, table.only(is_new), np.flatnonzero(is_new))
    try:
        _update(source, ids, np.flatnonzero(~is_new), arrays)
    except SqlstoreError as error:
        error.committed = appended
        raise
    return ids


def _joined_by(schema: Schema, names: list[str], on: str | None) -> str:
    """Return the column that says which record a row is of."""
    if on is None:
        on = schema.key if schema.key in names else ID
    known = [ID, *filter(None, [schema.key])]
    if on not in known:
        raise SchemaError(f"records are found by {' or '.join(known)}, not by {on!r}")
    if on not in names:
        raise SchemaError(f"the table has no column {' or '.join(known)} to find the records by")
    return on


def _record_ids(source: Source, table: GivenTable, on: str) -> Ids:
    """Return the id of the record that each row is of, `NEW` where there is none yet.

    Raises
    ------
    SchemaError
        Two rows are of one record.
    RecordNotFoundError
        There is no record of an id.
    """
    if on == ID:
        return _known_ids(source, table)
    ids = _ids_of_keys(source, table)
    if ID in table.names:
        _check_same(table, ids, on)
    return ids


def _known_ids(source: Source, table: GivenTable) -> Ids:
    ids = np.array(table.array(ID, _ID))
    gone = np.flatnonzero(~is_among(ids, as_array(source.ids())))
    if len(gone):
        row = int(gone[0])
        raise RecordNotFoundError("there is no such record", record=int(ids[row]), row=row)
    if (repeat := _first_repeat(ids)) is not None:
        raise SchemaError("the table has the record twice", record=int(ids[repeat]), row=repeat)
    return ids


def _ids_of_keys(source: Source, table: GivenTable) -> Ids:
    """Return the ids of the records that have the keys of a table; nothing is looked up singly."""
    column = source.schema.columns[str(source.schema.key)]
    keys = table.array(column.name, column)
    codes = keys.dictionary_encode().indices
    if (row := _first_repeat(np.array(codes))) is not None:
        message = f"the table has the key {column.name} = {keys[row].as_py()!r} twice"
        raise SchemaError(message, row=row)
    ids = np.full(len(table), NEW, np.int64)
    there, start = as_array(source.ids()), 0
    for piece in source.metadata(source.ids(), [column])[0]:
        rows = pc.index_in(piece, value_set=keys)
        found = np.array(rows.is_valid())
        ids[np.array(rows.drop_null())] = there[start : start + len(piece)][found]
        start += len(piece)
    return ids


def _check_same(table: GivenTable, ids: Ids, key: str) -> None:
    """Refuse a table of ids and keys where an id is not that of the record with the key.

    Raises
    ------
    SchemaError
        Somebody may have changed a key, and would get another record.
    """
    nullable = Column("int64", name=ID)
    given = np.array(table.array(ID, nullable).fill_null(NEW))
    differing = np.flatnonzero(given != ids)
    if len(differing):
        row = int(differing[0])
        whose = "no record" if ids[row] == NEW else f"record {ids[row]}"
        raise SchemaError(
            f"the row has the id {given[row]}, and its key is that of {whose}; "
            f'on="id" changes keys, and without the column id it is {key} that counts',
            row=row,
        )


def _first_repeat(codes: NDArray[Any]) -> int | None:
    """Return the first row whose value was there before, or None."""
    _, first = np.unique(codes, return_index=True)
    if len(first) == len(codes):
        return None
    is_repeat = np.ones(len(codes), bool)
    is_repeat[first] = False
    return int(np.flatnonzero(is_repeat)[0])


def _refuse_values(schema: Schema, names: list[str], ids: Ids) -> None:
    """Refuse values of fields for records that are there."""
    if fields := [name for name in names if name in schema.fields]:
        there = np.flatnonzero(ids != NEW)
        if len(there):
            row = int(there[0])
            raise SchemaError(
                "values of fields come with new records only; leave the field out, or the records "
                "that are there, and give these other values by `View.replace`",
                field=fields[0],
                record=int(ids[row]),
                row=row,
            )


def _append(source: Source, table: Any, rows: NDArray[np.int64]) -> Ids:
    """Append new records, in one commit where they are not too large for that."""
    with Writer(
        source.root,
        source.committed,
        source.how.encodings,
        commit_records=len(rows),
        commit_bytes=LARGEST,
    ) as writer:
        try:
            writer.extend(table)
            writer.commit()
        except SqlstoreError as error:
            row = error.where.get("row")
            if isinstance(row, int):  # of those that are new
                error.where["row"] = int(rows[row])
            error.committed = writer.ids
            raise
        return writer.ids


def _update(source: Source, ids: Ids, rows: NDArray[np.int64], arrays: dict[int, pa.Array]) -> None:
    """Give records the values of some rows."""
    if not len(rows) or not arrays:
        return
    order = rows[np.argsort(ids[rows], kind="stable")]
    chosen = int64_array(order)
    with committing(source) as committer:
        if committer.schema.version != source.schema.version:
            raise SchemaError("the schema has been changed by others; nothing is updated")
        taken = {number: array.take(chosen) for number, array in arrays.items()}
        commit_update(committer, ids[order], taken, source.committed)


def add_from_table(
    source: Source, name: str, declared: str | pa.DataType | Column, data: Any
) -> None:
    """Add a metadata column with values for the records that a table names.

    Raises
    ------
    SchemaError
        It has not two columns, one of them the id or the key, or a value does not fit.
    RecordNotFoundError
        It names a record that is not there.
    """
    source.check_open()
    source.check_writable()
    source.refresh()
    add = partial(with_column, name=name, given=declared)
    schema = add(source.schema)
    table = GivenTable(data, schema)
    by = [one for one in table.names if one in (ID, schema.key)]
    if len(table.names) != 2 or len(by) != 1:
        keys = " or ".join(filter(None, [ID, schema.key]))
        raise SchemaError(
            f"a table for one column has two: {keys}, and the values; this one has "
            f"{', '.join(map(str, table.names))}"
        )
    ids = _record_ids(source, table, by[0])
    unknown = np.flatnonzero(ids == NEW)
    if len(unknown):
        row = int(unknown[0])
        key = table.array(by[0], schema.columns[by[0]])[row].as_py()
        raise RecordNotFoundError(f"no record has the key {key!r}", row=row)
    (values,) = (one for one in table.names if one not in by)
    column = schema.columns[name]
    array = table.array(values, column)
    change_schema(source, CommitKind.ADD_COLUMN, add)
    source.check_open()
    number = source.schema.columns[name].number
    _update(source, ids, np.arange(len(ids)), {number: array})
