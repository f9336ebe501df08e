"""Bring a cache up to later commits, from the log."""

from __future__ import annotations

import dataclasses
import secrets
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from sqlstore import limits
from sqlstore.cache import chunks, locations, manifest, metadata
from sqlstore.cache.chunks import ChunkFile
from sqlstore.cache.folder import remove_others
from sqlstore.cache.manifest import Manifest
from sqlstore.cache.segments import Place, dictionary_of, table_of
from sqlstore.errors import CorruptChunkError, CorruptIndexError
from sqlstore.log import files, table
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind
from sqlstore.schema import Schema


@dataclass(frozen=True, slots=True)
class _Append:
    """A commit and its table, which is None if it is damaged, or of no append."""

    place: Place
    batch: pa.RecordBatch | None
    size: int
    dictionary: DictionaryPlace | None


def begun(folder: Path, store: uuid.UUID, generation: int) -> Manifest:
    """Return a manifest of nothing, with a new folder for its files. The lock must be held."""
    edition = secrets.token_hex(8)
    with files.storage_errors("create", folder / edition):
        (folder / edition).mkdir()
    return Manifest(store, generation, edition)


def extend(
    folder: Path, have: Manifest, schema: Schema, reader: ChunkReader, places: Iterable[Place]
) -> Manifest:
    """Add later commits to a cache, and return its manifest. The lock must be held.

    Parameters
    ----------
    have
        What the cache holds.
    places
        The commits behind that, in order.

    Raises
    ------
    CorruptIndexError
        They are not the commits that follow.
    StorageError
        The cache cannot be written.
    """
    for group in _groups(_appends(have, reader, places)):
        have = _written(folder / have.edition, have, schema, group)
        manifest.save(folder, have)
    remove_others(folder, have)
    return have


def _appends(have: Manifest, reader: ChunkReader, places: Iterable[Place]) -> Iterator[_Append]:
    number, record = have.commit, have.records
    for place in places:
        if place.number != number + 1 or place.first_record != record or place.records < 0:
            raise CorruptIndexError(
                f"the index has commit {place.number} with records from {place.first_record} on "
                f"behind commit {number}, which ends at {record}; run `sqlstore rebuild`",
                chunk=place.name,
                offset=place.trailer,
            )
        if not files.CHUNK_NAME.fullmatch(place.name):
            raise CorruptIndexError(
                f"the index calls a chunk {place.name!r}; run `sqlstore rebuild`"
            )
        number, record = place.number, record + place.records
        try:
            batch, dictionary = table_of(reader, place), dictionary_of(reader, place)
        except CorruptChunkError:
            # Other records can be read all the same; these say so when asked for.
            batch = dictionary = None
        yield _Append(place, batch, 0 if batch is None else int(batch.nbytes), dictionary)


def _groups(appends: Iterable[_Append]) -> Iterator[list[_Append]]:
    """Return appends some at a time, so that a group is one commit or fits into memory."""
    group: list[_Append] = []
    size = 0
    for append in appends:
        if group and size + append.size > limits.CACHE_PART_BYTES:
            yield group
            group, size = [], 0
        group.append(append)
        size += append.size
    if group:
        yield group


def _written(folder: Path, have: Manifest, schema: Schema, group: Sequence[_Append]) -> Manifest:
    """Write what a group of commits brings, and return the manifest that counts it."""
    numbered = {a.place.chunk: ChunkFile(a.place.name, a.place.chunk_uuid) for a in group}
    chunks.write(folder, numbered)
    for field in schema.fields.values():
        rows = [_rows(append, field.number) for append in group]
        if any(map(len, rows)):
            locations.write(folder, field.number, have.records, np.concatenate(rows))
    added = [one for one in group if one.place.kind == CommitKind.DICTIONARY]
    parts, lost = have.parts, list(have.lost)
    lost += [one.place for one in added if one.dictionary is None]
    for run in _runs(group):
        first = run[0].place
        batches = [append.batch for append in run if append.batch is not None]
        if not batches:
            lost.append(first)
        elif schema.columns:
            parts = metadata.extended(folder, parts, first.first_record, batches)
    last = group[-1].place
    return dataclasses.replace(
        have,
        commit=last.number,
        commit_uuid=last.commit,
        records=last.first_record + last.records,
        chunks=max(have.chunks, *(number + 1 for number in numbered)),
        parts=parts,
        lost=tuple(lost),
        dictionaries=(*have.dictionaries, *(one.dictionary for one in added if one.dictionary)),
    )


def _rows(append: _Append, field: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    place = append.place
    if append.batch is None:
        count = place.records if place.kind == CommitKind.APPEND else 0
        return locations.rows_lost(count, place.first_record, field)
    values = table.parse_values(append.batch, field)
    return locations.rows_of(values, place.chunk, place.first_record, field)


def _runs(group: Sequence[_Append]) -> Iterator[list[_Append]]:
    """Return the appends of records, joined where nothing between them is lost."""
    run: list[_Append] = []
    for append in group:
        if append.place.kind != CommitKind.APPEND or not append.place.records:
            continue
        if append.batch is None:
            if run:
                yield run
            yield [append]
            run = []
        else:
            run.append(append)
    if run:
        yield run
