"""Records on their way into the store, one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, NoReturn

from sqlstore import limits
from sqlstore.batch import Block, Choose, FieldEncoder, duplicate_key, field_block, too_large
from sqlstore.columns.base import shown
from sqlstore.encodings import Encodings
from sqlstore.errors import SchemaError
from sqlstore.schema import Schema
from sqlstore.types import Record, SqlValue


class RowBuffer:
    """Takes records one by one; each is refused or taken as a whole.

    Most values are of exactly the type that is stored: then a record costs one comparison of all
    its types, and only what is left is converted value by value. Compressing and checksums wait
    until `take`, where they are done for many values at once.

    Attributes
    ----------
    size
        About how many bytes it holds.
    """

    def __init__(self, schema: Schema, encodings: Encodings) -> None:
        self._schema = schema
        columns, fields = list(schema.columns.values()), list(schema.fields.values())
        self._names = schema.names
        self._order = (*schema.columns, *schema.fields)
        self._pick: Callable[[Record], tuple[Any, ...]] | None = (
            itemgetter(*self._order) if len(self._order) > 1 else None
        )
        self._converters = [(c.name, c.kind.convert, c.nullable) for c in columns]
        self._encoders = [FieldEncoder(field, encodings) for field in fields]
        self._straight = (
            *(column.kind.straight for column in columns),
            *(encoder.straight for encoder in self._encoders),
        )
        at = list(enumerate(column.kind for column in columns))
        self._ranges = [(i, *kind.bounds) for i, kind in at if kind.straight is int]
        self._texts = [i for i, kind in at if kind.straight is str]
        self._sized = [i for i, kind in at if kind.storage in ("TEXT", "BLOB")]
        self._sized += range(len(columns), len(self._order))
        self._key_position = list(schema.columns).index(schema.key) if schema.key else None
        self.clear()

    def clear(self) -> None:
        """Forget the records."""
        self._keys: set[SqlValue] = set()
        self._rows: list[tuple[Any, ...]] = []
        self.size = 0

    @property
    def count(self) -> int:
        """Return how many records are waiting."""
        return len(self._rows)

    def append(self, record: Record, row: int) -> None:
        """Take one record.

        Parameters
        ----------
        record
            Values by field and column name; what is left out or None is missing.
        row
            Which record of the writer it is, for the message of an error.

        Raises
        ------
        SchemaError
            The record is not what the schema declares. Nothing of it is kept.
        """
        values = self._arranged(record, row)
        if tuple(map(type, values)) != self._straight or not self._is_in_range(values):
            values = self._converted(values, row)
        size = 0
        for position in self._sized:
            size += len(values[position] or b"")
        if size > limits.MAX_VALUE_BYTES:
            self._refuse_too_large(values, row)
        if self._key_position is not None:
            self._take_key(values[self._key_position], row)
        self._rows.append(values)
        self.size += size

    def _arranged(self, record: Record, row: int) -> tuple[Any, ...]:
        """Return the values of a record in the order of the schema, columns first."""
        if type(record) is dict and len(record) == len(self._order) and self._pick is not None:
            try:
                return self._pick(record)
            except KeyError:
                pass  # one is unknown; which one is said below
        if not isinstance(record, Mapping):
            raise SchemaError(f"a record maps names to values, got {shown(record)}", row=row)
        if not self._names.issuperset(record):
            raise self._schema.unknown(
                [name for name in record if name not in self._names], row=row
            )
        return tuple(map(record.get, self._order))

    def _is_in_range(self, values: tuple[Any, ...]) -> bool:
        for position, lowest, highest in self._ranges:
            if not lowest <= values[position] <= highest:
                return False
        # Text that is not ASCII may hold lone surrogates, which have no UTF-8 form.
        return all(values[position].isascii() for position in self._texts)

    def _converted(self, given: tuple[Any, ...], row: int) -> tuple[Any, ...]:
        """Return what is stored for each value, encoded but not compressed."""
        values: list[Any] = []
        try:
            for (_, convert, nullable), value in zip(self._converters, given, strict=False):
                if value is not None:
                    values.append(convert(value))
                elif nullable:
                    values.append(None)
                else:
                    _refuse_missing()
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            name = self._converters[len(values)][0]
            raise SchemaError(str(error), column=name, row=row) from error
        payload = given[len(self._converters) :]
        values += [
            encode(value, row) for encode, value in zip(self._encoders, payload, strict=True)
        ]
        return tuple(values)

    def _refuse_too_large(self, values: tuple[Any, ...], row: int) -> None:
        payload = values[len(self._converters) :]
        for name, value in zip(self._schema.fields, payload, strict=True):
            if value is not None and len(value) > limits.MAX_VALUE_BYTES:
                raise too_large(len(value), name, row)

    def _take_key(self, key: SqlValue, row: int) -> None:
        if key in self._keys:
            raise duplicate_key(self._schema, key, row=row)
        self._keys.add(key)

    def take(self, choose: Choose) -> Block:
        """Return the records as a block and begin anew.

        Parameters
        ----------
        choose
            Says how to compress each field; if it raises, the records are kept.
        """
        columns, fields = self._schema.columns.values(), self._schema.fields.values()
        values = list(zip(*self._rows, strict=True)) or [()] * len(self._order)
        sql = [c.kind.settled(column) for c, column in zip(columns, values, strict=False)]
        payload = values[len(sql) :]
        block = Block(
            self.count,
            {
                f.number: field_block(f, raws, choose)
                for f, raws in zip(fields, payload, strict=True)
            },
            {c.number: c.kind.build(stored) for c, stored in zip(columns, sql, strict=True)},
            sql,
        )
        self.clear()
        return block


def _refuse_missing() -> NoReturn:
    raise ValueError("a value is required")
