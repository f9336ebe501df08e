"""What a record consists of: fields, whose bytes lie in chunks, and typed metadata columns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, TypeGuard

import pyarrow as pa

from sqlstore import limits
from sqlstore.columns import ColumnType, column_type
from sqlstore.compression import CHOICES
from sqlstore.encodings import ENCODINGS, Encodings
from sqlstore.errors import SchemaError, UnknownNameError

ID: Final = "id"
"""What the record id is called beside fields and metadata columns."""

RESERVED_NAMES: Final = {
    **dict.fromkeys((ID, "rowid", "oid", "_rowid_"), "the record id"),
    # SQLite forgets these names, quoted or not, where a column is looked up in a view.
    **dict.fromkeys(("true", "false"), "a constant of SQL"),
}
"""Names that nobody can use, and what they mean."""

DEFAULT: Final = "default"
_SEQUENCE: Final = "[]"


@dataclass(frozen=True)
class Field:
    """A field of a record: one value of any size, encoded to bytes that lie in a chunk.

    Parameters
    ----------
    encoding
        How values become bytes, such as ``"utf8"``, ``"array"`` or ``"jpg"``; with ``[]`` behind it
        for a sequence of them. `help(sqlstore.encodings)` has all.
    compression
        ``"lz4"``, ``"zstd"``, ``"gzip"`` or None; ``"dictionary"`` for small values that are alike,
        which needs the package zstandard. The default is the store's own.
    name, number
        Given by the store; numbers are never reused.
    """

    encoding: str
    compression: str | None = DEFAULT
    name: str = field(default="", kw_only=True)
    number: int = field(default=-1, kw_only=True)

    @property
    def is_sequence(self) -> bool:
        """Return whether a value is a sequence of items."""
        return self.encoding.endswith(_SEQUENCE)

    @property
    def item_encoding(self) -> str:
        """Return the encoding of the value, or of each item of a sequence."""
        return self.encoding.removesuffix(_SEQUENCE)


@dataclass(frozen=True)
class Column:
    """A metadata column: one typed value per record, kept in SQLite and queryable there.

    Parameters
    ----------
    type
        The declared type, as text such as ``"int32"`` or ``"timestamp[us, UTC]"``, or as an Arrow
        type. See `sqlstore.columns` for all of them.
    index
        Make an SQL index on this column.
    nullable
        Whether a record may leave the value out.
    name, number
        Given by the store; numbers are never reused.
    """

    type: str | pa.DataType
    index: bool = False
    nullable: bool = True
    name: str = field(default="", kw_only=True)
    number: int = field(default=-1, kw_only=True)

    @cached_property
    def kind(self) -> ColumnType:
        """What Python, Arrow and SQLite make of the declared type."""
        return column_type(self.type)


@dataclass(frozen=True)
class Schema:
    """The fields and metadata columns of a store, by name and in order.

    Attributes
    ----------
    fields, columns
        What was declared, in the order in which it was declared.
    key
        The metadata column that is unique, or None.
    version
        Number of the commit that last changed the schema; 0 if none did since the store was made.
    next_column
        The number that the next metadata column gets.
    """

    fields: Mapping[str, Field]
    columns: Mapping[str, Column]
    key: str | None = None
    version: int = 0
    next_column: int = field(default=0, compare=False)

    @cached_property
    def names(self) -> frozenset[str]:
        """Return the names of all fields and metadata columns."""
        return frozenset(self.fields) | frozenset(self.columns)

    @cached_property
    def arrow(self) -> pa.Schema:
        """Return the Arrow schema of the metadata: ``id``, then every column."""
        columns = [pa.field(c.name, c.kind.arrow, nullable=True) for c in self.columns.values()]
        return pa.schema([pa.field("id", pa.int64(), nullable=False), *columns])

    def field(self, name: str) -> Field:
        """Return the field of this name.

        Raises
        ------
        UnknownNameError
            There is no such field.
        """
        try:
            return self.fields[name]
        except KeyError:
            if name not in self.columns:
                raise self.unknown([name]) from None
            raise UnknownNameError(
                f"{name!r} is a metadata column, not a field; "
                f"fields are {', '.join(self.fields) or '-'}"
            ) from None

    def column(self, name: str) -> Column:
        """Return the metadata column of this name.

        Raises
        ------
        UnknownNameError
            There is no such column.
        """
        try:
            return self.columns[name]
        except KeyError:
            if name not in self.fields:
                raise self.unknown([name]) from None
            raise UnknownNameError(
                f"{name!r} is a field, not a metadata column; "
                f"metadata columns are {', '.join(self.columns) or '-'}"
            ) from None

    def unknown(self, names: Iterable[str], **where: object) -> UnknownNameError:
        """Return the error for names that are neither field nor metadata column."""
        wrong = ", ".join(f"{name!r}{self._resembling(name)}" for name in names)
        return UnknownNameError(
            f"no field or metadata column is named {wrong}; "
            f"fields are {', '.join(self.fields) or '-'}, "
            f"metadata columns are {', '.join(self.columns) or '-'}",
            **where,
        )

    def _resembling(self, name: object) -> str:
        near = difflib.get_close_matches(str(name), (*self.fields, *self.columns), 1)
        return f" (do you mean {near[0]!r}?)" if near else ""


def declare(
    fields: Mapping[str, str | Field],
    metadata: Mapping[str, str | pa.DataType | Column],
    key: str | None,
    compression: str | None,
    encodings: Encodings,
) -> Schema:
    """Return the schema that a user's declaration means.

    Raises
    ------
    SchemaError
        A name, type, encoding or compression is not valid.
    """
    for given, what, example in (
        (fields, "fields", '{"image": "png"}'),
        (metadata, "metadata", '{"label": "string"}'),
    ):
        if not isinstance(given, Mapping):
            raise SchemaError(f"{what} is a mapping such as {example}, not {given!r}")
    _check_names([*fields, *metadata])
    schema = Schema(
        {
            name: _field(name, number, given, compression, encodings)
            for number, (name, given) in enumerate(fields.items())
        },
        {
            name: _column(name, number, given, is_key=name == key)
            for number, (name, given) in enumerate(metadata.items())
        },
        key,
        next_column=len(metadata),
    )
    if key is not None:
        _check_key(schema, key)
    return schema


def with_column(before: Schema, name: str, given: str | pa.DataType | Column) -> Schema:
    """Return a schema with one more metadata column, which the records that are there lack.

    Raises
    ------
    SchemaError
        The name or type is not valid, or the column may not be missing.
    """
    _check_names([*before.names, name])
    column = _column(name, before.next_column, given, is_key=False)
    if not column.nullable:
        message = "the records that are there have no value of it, so it has to be nullable"
        raise SchemaError(message, column=name)
    columns = {**before.columns, name: column}
    return replace(before, columns=columns, next_column=before.next_column + 1)


def without_column(before: Schema, name: str) -> Schema:
    """Return a schema without a metadata column.

    Raises
    ------
    UnknownNameError
        There is no such column.
    SchemaError
        It is the key, or all that the schema has.
    """
    gone = before.column(name)
    if name == before.key:
        raise SchemaError("the key cannot be dropped", column=name)
    if len(before.names) == 1:
        raise SchemaError("a store needs at least one field or metadata column", column=name)
    columns = {n: c for n, c in before.columns.items() if c is not gone}
    return replace(before, columns=columns)


def with_renamed(before: Schema, name: str, new_name: str) -> Schema:
    """Return a schema in which a metadata column has another name."""
    column = before.column(name)
    _check_names([*(before.names - {name}), new_name])
    columns = {
        (new_name if n == name else n): replace(column, name=new_name) if n == name else c
        for n, c in before.columns.items()
    }
    return replace(before, columns=columns, key=new_name if name == before.key else before.key)


def with_index(before: Schema, name: str, *, is_indexed: bool) -> Schema:
    """Return a schema in which a metadata column has an SQL index, or has none.

    Raises
    ------
    UnknownNameError
        There is no such column.
    SchemaError
        That is so already, or the column is the key.
    """
    column = before.column(name)
    if name == before.key:
        raise SchemaError("the key has an index of its own, always", column=name)
    if column.index == is_indexed:
        known = "an index already" if is_indexed else "no index to drop"
        raise SchemaError(f"there is {known}", column=name)
    return replace(before, columns={**before.columns, name: replace(column, index=is_indexed)})


def _field(
    name: str, number: int, given: str | Field, compression: str | None, encodings: Encodings
) -> Field:
    declared = given if isinstance(given, Field) else Field(given)
    if declared.compression == DEFAULT:
        declared = replace(declared, compression=compression)
    if not isinstance(declared.encoding, str):
        raise SchemaError(
            f"{declared.encoding!r} is not the name of an encoding; "
            f"the encodings are {', '.join(ENCODINGS)}",
            field=name,
        )
    encodings.of(declared.item_encoding, name)
    if declared.compression not in CHOICES:
        known = ", ".join(str(known) for known in CHOICES)
        raise SchemaError(
            f"{declared.compression!r} is not a compression; the compressions are {known}",
            field=name,
        )
    return replace(declared, name=name, number=number)


def _column(name: str, number: int, given: str | pa.DataType | Column, *, is_key: bool) -> Column:
    declared = given if isinstance(given, Column) else Column(given)
    nullable = declared.nullable and not is_key
    try:
        type_name = column_type(declared.type).name
    except SchemaError as error:
        misplaced = str(declared.type).removesuffix("[]") in ENCODINGS or isinstance(given, Field)
        hint = "; encodings belong to `fields`" if misplaced else ""
        raise SchemaError(f"{error.message}{hint}", column=name) from error
    return replace(declared, type=type_name, nullable=nullable, name=name, number=number)


def _check_key(schema: Schema, key: str) -> None:
    if key not in schema.columns:
        raise SchemaError(f"the key {key!r} is not a metadata column")
    if not schema.columns[key].kind.can_be_key:
        raise SchemaError(f"a {schema.columns[key].type} column cannot be the key", column=key)


def check_stored(fields: Sequence[Field], columns: Sequence[Column], key: str | None) -> None:
    """Raise unless this is what a declaration can have become, also after it was changed.

    The types of columns, and the encodings, are looked at where they are needed: what is not known
    here may be known elsewhere.

    Raises
    ------
    SchemaError
        A name, number, compression or key cannot be.
    """
    _check_names([*(f.name for f in fields), *(c.name for c in columns)])
    for given in ([f.number for f in fields], [c.number for c in columns]):
        if len(set(given)) < len(given) or min(given, default=0) < 0:
            raise SchemaError("two have one number, or one has a number below zero")
    if wrong := [one.compression for one in fields if one.compression not in CHOICES]:
        raise SchemaError(f"{wrong[0]!r} is not a compression")
    if not fields and not columns:
        raise SchemaError("there is neither field nor column")
    for column in columns:
        if column.name == key and not column.kind.can_be_key:
            raise SchemaError(f"a {column.type} column cannot be the key", column=key)


def is_name(name: object) -> TypeGuard[str]:
    """Return whether this is printable text without outer spaces."""
    return isinstance(name, str) and bool(name) and name == name.strip() and name.isprintable()


def _check_names(names: Sequence[object]) -> None:
    if len(names) > limits.MAX_COLUMNS:
        raise SchemaError(f"{len(names)} fields and columns; the limit is {limits.MAX_COLUMNS}")
    seen: dict[str, str] = {}
    for name in names:
        if not is_name(name):
            raise SchemaError(f"{name!r} is not a name: printable text without outer spaces")
        if len(name) > limits.MAX_NAME_LENGTH:
            raise SchemaError(f"the name {name[:20]!r}... is longer than {limits.MAX_NAME_LENGTH}")
        if any(character in name for character in "\"`[]'"):
            raise SchemaError(f"the name {name!r} has a quote or bracket in it")
        folded = name.casefold()
        if folded in RESERVED_NAMES:
            raise SchemaError(f"the name {name!r} is reserved for {RESERVED_NAMES[folded]}")
        if folded in seen:
            other = "" if seen[folded] == name else f" (as {seen[folded]!r}; case is ignored)"
            raise SchemaError(f"the name {name!r} is there twice{other}")
        seen[folded] = name
