"""Bring a cache up to later commits, from the log."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.arrow import validity
from sqlstore.cache import chunks, locations, manifest, metadata, removed
from sqlstore.cache.chunks import ChunkFile
from sqlstore.cache.folder import remove_others
from sqlstore.cache.manifest import Manifest
from sqlstore.cache.segments import (
    Place,
    dictionaries_of,
    edit_of,
    part_of,
    table_of,
    trailer_of,
)
from sqlstore.errors import CorruptChunkError, CorruptIndexError
from sqlstore.log import files, table
from sqlstore.log.checkpoint import Checkpoint, Part
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.edits import EDITS, Edit, Edited, last_of_each
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind, may_append
from sqlstore.positions import NO_IDS
from sqlstore.schema import Column, Schema
from sqlstore.types import Ids


@dataclass(frozen=True, slots=True)
class _Read:
    """A commit that was read: what it appends, adds or edits; nothing where it is damaged."""

    place: Place
    batch: pa.RecordBatch | None = None
    dictionaries: Sequence[DictionaryPlace] = ()
    edit: Edit | None = None

    @property
    def size(self) -> int:
        lost = locations.ROW_SIZE * self.place.records  # of each field, in turn
        batch = self.batch.nbytes if self.batch is not None else lost
        edit = self.edit.ids.nbytes if self.edit is not None else 0
        columns = self.edit.columns.values() if self.edit is not None else ()
        return int(batch) + edit + sum(int(array.nbytes) for array in columns)

    def check(self, schema: Schema) -> None:
        """Raise if its metadata is not what the schema says."""
        columns = schema.columns.values()
        arrays = table.columns_of(self.batch, columns) if self.batch is not None else {}
        if self.edit is not None:
            arrays = dict(self.edit.columns)
        table.check_columns(arrays, columns, self.place.number, self.place.name, self.place.trailer)

    @property
    def is_lost(self) -> bool:
        """Return whether it is damaged, and that is felt elsewhere."""
        if self.place.kind == CommitKind.DICTIONARY:
            return not self.dictionaries
        # Without the table of a compaction values are where they were.
        return self.place.kind in EDITS - {CommitKind.COMPACT} and self.edit is None


@dataclass(frozen=True, slots=True)
class _Change:
    """The location rows of a field that a commit makes others: of which records, and those rows."""

    number: int
    ids: Ids
    rows: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Known:
    """What the index says of the last checkpoint.

    Attributes
    ----------
    parts
        Where its parts lie.
    chunks
        The chunks that are not retired, by number.
    next_record
        The id that the next record would have got.
    """

    parts: Sequence[Place]
    chunks: Mapping[int, ChunkFile]
    next_record: int


def any_may_be_lost(_: Place) -> None:
    """Take whatever cannot be read for damaged."""


def begun(folder: Path, store: uuid.UUID, generation: int) -> Manifest:
    """Return a manifest of nothing, with a new folder for its files. The lock must be held."""
    edition = secrets.token_hex(8)
    with files.storage_errors("create", folder / edition):
        (folder / edition).mkdir()
    return Manifest(store, generation, edition)


def extend(
    folder: Path,
    have: Manifest,
    schema: Schema,
    reader: ChunkReader,
    check_lost: Callable[[Place], None],
    places: Iterable[Place],
) -> Manifest:
    """Add later commits to a cache, and return its manifest. The lock must be held.

    Parameters
    ----------
    have
        What the cache holds.
    schema
        That of the last commit.
    check_lost
        Called with a commit that cannot be read; raises if that is not because of damage.
    places
        The commits behind that, in order.

    Raises
    ------
    CorruptIndexError
        They are not the commits that follow.
    StorageError
        The cache cannot be written.
    """
    for group in _groups(_read(have, schema, reader, check_lost, places)):
        have = _written(folder / have.edition, have, schema, group)
        manifest.save(folder, have)
    remove_others(folder, have)
    return have


def restored(
    folder: Path,
    have: Manifest,
    schema: Schema,
    reader: ChunkReader,
    check_lost: Callable[[Place], None],
    last: Checkpoint,
    known: Known,
) -> Manifest:
    """Fill a cache that holds nothing with what a checkpoint says. The lock must be held.

    Parameters
    ----------
    have
        What `begun` returned.
    schema, check_lost
        As for `extend`.
    known
        What the index says of it.
    """
    edition, deleted, lost = folder / have.edition, [NO_IDS], []
    chunks.write(edition, known.chunks)
    parts: tuple[manifest.Part, ...] = ()
    for span, place in zip(last.spans, known.parts, strict=True):
        ids, part = np.arange(span.first, span.stop, dtype=np.int64), None
        try:
            part = part_of(reader, place, span)
        except CorruptChunkError:
            check_lost(place)
            lost.append(dataclasses.replace(place, first_record=span.first, records=len(ids)))
        if part is not None:
            arrays = table.columns_of(part.batch, schema.columns.values())
            of_place = place.number, place.name, place.trailer
            table.check_columns(arrays, schema.columns.values(), *of_place)
        for field in schema.fields.values():
            path = edition / have.locations_of(field.number)
            locations.write(path, span.first, _rows_of_part(part, ids, field.number))
        if part is not None:
            deleted.append(np.setdiff1d(ids, part.ids, assume_unique=True))
        if part is not None and len(schema.columns):
            how = list(schema.columns.values()), last.as_of
            batches = [_spread(part, ids, how[0])]
            parts = metadata.extended(edition, parts, span.first, batches, *how)
    return dataclasses.replace(
        have,
        commit=last.as_of,
        commit_uuid=last.commit,
        records=known.next_record,
        chunks=max(known.chunks, default=-1) + 1,
        parts=parts,
        deleted=removed.extended(edition, None, np.concatenate(deleted), last.as_of),
        lost=tuple(lost),
        dictionaries=tuple(last.dictionaries),
    )


def _rows_of_part(part: Part | None, ids: Ids, field: int) -> NDArray[np.uint32]:
    """Return the location rows of consecutive ids, of which a part has those that are live."""
    if part is None:
        return locations.rows_lost(ids, field)
    values, chunk = part.values(field)
    rows = locations.rows_of(table.no_values(len(ids)), 0, ids, field)
    rows[part.ids - ids[0]] = locations.rows_of(values, chunk, part.ids, field)
    return rows


def _spread(part: Part, ids: Ids, columns: Sequence[Column]) -> pa.RecordBatch:
    """Return the metadata of consecutive ids; nothing but nulls where a record is not live."""
    if len(part.ids) == len(ids):
        return part.batch
    places, is_live = np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
    places[part.ids - ids[0]], is_live[part.ids - ids[0]] = np.arange(len(part.ids)), True
    rows = pa.Array.from_buffers(pa.int64(), len(ids), [validity(is_live), pa.py_buffer(places)])
    arrays = [table.parse_column(part.batch, column).take(rows) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{column.number}" for column in columns])


def _read(
    have: Manifest,
    schema: Schema,
    reader: ChunkReader,
    check_lost: Callable[[Place], None],
    places: Iterable[Place],
) -> Iterator[_Read]:
    number, record = have.commit, have.records
    for place in places:
        counts = place.records >= 0 and (not place.records or may_append(place.kind))
        if place.number != number + 1 or place.first_record != record or not counts:
            raise CorruptIndexError(
                f"the index has commit {place.number} with records from {place.first_record} on "
                f"behind commit {number}, which ends at {record}; run `sqlstore rebuild`",
                chunk=place.name,
                offset=place.trailer,
            )
        if not files.CHUNK_NAME.fullmatch(place.name):
            raise CorruptIndexError(
                f"the index calls a chunk {place.name!r:.100}; run `sqlstore rebuild`"
            )
        number, record = place.number, record + place.records
        try:
            found = table_of(reader, place), dictionaries_of(reader, place), edit_of(reader, place)
        except CorruptChunkError:
            check_lost(place)
            # Other records can be read all the same; these say so when asked for.
            if place.records > limits.MAX_LOST_RECORDS and not _has_trailer(reader, place):
                raise
            yield _Read(place)
            continue
        read = _Read(place, *found)
        read.check(schema)
        yield read


def _has_trailer(reader: ChunkReader, place: Place) -> bool:
    """Return whether the log has the commit, and so as many bytes as its records need."""
    with contextlib.suppress(CorruptChunkError):
        return trailer_of(reader, place).records == place.records
    return False


def _groups(commits: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Return commits some at a time, so that a group is one commit or fits into memory."""
    group: list[_Read] = []
    size = 0
    for commit in commits:
        if group and size + commit.size > limits.CACHE_PART_BYTES:
            yield group
            group, size = [], 0
        group.append(commit)
        size += commit.size
    if group:
        yield group


def _written(folder: Path, have: Manifest, schema: Schema, group: Sequence[_Read]) -> Manifest:
    """Write what a group of commits brings, and return the manifest that counts it."""
    numbered = {a.place.chunk: ChunkFile(a.place.name, a.place.chunk_uuid) for a in group}
    chunks.write(folder, numbered)
    for field in schema.fields.values():
        rows = [_rows(one, field.number) for one in group]
        if any(map(len, rows)):
            path = folder / have.locations_of(field.number)
            locations.write(path, have.records, np.concatenate(rows))
    columns, last = list(schema.columns.values()), group[-1].place
    parts, lost = have.parts, [*have.lost, *(one.place for one in group if one.is_lost)]
    for run in _runs(group):
        first = run[0].place
        batches = [one.batch for one in run if one.batch is not None]
        if not batches:
            lost.append(first)
        elif columns:
            how = columns, last.number
            parts = metadata.extended(folder, parts, first.first_record, batches, *how)
    edited = Edited(one.edit for one in group if one.edit is not None)
    records_then = last.first_record + last.records
    replaced = dict(have.replaced)
    for number in (field.number for field in schema.fields.values()):
        if changes := _changes(group, number):
            _replace_rows(folder, have.locations_of(number), changes, number, records_then)
            replaced[number] = changes[-1].number
    parts = metadata.laid_over(folder, parts, edited, columns, last.number)
    return dataclasses.replace(
        have,
        commit=last.number,
        commit_uuid=last.commit,
        records=records_then,
        chunks=max(have.chunks, *(number + 1 for number in numbered)),
        parts=parts,
        deleted=removed.extended(folder, have.deleted, edited.deleted, last.number),
        lost=tuple(lost),
        replaced=tuple(replaced.items()),
        dictionaries=_newest([*have.dictionaries, *(d for one in group for d in one.dictionaries)]),
    )


def _newest(places: Iterable[DictionaryPlace]) -> tuple[DictionaryPlace, ...]:
    """Return where each dictionary lies last."""
    return tuple({place.number: place for place in places}.values())


def _rows(read: _Read, field: int) -> NDArray[np.uint32]:
    place = read.place
    if read.batch is None:
        count = place.records if place.kind == CommitKind.APPEND else 0
        return locations.rows_lost(_ids(place, count), field)
    values = table.parse_values(read.batch, field)
    return locations.rows_of(values, place.chunk, _ids(place, place.records), field)


def _ids(place: Place, count: int) -> Ids:
    return np.arange(place.first_record, place.first_record + count, dtype=np.int64)


def _changes(group: Sequence[_Read], field: int) -> list[_Change]:
    """Return what commits do to location rows that are there, in their order.

    Where the table of a replacement or a delete is damaged, nobody knows of which records it was:
    so none before it can be read, until the table can.
    """
    found = []
    for read in group:
        number, edit = read.place.number, read.edit
        if edit is not None and field in edit.values:
            rows = locations.rows_of(edit.values[field], edit.chunk, edit.ids, field)
            found.append(_Change(number, edit.ids, rows))
        elif read.is_lost and read.place.kind in (CommitKind.REPLACE, CommitKind.DELETE):
            ids = np.arange(read.place.first_record, dtype=np.int64)
            found.append(_Change(number, ids, locations.rows_lost(ids, field)))
    return found


def _replace_rows(
    folder: Path, name: str, changes: Sequence[_Change], field: int, count: int
) -> None:
    """Write the location rows of a field anew, with those that are others."""
    ids, chosen = last_of_each(np.concatenate([change.ids for change in changes]))
    rows = np.concatenate([change.rows for change in changes])[chosen]
    before = np.frombuffer(locations.load(folder / name, count), np.uint32).reshape(-1, 8)
    path = folder / locations.file_name(field, changes[-1].number)
    locations.write_anew(path, before, ids, rows)


def _runs(group: Sequence[_Read]) -> Iterator[list[_Read]]:
    """Return the appends of records, joined where nothing between them is lost."""
    run: list[_Read] = []
    for read in group:
        if read.place.kind != CommitKind.APPEND or not read.place.records:
            continue
        if read.batch is None:
            if run:
                yield run
            yield [read]
            run = []
        else:
            run.append(read)
    if run:
        yield run
