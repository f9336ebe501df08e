"""The tables of the index, declared with SQLAlchemy.

Imported only where tables are created or expressions are compiled: reading needs no SQLAlchemy.
The fixed tables are under Alembic (`migrations/`); `records` follows the schema of the store.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BLOB,
    BOOLEAN,
    INTEGER,
    REAL,
    TEXT,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    func,
    type_coerce,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from sqlstore.columns import ColumnType, column_type
from sqlstore.errors import QueryError
from sqlstore.index.values import bindable_for
from sqlstore.schema import Schema

METADATA: Final = MetaData()


def _integer(name: str) -> Column[int]:
    return Column(name, INTEGER, nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, TEXT, nullable=False)


Table(
    "store",
    METADATA,
    Column("only", INTEGER, CheckConstraint("only = 1", name="only_one_row"), primary_key=True),
    _text("uuid"),
    _integer("format_version"),
    _integer("min_reader"),
    _integer("generation"),
    _integer("next_record_id"),
    _integer("schema_version"),
    _integer("chunk_size"),
    _integer("created_at"),
    _text("library_version"),
    _integer("checkpoint"),
    sqlite_strict=True,
)
Table(
    "fields",
    METADATA,
    Column("number", INTEGER, primary_key=True),
    Column("name", TEXT, nullable=False, unique=True),
    _text("encoding"),
    Column("compression", TEXT),
    _integer("position"),
    sqlite_strict=True,
)
Table(
    "columns",
    METADATA,
    Column("number", INTEGER, primary_key=True),
    Column("name", TEXT, nullable=False, unique=True),
    _text("type"),
    _integer("nullable"),
    _integer("indexed"),
    _integer("is_key"),
    _integer("position"),
    sqlite_strict=True,
)
Table(
    "chunks",
    METADATA,
    Column("chunk", INTEGER, primary_key=True),
    Column("name", TEXT, nullable=False, unique=True),
    _text("uuid"),
    _integer("size"),
    _integer("sealed"),
    _integer("retired"),
    sqlite_strict=True,
)
Table(
    "commits",
    METADATA,
    Column("number", INTEGER, primary_key=True),
    _text("uuid"),
    _integer("kind"),
    _integer("chunk"),
    _integer("offset"),
    _integer("committed_at"),
    _integer("first_record"),
    _integer("records"),
    sqlite_strict=True,
)
Table(
    "blobs",
    METADATA,
    _integer("field"),
    _integer("record"),
    _integer("chunk"),
    _integer("offset"),
    _integer("length"),
    _integer("raw_length"),
    _integer("compression"),
    _integer("items"),
    _integer("checksum"),
    PrimaryKeyConstraint("field", "record"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Table(
    "dictionaries",
    METADATA,
    Column("number", INTEGER, primary_key=True),
    _integer("field"),
    _integer("chunk"),
    _integer("offset"),
    _integer("length"),
    _integer("crc"),
    sqlite_strict=True,
)
Table(
    "subsets",
    METADATA,
    Column("number", INTEGER, primary_key=True),
    Column("name", TEXT, nullable=False, unique=True),
    Column("sql", TEXT),
    Column("parameters", TEXT),
    Column("note", TEXT),
    _integer("records"),
    _text("fingerprint"),
    _text("content"),
    _integer("saved_at"),
    sqlite_strict=True,
)
Table(
    "subset_records",
    METADATA,
    Column("subset", INTEGER, ForeignKey("subsets.number", ondelete="CASCADE"), nullable=False),
    _integer("position"),
    _integer("record"),
    PrimaryKeyConstraint("subset", "position"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Table(
    "alembic_version",
    METADATA,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class _Declared(TypeDecorator[Any]):
    """A declared column type for SQLAlchemy: converts what a column is compared with."""

    def __init__(self, name: str, kind: ColumnType) -> None:
        super().__init__()
        self.name = name  # what SQLAlchemy tells types apart by
        self._kind = kind

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy names the parameter
        """Return what SQLite stores for the value."""
        return bindable_for(value, self._kind)

    def coerce_compared_value(self, op: Any, value: Any) -> Any:  # noqa: ARG002 - SQLAlchemy names the parameter
        """Convert what a column is compared with as its own values are."""
        return self


class _JsonComparator(TypeDecorator.Comparator[Any], TEXT.Comparator[Any]):
    """What is asked of JSON: a part by its key or number, and that part as what it is."""

    def __getitem__(self, index: Any) -> Any:
        """Return what stands under a key, at a number, or behind several of them in a row."""
        steps = index if isinstance(index, (tuple, list)) else [index]
        path = "$" + "".join(map(_json_step, steps))
        return func.json_extract(self.expr, path, type_=self.type)

    def as_integer(self) -> Any:
        """Return a part that is known to be an integer."""
        return type_coerce(self.expr, INTEGER())

    def as_float(self) -> Any:
        """Return a part that is known to be a number."""
        return type_coerce(self.expr, REAL())

    def as_string(self) -> Any:
        """Return a part that is known to be text."""
        return type_coerce(self.expr, TEXT())

    def as_boolean(self) -> Any:
        """Return a part that is known to be true or false, which are 1 and 0 for SQLite."""
        return type_coerce(self.expr, BOOLEAN())


def _json_step(step: Any) -> str:
    if isinstance(step, int) and not isinstance(step, bool):
        return f"[{step}]" if step >= 0 else f"[#{step}]"
    if isinstance(step, str) and '"' not in step:
        return f'."{step}"'
    raise QueryError(f"{step!r} is no place in JSON: a key without quotes in it, or an integer")


class _Integer(_Declared):
    cache_ok = True
    impl = INTEGER


class _Real(_Declared):
    cache_ok = True
    impl = REAL


class _Text(_Declared):
    cache_ok = True
    impl = TEXT


class _Json(_Declared):
    cache_ok = True
    impl = TEXT
    comparator_factory = _JsonComparator


class _Blob(_Declared):
    cache_ok = True
    impl = BLOB


_STORAGE: Final = {"INTEGER": _Integer, "REAL": _Real, "TEXT": _Text, "BLOB": _Blob}


def _type_of(kind: ColumnType) -> _Declared:
    made = _Json if kind.name == "json" else _STORAGE[kind.storage]
    return made(kind.name, kind)


def records_table(schema: Schema) -> Table:
    """Return the table with a row per record and a real column per metadata column.

    Floating-point columns are nullable for SQLite even where a value is required, because NaN is
    NULL there.
    """
    columns: list[Column[Any]] = [
        Column(
            column.name,
            _type_of(column.kind),
            nullable=column.nullable or column.kind.storage == "REAL",
        )
        for column in schema.columns.values()
    ]
    table = Table(
        "records",
        MetaData(),
        Column("id", _Integer("int64", column_type("int64")), primary_key=True),
        *columns,
        sqlite_strict=True,
    )
    for column in schema.columns.values():
        if column.index or column.name == schema.key:
            Index(
                f"{'key' if column.name == schema.key else 'index'}_{column.number}",
                table.c[column.name],
                unique=column.name == schema.key,
            )
    return table
