"""A store of its own from some records: bytes are copied as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from sqlstore import limits
from sqlstore.commit import Committer
from sqlstore.copied import Copied, DictionaryNumbers
from sqlstore.errors import DuplicateKeyError, SchemaError
from sqlstore.export.beside import place_of
from sqlstore.export.report import Exported
from sqlstore.founding import check_free, founded
from sqlstore.log import files
from sqlstore.portions import portions
from sqlstore.positions import has_repeats
from sqlstore.progress import counted
from sqlstore.schema import Column, Field, Schema
from sqlstore.source import Source
from sqlstore.staged import StagedAppend
from sqlstore.types import Ids, StrPath

_AT_ONCE: Final = 4 * limits.COMMIT_RECORDS


def copy(
    source: Source,
    ids: range | Ids,
    fields: Sequence[Field],
    columns: Sequence[Column],
    path: StrPath,
) -> Exported:
    """Copy records into a new store; see `Tables.export_store`."""
    place_of(path, source.root)  # not inside of itself
    target = Path(path).absolute()
    check_free(target)
    schema = _restricted(fields, columns, source.schema.key)
    if schema.key is not None and has_repeats(ids):
        raise DuplicateKeyError(
            f"the view has a record twice, and {schema.key!r} is unique; leave it out by `select`"
        )
    chunk_size = source.finder.identity.chunk_size
    with founded(target, schema, chunk_size) as folder:
        with (
            closing(Committer(folder)) as committer,
            counted(len(ids), "copying", "records") as advance,
        ):
            dictionaries = DictionaryNumbers(committer)
            copied = Copied(source, fields, columns, schema, dictionaries)
            for some in portions(source, ids, fields, _AT_ONCE):
                staged = StagedAppend(copied.block(some), schema)
                dictionaries.commit(committer)
                committer.commit(staged, lambda _: None)
                advance(len(some))
        sizes = [files.chunk_size(folder, name) or 0 for name in files.chunk_names(folder)]
    return Exported(len(ids), len(sizes), sum(sizes))


def _restricted(fields: Sequence[Field], columns: Sequence[Column], key: str | None) -> Schema:
    """Return the schema of a store with only these fields and columns, numbered anew."""
    if not fields and not columns:
        raise SchemaError("a store needs at least one field or metadata column; select some")
    return Schema(
        {field.name: replace(field, number=i) for i, field in enumerate(fields)},
        {column.name: replace(column, number=i) for i, column in enumerate(columns)},
        key if any(column.name == key for column in columns) else None,
    )
