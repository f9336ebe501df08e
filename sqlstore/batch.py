"""Records on their way into the store: encoded, compressed, checked, and not yet committed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeAlias, cast

import numpy as np
import pyarrow as pa

from sqlstore import limits
from sqlstore.compression import Method, compress_many
from sqlstore.encodings import Encodings
from sqlstore.errors import DuplicateKeyError, EncodeError, SqlstoreError
from sqlstore.log.table import Values, concatenated
from sqlstore.schema import Field, Schema
from sqlstore.sequences import ENTRY_SIZE, Packed, pack
from sqlstore.types import Buffer, SqlValue

_NOTHING: Final = Packed(b"", 0, 0, 0)

Choose: TypeAlias = Callable[[Field, Sequence[Buffer]], Method]
"""Says how to compress values of a field that are committed together."""


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


@dataclass(frozen=True, slots=True)
class Items:
    """The encoded items of a sequence; its length is the most that it may take."""

    raws: list[Buffer]
    n_bytes: int

    def __len__(self) -> int:
        return self.n_bytes


class FieldEncoder:
    """Turns the values of one field into bytes; `field_block` compresses and checksums them.

    Parameters
    ----------
    field
        The field, with its encoding.
    encodings
        Has that encoding.

    Attributes
    ----------
    straight
        Values of exactly this type are stored as they are; None if there is no such type.
    """

    def __init__(self, field: Field, encodings: Encodings) -> None:
        encoding = encodings.of(field.item_encoding, field.name)
        self._name = field.name
        self._encode_one = encoding.encode
        self._encode = self._sequence if field.is_sequence else encoding.encode
        self.straight = None if field.is_sequence else encoding.straight

    def __call__(self, value: object, row: int) -> Buffer | Items | None:
        """Return the encoded value, or None if there is none.

        Parameters
        ----------
        row
            Which record of the writer it is, for the message of an error.

        Raises
        ------
        EncodeError
            The value does not fit the field's encoding.
        """
        if value is None:
            return None
        try:
            raw = self._encode(value)
        except EncodeError as error:
            raise EncodeError(error.message, field=self._name, row=row, **error.where) from error
        if len(raw) > limits.MAX_VALUE_BYTES:
            raise too_large(len(raw), self._name, row)
        return raw

    def _encode_item(self, item: Any) -> Buffer:
        if item is None:
            raise EncodeError("an item of a sequence is never missing")
        return self._encode_one(item)

    def _sequence(self, value: Any) -> Items:
        if not _has_items(value):
            raise EncodeError(f"expected a sequence of values, got {type(value).__name__}")
        raws: list[Buffer] = []
        for item in _listed(value):
            try:
                raws.append(self._encode_item(item))
            except EncodeError as error:
                raise EncodeError(error.message, item=len(raws)) from error
        return Items(raws, sum(map(len, raws)) + ENTRY_SIZE * len(raws))


def _listed(values: Iterable[Any]) -> Iterator[Any]:
    count = 0
    try:
        for value in values:
            yield value
            count += 1
    except SqlstoreError:
        raise
    except Exception as error:  # somebody else's iterator
        raise EncodeError(f"there is no next item: {error!r}", item=count) from error


def _has_items(value: object) -> bool:
    """Return whether these are values in an order, and not one value or values without order."""
    if isinstance(value, (str, bytes, bytearray, memoryview, Mapping, Set)):
        return False
    return isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0


def too_large(n_raw: int, field: str, row: int) -> EncodeError:
    """Return the error for a value of more bytes than a chunk may hold."""
    message = f"a value of {n_raw} bytes; the limit is {limits.MAX_VALUE_BYTES}"
    return EncodeError(message, field=field, row=row)


def field_block(field: Field, raws: Sequence[Buffer | Items | None], choose: Choose) -> FieldBlock:
    """Compress and checksum the encoded values of one field, one for every record."""
    if field.is_sequence:
        return _sequence_block(field, cast("Sequence[Items | None]", raws), choose)
    return _value_block(field, cast("Sequence[Buffer | None]", raws), choose)


def _sequence_block(field: Field, given: Sequence[Items | None], choose: Choose) -> FieldBlock:
    count = len(given)
    method = choose(field, [raw for one in given if one is not None for raw in one.raws])
    filled = [_NOTHING if one is None else pack(one.raws, method) for one in given]
    present = np.fromiter((one is not None for one in given), bool, count)
    number, _ = method
    values = Values(
        present=present,
        offset=np.zeros(count, np.uint32),
        length=np.fromiter((len(one) for one in filled), np.uint32, count),
        raw_length=np.fromiter((one.raw_length for one in filled), np.uint32, count),
        items=np.fromiter((one.items for one in filled), np.uint32, count),
        crc=np.fromiter((one.crc for one in filled), np.uint32, count),
        compression=np.where(present, number, 0).astype(np.uint8),
    )
    return FieldBlock([one.body for one in filled], values)


def _value_block(field: Field, raws: Sequence[Buffer | None], choose: Choose) -> FieldBlock:
    count = len(raws)
    present = np.fromiter((raw is not None for raw in raws), bool, count)
    filled = [b"" if raw is None else raw for raw in raws]
    bodies, compression = compress_many(filled, *choose(field, filled))
    zeros = np.zeros(count, np.uint32)
    values = Values(
        present=present,
        offset=zeros,
        length=np.fromiter(map(len, bodies), np.uint32, count),
        raw_length=np.fromiter(map(len, filled), np.uint32, count),
        items=zeros,
        crc=np.fromiter(map(zlib.crc32, bodies), np.uint32, count),
        compression=compression,
    )
    return FieldBlock(bodies, values)


def duplicate_key(schema: Schema, key: SqlValue, **where: object) -> DuplicateKeyError:
    """Return the error for a key that is there already."""
    return DuplicateKeyError(f"the key {schema.key} = {key!r} is there already", **where)
