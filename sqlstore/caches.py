"""Keep the cache of a store up to the index: which commits it lacks, and where it is written."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlstore import identity, limits
from sqlstore.cache import fill, folder, manifest
from sqlstore.cache.chunks import ChunkFile
from sqlstore.cache.manifest import Manifest
from sqlstore.cache.segments import Place
from sqlstore.errors import (
    CorruptCacheError,
    CorruptIndexError,
    CorruptStoreError,
    SqlstoreError,
    StorageError,
    StoreBusyError,
)
from sqlstore.identity import Identity
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.index.records import CommitRow
from sqlstore.log import files
from sqlstore.log.checkpoint import Checkpoint
from sqlstore.log.reader import ChunkReader
from sqlstore.progress import progress
from sqlstore.schema import Schema

_MOST_BY_WRITERS = 1024  # commits; more would keep other writers waiting
_SHOWN_FROM = 1000  # commits; fewer are read before anybody looks


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache that is up to date: its folder and what it holds."""

    folder: Path
    manifest: Manifest

    @property
    def edition(self) -> Path:
        """Return the folder of its files."""
        return self.folder / self.manifest.edition


class CacheKeeper:
    """Brings the caches of one store up to its index.

    Parameters
    ----------
    root
        The folder of the store.
    index
        Its index, which says what there is.
    reader
        Reads the log.
    is_of
        What the store is.
    snapshot
        The commit that is shown, if the index is the copy of a snapshot; None for the present.
    """

    def __init__(
        self,
        root: Path,
        index: Index,
        reader: ChunkReader,
        is_of: Identity,
        snapshot: uuid.UUID | None = None,
    ) -> None:
        self._root = root
        self._snapshot = snapshot
        self._index = index
        self._reader = reader
        self._is_of = is_of
        shared = self._shared()
        self._distrusted = {shared} if folder.leads_out(root, shared) else set()

    def current(self, last: CommitRow) -> Cache:
        """Return a cache that holds everything up to a commit, or more.

        It is the one in the store's folder if that can be used or brought up to date, and one of
        this user's own otherwise.

        Parameters
        ----------
        last
            The commit.

        Raises
        ------
        CorruptIndexError
            The index says otherwise than the log what was committed.
        StorageError
            There is no place for a cache.
        """
        generation = records.store(self._index).generation
        shared = self._shared()
        own = [self._inside(place) for place in folder.own(self._root, self._is_of.store)]
        for place in (shared, *own):
            found = self._usable(place, generation)
            if found is not None and found.commit >= last.number:
                return self._checked(Cache(place, found), last)
        refused: SqlstoreError | None = None
        writable = [shared] if self._may_write(shared) else []
        makers: list[Callable[[], Path]] = [partial(Path, place) for place in (*writable, *own)]
        makers.append(lambda: self._inside(folder.temporary(self._root, self._is_of.store)))
        for make in makers:
            try:
                place = make()
                with folder.locked(place, wait=True):
                    found = self._filled(place, generation)
                return self._checked(Cache(place, found), last)
            except (StorageError, StoreBusyError, CorruptCacheError) as error:
                refused = error  # or somebody takes away what is being written
        raise StorageError(
            f"there is no place for the cache of {self._root}; make one writable, or set "
            "XDG_CACHE_HOME"
        ) from refused

    def _shared(self) -> Path:
        return self._inside(folder.shared(self._root))

    def _may_write(self, shared: Path) -> bool:
        return folder.is_ours(self._root) and not folder.leads_out(self._root, shared)

    def _inside(self, place: Path) -> Path:
        return folder.of_snapshot(place, self._snapshot)

    def discard(self, damaged: Cache) -> None:
        """Never use a cache again that has turned out to be damaged."""
        if damaged.folder == self._shared() and not folder.is_ours(self._root):
            self._distrusted.add(damaged.folder)
            return
        try:
            with folder.locked(damaged.folder, wait=True):
                if manifest.load(damaged.folder) == damaged.manifest:
                    manifest.drop(damaged.folder)
        except StorageError:  # not ours to remove
            self._distrusted.add(damaged.folder)

    def _usable(self, place: Path, generation: int) -> Manifest | None:
        """Return what a cache holds if it is one of this store and of its history."""
        found = None if place in self._distrusted else manifest.load(place)
        if found is None or (found.store, found.generation) != (self._is_of.store, generation):
            return None
        if (place / found.edition).is_symlink():
            return None
        if found.commit == 0:
            return found
        # A cache is extended after the index, so what is not there now is of another history: one
        # that went on from an older copy.
        row = records.commit(self._index, found.commit)
        return found if row is not None and row.uuid == str(found.commit_uuid) else None

    def extend_shared(self) -> None:
        """Bring the cache in the store's folder up to date, if that is ours and nobody does it."""
        place = self._shared()
        if not self._may_write(place):
            return
        with folder.locked(place, wait=False) as held:
            generation = records.store(self._index).generation
            found = self._usable(place, generation)
            behind = records.last_commit(self._index).number - (found.commit if found else 0)
            if held and behind <= _MOST_BY_WRITERS:
                self._filled(place, generation)

    def _filled(self, place: Path, generation: int) -> Manifest:
        found = self._usable(place, generation)
        if found is None:
            found = fill.begun(place, self._is_of.store, generation)
        try:
            return self._extend(place, found)
        except CorruptCacheError:
            return self._extend(place, fill.begun(place, self._is_of.store, generation))

    def _extend(self, place: Path, found: Manifest) -> Manifest:
        while True:  # until what is read here is of one schema and behind one checkpoint
            said = records.store(self._index)
            schema = self._schema_of(said.schema_version)
            last = self._checkpoint_behind(found.commit)
            known = None if last is None else self._known(last)
            commits = records.commits(self._index, found.commit if last is None else last.as_of)
            now = records.store(self._index)
            if (now.schema_version, now.checkpoint) == (said.schema_version, said.checkpoint):
                break
        how = schema, self._reader, self._refuse_retired
        if last is not None and known is not None:
            if found.commit:  # what it holds is older
                found = fill.begun(place, found.store, found.generation)
            found = fill.restored(place, found, *how, last, known)
        shown = progress(commits, "cache", "commits") if len(commits) > _SHOWN_FROM else commits
        return fill.extend(place, found, *how, self._places(shown))

    def _schema_of(self, version: int) -> Schema:
        """Return the schema that the index has, which may have changed since it was opened."""
        if version != self._is_of.schema.version:
            self._is_of = identity.of_index(self._index, self._reader)
        return self._is_of.schema

    def _checkpoint_behind(self, number: int) -> Checkpoint | None:
        """Return the last checkpoint if its state is behind a commit."""
        if records.store(self._index).checkpoint <= number:
            return None
        last = identity.checkpoint_of_index(self._index, self._reader)
        return last if last is not None and last.as_of > number else None

    def _refuse_retired(self, place: Place) -> None:
        """Raise if a commit cannot be read because its chunk has been retired meanwhile."""
        chunk = records.chunk(self._index, place.chunk)
        if chunk is not None and chunk.retired:
            raise CorruptCacheError(
                f"{place.name} was retired while the cache of {self._root} was filled from it"
            )

    def _places(self, commits: Iterable[CommitRow]) -> Iterator[Place]:
        chunks = {row.chunk: row for row in records.chunks(self._index)}
        for row in commits:
            chunk = chunks.get(row.chunk) or records.chunk(self._index, row.chunk)
            if chunk is None:
                raise CorruptIndexError(
                    f"commit {row.number} lies in chunk {row.chunk}, which the index does not "
                    f"know; run `sqlstore rebuild {self._root}`"
                )
            yield Place(
                row.number,
                row.kind,
                row.first_record,
                row.records,
                row.chunk,
                chunk.name,
                row.offset,
                records.parsed_uuid(chunk.uuid, self._index.path),
                records.parsed_uuid(row.uuid, self._index.path),
            )

    def _known(self, last: Checkpoint) -> fill.Known:
        """Return what the index says of the last checkpoint."""
        numbers = [last.as_of, *(span.commit for span in last.spans)]
        rows = [row for row in (records.commit(self._index, n) for n in numbers) if row is not None]
        if len(rows) != len(numbers):
            raise CorruptIndexError(
                f"{self._index.path} lacks commits of the last checkpoint; "
                f"run `sqlstore rebuild {self._root}`"
            )
        next_record, parts = rows[0].first_record + rows[0].records, list(self._places(rows[1:]))
        if next_record != last.next_record:
            raise CorruptIndexError(
                f"{self._index.path} has {next_record} records at commit {last.as_of}, the "
                f"checkpoint of it has others; run `sqlstore rebuild {self._root}`"
            )
        return fill.Known(parts, self._chunk_files(), next_record)

    def _chunk_files(self) -> dict[int, ChunkFile]:
        """Return the chunks that are not retired, by number."""
        found = {}
        for row in records.chunks(self._index):
            if not files.CHUNK_NAME.fullmatch(row.name):
                raise CorruptIndexError(
                    f"the index calls a chunk {row.name!r}; run `sqlstore rebuild {self._root}`"
                )
            if not row.retired:
                chunk = records.parsed_uuid(row.uuid, self._index.path)
                found[row.chunk] = ChunkFile(row.name, chunk)
        return found

    def _checked(self, cache: Cache, last: CommitRow) -> Cache:
        """Return the cache if the index ends where the log does, as far as the cache has come."""
        found = cache.manifest
        records_then = last.first_record + last.records
        as_the_log = found.commit == last.number and found.records == records_then
        if not as_the_log and not (found.commit > last.number and found.records >= records_then):
            raise CorruptIndexError(
                f"the index ends commit {last.number} at record {records_then}, the log has "
                f"{found.records} records at commit {found.commit}; "
                f"run `sqlstore rebuild {self._root}`"
            )
        return cache


class CacheFollower:
    """Lets the cache follow a writer, in steps that are large enough to cost little.

    Everything here happens under the writer lock.

    Parameters
    ----------
    keeper
        Extends the cache.
    """

    def __init__(self, keeper: CacheKeeper) -> None:
        self._keeper = keeper
        self._commits = self._records = 0

    @property
    def is_behind(self) -> bool:
        """Return whether there have been commits since the cache was extended."""
        return self._commits > 0

    def committed(self, n_records: int) -> None:
        """Say that there was a commit."""
        self._commits += 1
        self._records += n_records
        if (
            self._commits >= limits.CACHE_BEHIND_COMMITS
            or self._records >= limits.CACHE_BEHIND_RECORDS
        ):
            self.extend()

    def extend(self) -> None:
        """Extend the cache, if that can be done at once; otherwise a reader does it."""
        self._commits = self._records = 0
        # What is committed must not look as if it were not.
        with contextlib.suppress(StorageError, StoreBusyError, CorruptStoreError):
            self._keeper.extend_shared()
