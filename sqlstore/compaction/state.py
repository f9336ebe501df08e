"""What a store holds as of one commit: taken from its cache, which is made from the log alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import identity, limits
from sqlstore.attached import ATTEMPTS
from sqlstore.cache import locations, removed
from sqlstore.cache.manifest import Manifest
from sqlstore.cache.metadata import Mirror
from sqlstore.cache.seals import seals
from sqlstore.caches import Cache
from sqlstore.errors import CorruptCacheError, CorruptChunkError, StoreBusyError
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.log import checkpoint
from sqlstore.log.reader import ChunkReader
from sqlstore.schema import Column, Field, Schema
from sqlstore.source import Source
from sqlstore.types import Ids

_ID_BYTES: Final = 8
VALUE_BYTES: Final = 36
"""About what a segment table takes to say where a value lies, and whose it is."""


@dataclass(frozen=True, slots=True)
class Live:
    """How many live values lie in a chunk, and how many bytes they have."""

    values: int
    n_bytes: int


class State:
    """The live records of a store as of one commit.

    Attributes
    ----------
    as_of, commit
        Number and uuid of the commit.
    next_record
        The id that the next record gets.
    ids
        Of the live records, ascending.
    schema
        Fields and metadata columns.
    manifest
        Of the cache that it is taken from.

    Raises
    ------
    CorruptCacheError
        The cache is damaged, or gone.
    """

    def __init__(self, cache: Cache, schema: Schema) -> None:
        self.manifest: Manifest = cache.manifest
        self.as_of: int = cache.manifest.commit
        self.commit: uuid.UUID = cache.manifest.commit_uuid
        self.next_record: int = cache.manifest.records
        self.schema = schema
        self._edition = cache.edition
        self._mirror = Mirror(cache.edition, cache.manifest.parts)
        deleted = removed.load(cache.edition, cache.manifest.deleted)
        self.ids: Ids = np.delete(np.arange(self.next_record, dtype=np.int64), deleted)
        # All of it now: others may replace the files at any time, and what is mapped stays.
        self._mirror.hold()
        self._rows = {field.number: self._loaded(field) for field in schema.fields.values()}

    def rows(self, field: Field) -> NDArray[np.uint32]:
        """Return the location rows of the live records, checked: shape ``(n, 8)``."""
        return self._rows[field.number]

    def metadata(self, ids: Ids, columns: Sequence[Column]) -> list[list[pa.Array]]:
        """Return metadata columns of records, in the order of the ids: each in some pieces."""
        return self._mirror.columns(ids, columns)

    def _loaded(self, field: Field) -> NDArray[np.uint32]:
        name = self.manifest.locations_of(field.number)
        buffer = locations.load(self._edition / name, self.next_record)
        found = np.frombuffer(buffer, np.uint32).reshape(-1, 8)
        if len(self.ids) < self.next_record:
            found = found[self.ids]
        if np.any(seals(found, self.ids, field.number) != found[:, locations.SEAL]):
            raise CorruptCacheError("the cache is damaged where it says where values lie")
        return found

    def in_chunks(self, field: Field, chunks: set[int]) -> NDArray[np.bool_]:
        """Return which of the live records have a value of a field that lies in some chunks."""
        rows = self.rows(field)
        present = rows[:, locations.COMPRESSION] != locations.ABSENT
        found: NDArray[np.bool_] = present & np.isin(rows[:, locations.CHUNK], list(chunks))
        return found

    @cached_property
    def live(self) -> dict[int, Live]:
        """Return how much is live in each chunk that has live values, be they empty."""
        found: dict[int, Live] = {}
        for field in self.schema.fields.values():
            rows = self.rows(field)
            rows = rows[rows[:, locations.COMPRESSION] != locations.ABSENT]
            numbers, which = np.unique(rows[:, locations.CHUNK], return_inverse=True)
            sums = np.bincount(which, rows[:, locations.LENGTH], len(numbers))
            counts = np.bincount(which, minlength=len(numbers))
            for number, n, size in zip(numbers.tolist(), counts, sums, strict=True):
                before = found.get(number, Live(0, 0))
                found[number] = Live(before.values + int(n), before.n_bytes + int(size))
        return found

    def size(self) -> int:
        """Return about how many bytes a checkpoint of it has."""
        values = sum(live.values for live in self.live.values())
        mirror = sum(part.size for part in self.manifest.parts)
        metadata = mirror * len(self.ids) // max(self.next_record, 1)
        return VALUE_BYTES * values + _ID_BYTES * len(self.ids) + metadata

    def parts(self) -> Iterator[tuple[int, int, pa.Buffer]]:
        """Return the tables of a checkpoint's parts: first id, end of the ids, table."""
        if not self.next_record:
            return
        by_size = -(-self.size() // limits.CHECKPOINT_BYTES)
        count = max(1, by_size, -(-len(self.ids) // limits.CHECKPOINT_RECORDS))
        groups = [group for group in np.array_split(self.ids, count) if len(group)] or [self.ids]
        edges = {*range(0, self.next_record, limits.CHECKPOINT_IDS), self.next_record}
        edges |= {int(group[0]) for group in groups[1:]}
        for first, stop in pairwise(sorted(edges)):
            here = slice(*np.searchsorted(self.ids, [first, stop]))
            yield first, stop, self._part(self.ids[here], here)

    def _part(self, ids: Ids, here: slice) -> pa.Buffer:
        columns = list(self.schema.columns.values()) if len(ids) else []
        pieces = self._mirror.columns(ids, columns)
        arrays = {
            column.number: pa.concat_arrays(found)
            for column, found in zip(columns, pieces, strict=True)
        }
        values = {}
        for field in self.schema.fields.values():
            rows = self.rows(field)[here]
            values[field.number] = locations.values_of(rows), rows[:, locations.CHUNK]
        return checkpoint.build_part(ids, arrays, values)


def taken(source: Source) -> State | None:
    """Return the newest state of a store; None if nothing was ever appended.

    Raises
    ------
    CorruptChunkError
        A segment table is damaged, so nobody knows all that is live.
    """
    for _ in range(ATTEMPTS):
        source.refresh()
        cache = source.cache
        if cache is None:
            return None
        if cache.manifest.lost:
            place = cache.manifest.lost[0]
            raise CorruptChunkError(
                "a segment table is damaged, and what it holds would be lost; see "
                f"`sqlstore verify {source.root}`",
                chunk=place.name,
                offset=place.trailer,
            )
        if not _is_of_schema(source, cache):
            continue  # others have changed it since
        try:
            state = State(cache, source.schema)
        except CorruptCacheError:
            source.renew(cache)
        else:
            return state
    raise StoreBusyError(f"others commit to {source.root} all the time; try again")


def _is_of_schema(source: Source, cache: Cache) -> bool:
    """Return whether a cache, which others may have extended, ends with the schema that is seen."""

    def version(index: Index, reader: ChunkReader) -> int | None:
        row = records.commit(index, cache.manifest.commit)
        return None if row is None else identity.trailer_of(index, reader, row)[1].schema_version

    return source.finder.look_up(version) == source.schema.version
