"""Records of one store on their way into another: their bytes are copied as they are stored.

No value is decompressed, decoded or encoded. Where a value lies, its record id, and the numbers of
fields and dictionaries are made anew; its bytes, their checksum and their compression stay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore.batch import Block, FieldBlock
from sqlstore.cache import locations
from sqlstore.commit import Committer
from sqlstore.compression import NAMES
from sqlstore.compressors import dictionary_at
from sqlstore.dictionaries import FIRST, MOST
from sqlstore.errors import CorruptStoreError, DecodeError, MergeError
from sqlstore.index import dictionaries
from sqlstore.index.engine import Index
from sqlstore.log.reader import ChunkReader
from sqlstore.schema import Column, Field, Schema
from sqlstore.source import Source
from sqlstore.staged import StagedDictionary
from sqlstore.types import Ids


class Copied:
    """Makes records of one store into blocks that can be committed to another.

    Parameters
    ----------
    source
        Where they are read.
    fields, columns
        Which field or column of the source each one of the schema is, in its order; None for one
        that the source does not have.
    schema
        That of the other store.
    dictionaries
        Those of the other store.
    """

    def __init__(
        self,
        source: Source,
        fields: Sequence[Field | None],
        columns: Sequence[Column | None],
        schema: Schema,
        dictionaries: DictionaryNumbers,
    ) -> None:
        self._source = source
        self._fields = list(zip(schema.fields.values(), fields, strict=True))
        self._columns = list(zip(schema.columns.values(), columns, strict=True))
        self._dictionaries = dictionaries
        self._numbers: dict[tuple[int, int], int] = {}

    def block(self, ids: range | Ids) -> Block:
        """Return records as a block.

        Raises
        ------
        ChecksumError
            A value is not what was written.
        """
        fields = {to.number: self._field(to, field, ids) for to, field in self._fields}
        known = [column for _, column in self._columns if column is not None]
        pieces = iter(self._source.metadata(ids, known))
        arrays = {
            to.number: pa.nulls(len(ids), to.kind.arrow)
            if column is None
            else pa.concat_arrays(next(pieces)).cast(to.kind.arrow)
            for to, column in self._columns
        }
        sql = [to.kind.to_sql(arrays[to.number]) for to, _ in self._columns]
        return Block(len(ids), fields, arrays, list(sql))

    def _field(self, to: Field, field: Field | None, ids: range | Ids) -> FieldBlock:
        if field is None:
            bodies: list[memoryview] = []
            rows = np.zeros((len(ids), locations.ROW_SIZE // 4), np.uint32)
            rows[:, locations.COMPRESSION] = locations.ABSENT
        else:
            rows, bodies = self._source.as_stored(ids, field)
        values = locations.values_of(rows)
        renumbered = self._renumbered(values.compression, to)
        return FieldBlock(bodies, replace(values, compression=renumbered))

    def _renumbered(self, compression: NDArray[np.uint8], to: Field) -> NDArray[np.uint8]:
        """Return the same compressions with the other store's numbers of the dictionaries."""
        unknown = compression[(compression < FIRST) & (compression >= len(NAMES))]
        if len(unknown):
            raise DecodeError(f"compression {unknown[0]} is not known", field=to.name)
        numbers = np.arange(256, dtype=np.uint8)
        for used in np.unique(compression[compression >= FIRST]).tolist():
            if (to.number, used) not in self._numbers:
                data = self._source.dictionary(used - FIRST)
                number = FIRST + self._dictionaries.number(to.number, data)
                self._numbers[to.number, used] = number
            numbers[used] = self._numbers[to.number, used]
        return numbers[compression]


class DictionaryNumbers:
    """The numbers that dictionaries have in a store, or get there when they are committed.

    Parameters
    ----------
    committer
        Says which dictionaries there are.
    """

    def __init__(self, committer: Committer) -> None:
        self._look_up = committer.look_up
        self._numbers: dict[tuple[int, bytes], int] | None = None
        self._next = 0
        self._waiting: list[StagedDictionary] = []

    def number(self, field: int, data: bytes) -> int:
        """Return the number of a dictionary; the same one is never kept twice.

        Raises
        ------
        MergeError
            The store has the most that there can be.
        """
        if self._numbers is None:
            self._numbers, self._next = self._look_up(_known)
        if (field, data) not in self._numbers:
            if self._next >= MOST:
                raise MergeError(
                    f"the target would have more than {MOST} dictionaries for compression; write "
                    'the fields of one source anew with another compression, such as "zstd"'
                )
            self._waiting.append(StagedDictionary(self._next, field, data))
            self._numbers[field, data] = self._next
            self._next += 1
        return self._numbers[field, data]

    def commit(self, committer: Committer) -> None:
        """Commit the dictionaries that the store does not have yet.

        Raises
        ------
        NumberTakenError
            Another writer has committed one meanwhile.
        """
        while self._waiting:
            committer.commit(self._waiting[0], lambda _: None)
            del self._waiting[0]


def _known(index: Index, reader: ChunkReader) -> tuple[dict[tuple[int, bytes], int], int]:
    """Return the dictionaries that can be read, and the number that the next one gets."""
    found: dict[tuple[int, bytes], int] = {}
    for row in dictionaries.listed(index):
        with contextlib.suppress(CorruptStoreError):  # then it serves nobody any more
            known = dictionary_at(index, reader, row)
            if known is not None:
                number, data = known
                found.setdefault((row.field, data), number)
    return found, dictionaries.next_number(index)
