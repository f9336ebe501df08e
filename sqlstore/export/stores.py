"""A store of its own from some records: bytes are copied as they are stored.

No value is decompressed, decoded or encoded. Where a value lies, its record id, and the numbers of
fields and dictionaries are made anew; its bytes, their checksum and their compression stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.batch import Block, FieldBlock
from sqlstore.cache import locations
from sqlstore.commit import Committer
from sqlstore.dictionaries import FIRST
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
from sqlstore.staged import StagedAppend, StagedDictionary
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
            copier = _Copier(source, fields, columns, schema, committer)
            for some in portions(source, ids, fields, _AT_ONCE):
                copier.append(some)
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


class _Copier:
    """Appends records of one store to another, commit by commit."""

    def __init__(
        self,
        source: Source,
        fields: Sequence[Field],
        columns: Sequence[Column],
        schema: Schema,
        committer: Committer,
    ) -> None:
        self._source = source
        self._fields = fields
        self._columns = columns
        self._schema = schema
        self._committer = committer
        self._numbers: NDArray[np.uint8] = np.arange(256, dtype=np.uint8)
        self._copied: dict[int, int] = {}

    def append(self, ids: range | Ids) -> None:
        """Commit copies of records."""
        fields = {
            number: self._field(number, field, ids) for number, field in enumerate(self._fields)
        }
        metadata = self._source.metadata(ids, self._columns)
        arrays = [pa.concat_arrays(pieces) for pieces in metadata]
        sql = [c.kind.to_sql(array) for c, array in zip(self._columns, arrays, strict=True)]
        block = Block(len(ids), fields, dict(enumerate(arrays)), list(sql))
        self._committer.commit(StagedAppend(block, self._schema), lambda _: None)

    def _field(self, number: int, field: Field, ids: range | Ids) -> FieldBlock:
        rows, bodies = self._source.as_stored(ids, field)
        values = locations.values_of(rows)
        for used in np.unique(values.compression[values.compression >= FIRST]).tolist():
            self._copy_dictionary(used, number)
        return FieldBlock(bodies, replace(values, compression=self._numbers[values.compression]))

    def _copy_dictionary(self, used: int, field: int) -> None:
        """Commit a copy of a dictionary before the first value that was compressed with it."""
        if used in self._copied:
            return
        number = len(self._copied)
        data = self._source.dictionary(used - FIRST)
        self._committer.commit(StagedDictionary(number, field, data), lambda _: None)
        self._copied[used] = number
        self._numbers[used] = FIRST + number
