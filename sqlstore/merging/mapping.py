"""How the fields and columns of sources become those of the target: by name, without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from sqlstore.columns import ColumnType, column_type
from sqlstore.errors import SchemaError
from sqlstore.merging.parts import Part
from sqlstore.schema import Column, Field, Schema, with_column

_WIDER: Final = ("int16", "int32", "int64", "float32", "float64")
"""What two types may become that are not each other's; the narrowest first."""

_ADDS: Final = "add_missing=True adds it"
_LEFT_OUT: Final = (
    "fields are added only where the target is new, by add_missing=True; a view that does not "
    "select it leaves it out"
)


def united(parts: Sequence[Part], *, add_missing: bool) -> Schema:
    """Return the schema of a new store that takes all parts.

    It is that of the first one, with types as wide as the others need, and what they lack may be
    missing.

    Parameters
    ----------
    add_missing
        Whether fields and columns that only later parts have are added.

    Raises
    ------
    SchemaError
        A part has something else under a name, something that the first one lacks, or no key.
    """
    first = parts[0]
    fields, columns = dict(first.fields), dict(first.columns)
    key = first.source.schema.key
    key = key if key in columns else None
    for part in parts[1:]:
        known = Schema(fields, columns)
        for name, field in part.fields.items():
            if name not in fields:
                _refuse_missing(part, known, name, "field", may_add=add_missing, hint=_ADDS)
            fields[name] = _same_field(part, fields.get(name, field), field)
        for name, column in part.columns.items():
            if name not in columns:
                _refuse_missing(part, known, name, "column", may_add=add_missing, hint=_ADDS)
                columns[name] = replace(column, nullable=True)
            else:
                columns[name] = _widened(part, columns[name], column)
        for name in columns.keys() - part.columns.keys():
            columns[name] = replace(columns[name], nullable=True)
    if key is not None:
        columns[key] = replace(columns[key], nullable=False)
    if not fields and not columns:
        raise SchemaError("a store needs at least one field or metadata column")
    _refuse_alike(parts, fields, columns)
    schema = Schema(
        {name: replace(field, number=i) for i, (name, field) in enumerate(fields.items())},
        {name: replace(column, number=i) for i, (name, column) in enumerate(columns.items())},
        key,
        next_column=len(columns),
    )
    check_required(schema, parts)
    return schema


def extended(schema: Schema, parts: Sequence[Part], *, add_missing: bool) -> Schema:
    """Return the schema of a store that is there once it has taken all parts.

    Parameters
    ----------
    add_missing
        Whether columns that the store lacks are added, empty for the records that are there.

    Raises
    ------
    SchemaError
        A part has something else under a name, something that the store lacks, or nothing where the
        store requires a value.
    """
    for part in parts:
        for name, field in part.fields.items():
            if name not in schema.fields:
                _refuse_missing(part, schema, name, "field", may_add=False, hint=_LEFT_OUT)
            _same_field(part, schema.fields[name], field)
        for name, column in part.columns.items():
            if name not in schema.columns:
                _refuse_missing(part, schema, name, "column", may_add=add_missing, hint=_ADDS)
                schema = _added(schema, part, column)
            elif not _widens(column.kind, schema.columns[name].kind):
                raise _misfit(part, schema.columns[name], column)
    check_required(schema, parts)
    return schema


def check_required(schema: Schema, parts: Sequence[Part]) -> None:
    """Raise if a part lacks a value that is required.

    Raises
    ------
    SchemaError
        It lacks the column, or has a null in it.
    """
    for part in parts:
        for name, column in schema.columns.items():
            if column.nullable:
                continue
            what = "is the key" if name == schema.key else "may not be missing"
            own = part.columns.get(name)
            if own is None:
                raise _error(part, f"it has no column {name!r}, which {what} in the target")
            if _has_null(part, own):  # whatever it declares: the log may say otherwise
                raise _error(part, f"column {name!r}, which {what} in the target, has nulls")


def _has_null(part: Part, column: Column) -> bool:
    (pieces,) = part.source.metadata(part.ids, [column])
    return any(piece.null_count for piece in pieces)


def _added(schema: Schema, part: Part, column: Column) -> Schema:
    declared = Column(column.type, index=column.index)
    try:
        return with_column(schema, column.name, declared)
    except SchemaError as error:  # another spelling of a name that is there
        raise _error(part, error.message) from error


def _same_field(part: Part, known: Field, field: Field) -> Field:
    if known.encoding != field.encoding:
        raise _error(
            part, f"field {field.name!r} is {field.encoding}, in the target it is {known.encoding}"
        )
    return known


def _widened(part: Part, known: Column, column: Column) -> Column:
    """Return a column that holds the values of both."""
    kinds = known.kind, column.kind
    for kind in (*kinds, *map(column_type, _WIDER)):
        if all(_widens(one, kind) for one in kinds):
            return replace(known, type=kind.name, nullable=known.nullable or column.nullable)
    raise _misfit(part, known, column)


def _widens(narrow: ColumnType, wide: ColumnType) -> bool:
    """Return whether every value of one type is, exactly, one of the other."""
    if narrow.name == wide.name:
        return True
    if (have := _number(narrow)) and (need := _number(wide)):
        is_exact = need.kind != "f" or have.kind == "f" or have.itemsize < 8
        return bool(np.can_cast(have, need)) and is_exact
    # A zone only says how to show an instant.
    zones = [getattr(kind.arrow, "tz", None) for kind in (narrow, wide)]
    return all(zone is not None for zone in zones)


def _number(kind: ColumnType) -> np.dtype[np.generic] | None:
    is_number = kind.name.startswith(("int", "uint", "float"))
    return np.dtype(kind.name) if is_number else None


def _refuse_missing(
    part: Part, known: Schema, name: str, what: str, *, may_add: bool, hint: str
) -> None:
    other = "column" if what == "field" else "field"
    if name in known.names:
        raise _error(part, f"{name!r} is a {what}, in the target it is a {other}")
    if not may_add:
        raise _error(part, f"the target has no {what} {name!r}; {hint}")


def _refuse_alike(
    parts: Sequence[Part], fields: Mapping[str, Field], columns: Mapping[str, Column]
) -> None:
    """Refuse names of several parts that differ in case only."""
    seen: dict[str, str] = {}
    for name in (*fields, *columns):
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            part = next(one for one in parts if name in {*one.fields, *one.columns})
            raise _error(part, f"the name {name!r} is there as {other!r}; case is ignored")


def _misfit(part: Part, known: Column, column: Column) -> SchemaError:
    return _error(
        part,
        f"column {column.name!r} is {column.type}, in the target it is {known.type}, which does "
        "not hold all of its values",
    )


def _error(part: Part, message: str) -> SchemaError:
    return SchemaError(message, source=part.name)
