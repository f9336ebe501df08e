"""What a commit brings, on its way into a chunk and into the index: records, or a dictionary."""

from __future__ import annotations

import sqlite3
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import pyarrow as pa

from sqlstore import replay
from sqlstore.batch import Block, duplicate_key
from sqlstore.errors import CorruptIndexError, SchemaError, SqlstoreError, StoreBusyError
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.log import dictionary
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.segment import TRAILER_SIZE, CommitKind, Trailer, align
from sqlstore.log.table import Values, build_append
from sqlstore.schema import Schema
from sqlstore.types import Buffer


class Staged(ABC):
    """The content of one commit.

    Attributes
    ----------
    kind, skippable
        As in its trailer.
    count
        How many records it appends.
    bodies_end, table
        Where the bodies end, and the segment table, once it is laid out.
    """

    kind: ClassVar[CommitKind]
    skippable: ClassVar[bool] = False
    count: int = 0
    bodies_end: int
    table: pa.Buffer

    @property
    def end(self) -> int:
        """Return where its segment ends."""
        return align(self.bodies_end) + int(self.table.size) + TRAILER_SIZE

    @abstractmethod
    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""

    @abstractmethod
    def bodies(self) -> Iterable[Buffer]:
        """Return its bodies, in order."""

    @abstractmethod
    def insert(self, index: Index, trailer: Trailer) -> None:
        """Insert its rows but for that of the commit itself.

        Raises
        ------
        sqlite3.IntegrityError
            A constraint does not allow it.
        """

    @abstractmethod
    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return the error that says what a constraint does not allow."""


class StagedAppend(Staged):
    """Records to be appended."""

    kind = CommitKind.APPEND

    def __init__(self, block: Block, schema: Schema) -> None:
        self.count = block.count
        self._block = block
        self._schema = schema
        self._values: dict[int, Values] = {}

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        for number, one in self._block.fields.items():
            self._values[number], start = one.values.laid_out(start)
        self.bodies_end = start
        self.table = build_append(self._values, self._block.columns)

    def bodies(self) -> Iterable[Buffer]:
        """Return the values, field by field."""
        return (body for one in self._block.fields.values() for body in one.bodies)

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Insert the rows of the records."""
        replay.insert_append(index, self._schema, trailer, self._values, self._block.sql)

    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return the error that says which record a constraint does not allow."""
        schema = self._schema
        if schema.key is not None:
            position = list(schema.columns).index(schema.key)
            seen = set()
            for row, key in enumerate(self._block.sql[position]):
                other = records.id_of_key(index, schema.key, key)
                if other is not None or key in seen:
                    where = {} if other is None else {"record": other}
                    return duplicate_key(schema, key, row=row, **where)
                seen.add(key)
        if "records.id" in str(error) or "blobs." in str(error):
            return CorruptIndexError(
                f"the index has rows of records that were never committed ({error}); "
                f"run `sqlstore rebuild {index.path.parent}`"
            )
        return SchemaError(f"the store does not allow these records: {error}")


class StagedDictionary(Staged):
    """A dictionary for compression.

    Parameters
    ----------
    number
        The one that is believed to be free: another writer may take it first.
    field
        Number of the field that it was trained for.
    data
        The dictionary.
    """

    kind = CommitKind.DICTIONARY
    # Who does not know dictionaries can read everything but the values that need one.
    skippable = True

    def __init__(self, number: int, field: int, data: bytes) -> None:
        self._number = number
        self._field = field
        self._data = data
        self._start = 0

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        self._start = start
        self.bodies_end = start + len(self._data)
        self.table = dictionary.build(self._number, self._field, start, self._data)

    def bodies(self) -> Iterable[Buffer]:
        """Return the dictionary."""
        return [self._data]

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Insert the row of the dictionary."""
        crc = zlib.crc32(self._data)
        place = DictionaryPlace(
            self._number, self._field, trailer.chunk, self._start, len(self._data), crc
        )
        replay.insert_dictionary(index, place)

    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return that another writer has made a dictionary of this number."""
        if "dictionaries." in str(error):
            return NumberTakenError(f"{index.path} has dictionary {self._number} already")
        return CorruptIndexError(
            f"the index does not allow a commit ({error}); "
            f"run `sqlstore rebuild {index.path.parent}`"
        )


class NumberTakenError(StoreBusyError):
    """Another writer has committed a dictionary meanwhile; with the next number it is no harm."""
