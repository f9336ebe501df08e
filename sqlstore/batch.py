"""Records on their way into the store: encoded, compressed, checked, and not yet committed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

from sqlstore import limits
from sqlstore.columns.base import shown
from sqlstore.compression import COMPRESSIONS, compress
from sqlstore.encodings import ENCODINGS
from sqlstore.errors import DuplicateKeyError, EncodeError, SchemaError
from sqlstore.log.table import Values, concatenated
from sqlstore.schema import Field, Schema
from sqlstore.types import Buffer, Record, SqlValue

_Body = tuple[Buffer, int, int, int]
"""Stored bytes, raw length, CRC-32 and number of the compression."""

_NOTHING: _Body = (b"", -1, 0, 0)
"""What stands for a value that a record does not have."""


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


class FieldEncoder:
    """Turns the values of one field into what is stored.

    Parameters
    ----------
    field
        The field, with its encoding and compression.
    """

    def __init__(self, field: Field) -> None:
        self._name = field.name
        self._encode = ENCODINGS[field.encoding].encode
        self._compression = COMPRESSIONS[field.compression]

    def __call__(self, value: object, row: int) -> _Body:
        """Return what is stored for a value.

        Parameters
        ----------
        value
            The value; None if the record has none.
        row
            Which record of the writer it is, for the message of an error.

        Raises
        ------
        EncodeError
            The value does not fit the field's encoding.
        """
        if value is None:
            return _NOTHING
        try:
            raw = self._encode(value)
        except EncodeError as error:
            raise EncodeError(error.message, field=self._name, row=row) from error
        n_raw = len(raw)
        if n_raw > limits.MAX_VALUE_BYTES:
            raise too_large(n_raw, self._name, row)
        number = self._compression
        body = raw
        if number:
            body, number = compress(raw, number)
        return body, n_raw, zlib.crc32(body), number


def too_large(n_raw: int, field: str, row: int) -> EncodeError:
    """Return the error for a value of more bytes than a chunk may hold."""
    message = f"a value of {n_raw} bytes; the limit is {limits.MAX_VALUE_BYTES}"
    return EncodeError(message, field=field, row=row)


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
        self._encoders = [(f.name, FieldEncoder(f)) for f in schema.fields.values()]
        self._converters = [
            (column.name, column.kind.convert, column.nullable)
            for column in schema.columns.values()
        ]
        self._sized = [
            position
            for position, column in enumerate(schema.columns.values())
            if column.kind.storage in ("TEXT", "BLOB")
        ]
        self._key_position = list(schema.columns).index(schema.key) if schema.key else None
        self.clear()

    def clear(self) -> None:
        """Forget the records."""
        self._keys: set[SqlValue] = set()
        # Lists per column, not per record: they are what a block needs, and no work for the
        # garbage collector.
        self._bodies: list[list[_Body]] = [[] for _ in self._encoders]
        self._metadata: list[list[SqlValue]] = [[] for _ in self._converters]
        self.count = 0
        self.size = 0

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
        if type(record) is not dict and not isinstance(record, Mapping):
            raise SchemaError(f"a record maps names to values, got {shown(record)}", row=row)
        if not self._names.issuperset(record):
            raise self._schema.unknown([name for name in record if name not in self._names])
        metadata = self._convert(record, row)
        bodies = [encode(record.get(name), row) for name, encode in self._encoders]
        if self._key_position is not None:
            self._take_key(metadata[self._key_position], row)
        size = self.size
        for values, value in zip(self._metadata, metadata, strict=False):
            values.append(value)
        for position in self._sized:
            size += len(metadata[position] or b"")  # type: ignore[arg-type]
        for waiting, body in zip(self._bodies, bodies, strict=False):
            waiting.append(body)
            size += len(body[0])
        self.size = size
        self.count += 1

    def _convert(self, record: Record, row: int) -> list[SqlValue]:
        values: list[SqlValue] = []
        name = ""
        try:
            for name, convert, nullable in self._converters:
                value = record.get(name)
                if value is not None:
                    values.append(convert(value))
                elif nullable:
                    values.append(None)
                else:
                    raise ValueError("a value is required")  # noqa: TRY301 - as any other misfit
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SchemaError(str(error), column=name, row=row) from error
        return values

    def _take_key(self, key: SqlValue, row: int) -> None:
        if key in self._keys:
            raise duplicate_key(self._schema, key, row=row)
        self._keys.add(key)

    def take(self) -> Block:
        """Return the records as a block and begin anew."""
        fields, columns = self._schema.fields.values(), self._schema.columns.values()
        block = Block(
            self.count,
            {f.number: field_block(bodies) for f, bodies in zip(fields, self._bodies, strict=True)},
            {c.number: c.kind.build(v) for c, v in zip(columns, self._metadata, strict=True)},
            list(self._metadata),
        )
        self.clear()
        return block


def field_block(encoded: Sequence[_Body]) -> FieldBlock:
    """Return the encoded values of one field, one for every record, as a block."""
    count = len(encoded)
    bodies, raw_lengths, crcs, compressions = zip(*encoded, strict=True) if count else ((),) * 4
    raw_length = np.array(raw_lengths, np.int64)
    zeros = np.zeros(count, np.uint32)
    values = Values(
        present=raw_length >= 0,
        offset=zeros,
        length=np.fromiter(map(len, bodies), np.uint32, count),
        raw_length=np.maximum(raw_length, 0).astype(np.uint32),
        items=zeros,
        crc=np.array(crcs, np.uint32),
        compression=np.array(compressions, np.uint8),
    )
    return FieldBlock(bodies, values)


def duplicate_key(schema: Schema, key: SqlValue, **where: object) -> DuplicateKeyError:
    """Return the error for a key that is there already."""
    return DuplicateKeyError(f"the key {schema.key} = {key!r} is there already", **where)
