"""How a writer compresses each field; dictionaries are trained and committed here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from sqlstore.compression import COMPRESS, COMPRESSIONS, Method
from sqlstore.dictionaries import (
    DICTIONARY,
    FIRST,
    MOST,
    Compress,
    compressor,
    package,
    size_for,
    trained,
)
from sqlstore.errors import CorruptStoreError
from sqlstore.index import dictionaries, records
from sqlstore.index.engine import Index
from sqlstore.log import dictionary
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import Trailer
from sqlstore.schema import Field, Schema
from sqlstore.staged import NumberTakenError, Staged, StagedDictionary
from sqlstore.types import Buffer

T = TypeVar("T")

_ZSTD: Final = COMPRESSIONS["zstd"]
_GROWTH: Final = 4


class _Committer(Protocol):
    """As much of a committer as is needed to make dictionaries."""

    schema: Schema

    def commit(self, staged: Staged, acknowledge: Callable[[Trailer], None]) -> None: ...

    def look_up(self, read: Callable[[Index, ChunkReader], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class _Known:
    """A dictionary that values are compressed with."""

    number: int
    size: int
    compress: Compress


class Compressors:
    """Compresses the fields of one writer.

    The values of a field with dictionaries are compressed with the newest one when they are the
    first of the writer. If it has none, or one that was trained with much less than there is now,
    a new one is trained when the values of a commit are worth it. A writer tries that again only
    if it has helped.

    Parameters
    ----------
    committer
        Commits dictionaries and says which there are.

    Raises
    ------
    MissingPackageError
        A field has dictionaries, and zstandard is not installed.
    """

    def __init__(self, committer: _Committer) -> None:
        self._committer = committer
        self._known: dict[int, _Known] = {}
        self._given_up: set[int] = set()
        if any(f.compression == DICTIONARY for f in committer.schema.fields.values()):
            package()

    def choose(self, field: Field, raws: Sequence[Buffer]) -> Method:
        """Return how to compress values of a field that are about to be committed together.

        A dictionary that is trained for them has been committed then.
        """
        if field.compression != DICTIONARY:
            return COMPRESSIONS[field.compression], None
        size = size_for(raws)
        known = self._known.get(field.number)
        if known is None or size >= _GROWTH * known.size:
            known = self._looked_up(field.number)
            if field.number not in self._given_up:
                known = self._trained(field.number, raws, size, known)
        return (_ZSTD, None) if known is None else (FIRST + known.number, known.compress)

    def _looked_up(self, field: int) -> _Known | None:
        """Return the newest dictionary of a field, also one that another writer has made."""

        def read(index: Index, reader: ChunkReader) -> tuple[int, bytes] | None:
            row = dictionaries.newest(index, field)
            return None if row is None else dictionary_at(index, reader, row)

        known = self._known.get(field)
        # What is damaged has lost its values; what comes is compressed with another one.
        with contextlib.suppress(CorruptStoreError):
            found = self._committer.look_up(read)
            if found is not None and (known is None or known.number != found[0]):
                number, data = found
                known = self._known[field] = _Known(number, len(data), compressor(data))
        return known

    def _trained(
        self, field: int, raws: Sequence[Buffer], size: int, known: _Known | None
    ) -> _Known | None:
        """Return a dictionary that is better than the one that is known, if there can be one."""
        if not size or (known is not None and size < _GROWTH * known.size):
            return known
        data = trained(raws, size, COMPRESS[_ZSTD] if known is None else known.compress)
        while data is not None:
            try:
                number = self.commit(field, data)
            except NumberTakenError:
                newest = self._looked_up(field)
                if newest is not known:
                    return newest  # another writer had the same idea
                continue
            if number is None:
                break
            self._known[field] = _Known(number, len(data), compressor(data))
            return self._known[field]
        self._given_up.add(field)
        return known

    def commit(self, field: int, data: bytes) -> int | None:
        """Make a dictionary durable, and return its number; None if the store has the most.

        Raises
        ------
        NumberTakenError
            Another writer has committed one meanwhile.
        """
        number = self._committer.look_up(lambda index, _: dictionaries.next_number(index))
        if number >= MOST:
            return None
        self._committer.commit(StagedDictionary(number, field, data), lambda _: None)
        return number


def dictionary_at(
    index: Index, reader: ChunkReader, row: dictionaries.DictionaryRow
) -> tuple[int, bytes] | None:
    """Return the number and the bytes of a dictionary."""
    place = DictionaryPlace(*dictionaries.values(row))
    chunk = records.chunk(index, place.chunk)
    if chunk is None:
        return None  # the index is damaged; the commit that comes says so
    data = reader.read(chunk.name, place.offset, place.length)
    return place.number, dictionary.checked(data, place, chunk.name)
