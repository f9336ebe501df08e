"""Records on their way into the store: encoded, compressed, checked, and not yet committed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

from sqlstore import limits
from sqlstore.compression import COMPRESSIONS, compress
from sqlstore.encodings import ENCODINGS
from sqlstore.errors import DuplicateKeyError, EncodeError, SchemaError
from sqlstore.log.table import Values, concatenated
from sqlstore.schema import Field, Schema
from sqlstore.types import Buffer, Record, SqlValue

_Body = tuple[Buffer, int, int, int]
"""Stored bytes, raw length, CRC-32 and number of the compression."""


@dataclass(slots=True)
class FieldBlock:
    """The values of one field: their bytes, in order, and what the segment table says of them."""

    bodies: Sequence[Buffer]
    values: Values


@dataclass(slots=True)
class Block:
    """Some records, field by field and column by column.

    Attributes
    ----------
    count
        How many records.
    fields
        By field number.
    columns
        Arrow arrays of the declared type, by column number.
    sql
        The same values as SQLite stores them, in the order of the schema.
    """

    count: int
    fields: dict[int, FieldBlock]
    columns: dict[int, pa.Array]
    sql: list[Sequence[SqlValue]]


def joined(blocks: Sequence[Block]) -> Block:
    """Return several blocks as one."""
    if len(blocks) == 1:
        return blocks[0]
    first = blocks[0]
    return Block(
        sum(block.count for block in blocks),
        {
            number: FieldBlock(
                list(chain.from_iterable(block.fields[number].bodies for block in blocks)),
                concatenated([block.fields[number].values for block in blocks]),
            )
            for number in first.fields
        },
        {n: pa.concat_arrays([block.columns[n] for block in blocks]) for n in first.columns},
        [
            list(chain.from_iterable(block.sql[i] for block in blocks))
            for i in range(len(first.sql))
        ],
    )


def encode_value(field: Field, value: object, row: int) -> _Body:
    """Return the bytes that are stored for a value.

    Parameters
    ----------
    row
        Which record of the writer it is, for the message of an error.

    Raises
    ------
    EncodeError
        The value does not fit the field's encoding.
    """
    try:
        raw = ENCODINGS[field.encoding].encode(value)
    except EncodeError as error:
        raise EncodeError(error.message, field=field.name, row=row) from error
    n_raw = len(raw)
    if n_raw > limits.MAX_VALUE_BYTES:
        raise EncodeError(
            f"a value of {n_raw} bytes; the limit is {limits.MAX_VALUE_BYTES}",
            field=field.name,
            row=row,
        )
    body, number = compress(raw, COMPRESSIONS[field.compression])
    return body, n_raw, zlib.crc32(body), number


class RowBuffer:
    """Takes records one by one; each is refused or taken as a whole.

    Attributes
    ----------
    count, size
        How many records it holds, and about how many bytes.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._names = schema.names
        self._converters = [
            (column.name, column.kind.convert, column.nullable)
            for column in schema.columns.values()
        ]
        self._key_position = list(schema.columns).index(schema.key) if schema.key else None
        self._keys: set[SqlValue] = set()
        self._bodies: list[list[_Body | None]] = []
        self._metadata: list[list[SqlValue]] = []
        self.size = 0

    @property
    def count(self) -> int:
        """Return how many records are waiting."""
        return len(self._metadata)

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
        if not self._names.issuperset(record):
            raise self._schema.unknown([name for name in record if name not in self._names])
        metadata = self._convert(record, row)
        bodies = [
            None if (value := record.get(name)) is None else encode_value(field, value, row)
            for name, field in self._schema.fields.items()
        ]
        if self._key_position is not None:
            self._take_key(metadata[self._key_position], row)
        self._metadata.append(metadata)
        self._bodies.append(bodies)
        for body in bodies:
            if body is not None:
                self.size += len(body[0])

    def _convert(self, record: Record, row: int) -> list[SqlValue]:
        values: list[SqlValue] = []
        for name, convert, nullable in self._converters:
            value = record.get(name)
            if value is None:
                if not nullable:
                    raise SchemaError("a value is required", column=name, row=row)
                values.append(None)
                continue
            try:
                stored = convert(value)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                raise SchemaError(str(error), column=name, row=row) from error
            if type(stored) is str or type(stored) is bytes:
                self.size += len(stored)
            values.append(stored)
        return values

    def _take_key(self, key: SqlValue, row: int) -> None:
        if key in self._keys:
            raise duplicate_key(self._schema, key, row=row)
        self._keys.add(key)

    def take(self) -> Block:
        """Return the records as a block and begin anew."""
        count = self.count
        bodies = list(zip(*self._bodies, strict=True)) or [()] * len(self._schema.fields)
        sql = list(zip(*self._metadata, strict=True)) or [()] * len(self._schema.columns)
        block = Block(
            count,
            {
                field.number: field_block(column)
                for field, column in zip(self._schema.fields.values(), bodies, strict=True)
            },
            {
                column.number: column.kind.build(values)
                for column, values in zip(self._schema.columns.values(), sql, strict=True)
            },
            [list(values) for values in sql],
        )
        self.clear()
        return block

    def clear(self) -> None:
        """Forget the records."""
        self._bodies, self._metadata, self._keys, self.size = [], [], set(), 0


def field_block(column: Sequence[_Body | None]) -> FieldBlock:
    """Return the encoded values of one field, a row per record, as a block."""
    nothing: _Body = (b"", 0, 0, 0)
    present = np.fromiter((body is not None for body in column), bool, len(column))
    filled = [nothing if body is None else body for body in column]
    bodies, raw_lengths, crcs, compressions = zip(*filled, strict=True) if filled else ((),) * 4
    zeros = np.zeros(len(filled), np.uint32)
    values = Values(
        present=present,
        offset=zeros,
        length=np.fromiter(map(len, bodies), np.uint32, len(filled)),
        raw_length=np.array(raw_lengths, np.uint32),
        items=zeros,
        crc=np.array(crcs, np.uint32),
        compression=np.array(compressions, np.uint8),
    )
    return FieldBlock(bodies, values)


def duplicate_key(schema: Schema, key: SqlValue, **where: object) -> DuplicateKeyError:
    """Return the error for a key that is there already."""
    return DuplicateKeyError(f"the key {schema.key} = {key!r} is there already", **where)
