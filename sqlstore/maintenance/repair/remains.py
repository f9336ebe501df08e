"""What a damaged store still holds, as one cache: of its log, of the cache and the index it has."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from sqlstore import identity
from sqlstore.cache import fill
from sqlstore.cache.chunks import ChunkFile
from sqlstore.cache.manifest import Manifest
from sqlstore.caches import Cache
from sqlstore.compaction.state import State
from sqlstore.errors import CorruptCacheError, CorruptStoreError, StorageError, StoreFullError
from sqlstore.identity import Identity
from sqlstore.index.engine import Index
from sqlstore.log import edits, files, ipc
from sqlstore.log.edits import EDITS, Edit
from sqlstore.log.segment import SCHEMA_KINDS, CommitKind
from sqlstore.maintenance.repair import from_index
from sqlstore.maintenance.repair.from_cache import Cached
from sqlstore.maintenance.repair.mended import MendedReader
from sqlstore.maintenance.repair.salvage import Known, Salvage
from sqlstore.types import Ids

_HAS_SCHEMA: Final = SCHEMA_KINDS | {CommitKind.CREATE}


class Remains:
    """All that is left of a damaged store.

    Parameters
    ----------
    root
        The folder of the store.
    scratch
        An empty folder for a cache that is only needed meanwhile.
    reader
        Reads the log.
    index
        The index if SQLite finds no damage in it; None otherwise.
    salvage
        What commits there are.
    cached
        What the cache says; None if there is none.

    Attributes
    ----------
    is_of
        What the store is.
    unreadable
        The commits whose trailer or table is damaged.
    lost_edits
        Those of them whose edits neither log nor cache know.
    is_move_lost
        Whether neither of them knows where a compaction has put values.
    lost_records
        The ids of the records of which nothing is left, ascending. With an index that knows the
        others they were deleted before; without one nobody knows.
    from_index
        How many records have metadata that only the index has.
    """

    def __init__(
        self,
        root: Path,
        scratch: Path,
        reader: MendedReader,
        index: Index | None,
        salvage: Salvage,
        cached: Cached | None,
    ) -> None:
        self._root, self._scratch, self._reader, self._index = root, scratch, reader, index
        self._salvage = salvage
        self._cached = cached
        reader.headers = salvage.headers
        self.is_of = self._identity()
        self.unreadable = [known for known in salvage.commits if not self.is_readable(known)]
        self.lost_edits: list[Known] = []
        self.is_move_lost = False
        self.lost_records: Ids = np.empty(0, np.int64)
        self.from_index = 0

    def _identity(self) -> Identity:
        """Return what the last commit says that has a schema, or the index where that is lost."""
        salvage = self._salvage
        said = [known for known in salvage.commits if known.row.kind in _HAS_SCHEMA]
        if not said and salvage.base is not None:
            return identity.of_checkpoint(self._reader, salvage.base)
        with contextlib.suppress(CorruptStoreError):
            if said and said[-1].link is not None:
                return identity.of_link(self._reader, said[-1].link)
        if self._index is not None:
            found = identity.as_index_says(self._index)
            number = said[-1].row.number if said else 1
            if found.schema.version == (0 if number == 1 else number):
                return found
        raise CorruptStoreError(
            "the commit that says what fields and columns there are is damaged, and there is no "
            "index that knows it; put index.sqlite back from a copy, or the chunk"
        )

    def is_readable(self, known: Known) -> bool:
        """Return whether trailer and table of a commit are right."""
        with contextlib.suppress(CorruptStoreError):
            if known.link is not None:
                self._reader.table(known.link.chunk, known.link.trailer)
                return True
        return False

    def cache(self) -> Cache:
        """Return a cache of everything, made of the one that is there, or of the log alone.

        Raises
        ------
        CorruptStoreError
            The dictionary that values were compressed with is lost.
        """
        refused: CorruptCacheError | None = None
        for begin in (self._copied, self._begun):
            try:
                found = self._whole(begin)
                if found is not None:
                    State(found, self.is_of.schema)  # looks at every checksum
                    return found
            except CorruptCacheError as error:
                refused = error
        raise CorruptCacheError(f"a cache in {self._scratch} does not stay whole") from refused

    def _whole(self, begin: Callable[[], Manifest | None]) -> Cache | None:
        """Return a cache in which the index fills the gaps that the log has."""
        have = begin()
        if have is None:
            return None
        self._forget()
        unknown = [known for known in self.unreadable if known.row.number > have.commit]
        self.is_move_lost = any(known.row.kind == CommitKind.COMPACT for known in unknown)
        found = self._extended(have)
        lost = {place.number for place in found.manifest.lost}
        if not lost:
            return found
        for known in self.unreadable:
            if known.row.number in lost:
                self._mend(known)
        have = begin()  # extending it has replaced files of what it was
        return None if have is None else self._extended(have)

    def _forget(self) -> None:
        self._reader.forget_mended()
        self.lost_edits, self.lost_records, self.from_index = [], np.empty(0, np.int64), 0

    def _copied(self) -> Manifest | None:
        """Return a copy of the cache in the store, if it is of this history and nothing is lost."""
        if self._cached is None or not self._salvage.is_ours(self._cached):
            return None
        copy = self._scratch / self._cached.manifest.edition
        shutil.rmtree(copy, ignore_errors=True)
        try:
            with files.storage_errors("copy the cache to", copy):
                copy.mkdir()
                for path in self._cached.edition.iterdir():
                    files.put(copy / path.name, files.mapped(path))
        except StoreFullError:
            raise  # without it more would be lost than is
        except StorageError:
            return None  # it is damaged, too
        return self._cached.manifest

    def _begun(self) -> Manifest:
        """Return a cache of what the last checkpoint says, or of nothing."""
        base = self._salvage.base
        begun = fill.begun(self._scratch, self._salvage.store, 0)
        if base is None:
            return begun
        by_number = {known.row.number: known for known in self._salvage.commits}
        parts = [by_number[span.commit].place() for span in base.spans]
        chunks = {
            number: ChunkFile(row.name, uuid.UUID(row.uuid))
            for number, row in self._salvage.chunks.items()
            if not row.retired
        }
        known = fill.Known(parts, chunks, base.next_record)
        how = self.is_of.schema, self._reader, fill.any_may_be_lost, base, known
        return fill.restored(self._scratch, begun, *how)

    def _extended(self, have: Manifest) -> Cache:
        places = (k.place() for k in self._salvage.commits if k.row.number > have.commit)
        how = self.is_of.schema, self._reader, fill.any_may_be_lost, places
        return Cache(self._scratch, fill.extend(self._scratch, have, *how))

    def _mend(self, known: Known) -> None:
        """Give the reader the table of a commit, as far as the index has it."""
        row = known.row
        if row.kind == CommitKind.DICTIONARY:
            self._reader.mend(known, self._dictionary(known))
            return
        if row.kind in EDITS:
            self.lost_edits.append(known)
            nothing = Edit(CommitKind(row.kind), np.empty(0, np.int64))
            self._reader.mend(known, ipc.parse(edits.build(nothing), "", 0))
            return
        first, stop = self._ids_of(known)
        ids: Ids = np.empty(0, np.int64)
        if self._index is not None and row.kind == CommitKind.APPEND:
            how = self._index, self.is_of.schema, first, stop
            ids, batch = from_index.append(*how, row.chunk)
            self._reader.mend(known, batch)
        elif self._index is not None:
            ids, batch = from_index.part(self._index, self.is_of.schema, first, stop)
            self._reader.mend(known, batch)
        self.from_index += len(ids)
        rest = np.setdiff1d(np.arange(first, stop), ids, assume_unique=True)
        self.lost_records = np.union1d(self.lost_records, rest)

    def _dictionary(self, known: Known) -> pa.RecordBatch:
        """Return the table of the commit of a dictionary; its bytes are looked at later."""
        number = self._salvage.dictionaries_before(known)
        batch = None
        if self._index is not None:
            batch = from_index.dictionary(self._index, number, known.row.chunk)
        if batch is None:
            raise CorruptStoreError(
                "the commit of a dictionary is damaged, and every value that was compressed with "
                "it is lost with it: put the chunk back from a copy",
                chunk=known.chunk.name,
            )
        return batch

    def _ids_of(self, known: Known) -> tuple[int, int]:
        """Return the ids that may be in an append, or in a part of the last checkpoint."""
        for span in self._salvage.base.spans if self._salvage.base is not None else ():
            if span.commit == known.row.number:
                return span.first, span.stop
        return known.row.first_record, known.row.first_record + known.row.records
