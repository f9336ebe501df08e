"""Check a commit in the log by itself: its bodies, the gap behind them, and its table."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sqlstore import limits, sequences
from sqlstore.compression import decompress
from sqlstore.dictionaries import Dictionaries
from sqlstore.errors import ChecksumError, CorruptStoreError, DecodeError, MissingPackageError
from sqlstore.log import dictionary, edits, table
from sqlstore.log.chain import Link
from sqlstore.log.checkpoint import Checkpoint, Part
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.edits import EDITS
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, CommitKind
from sqlstore.log.table import Values
from sqlstore.maintenance.report import Report
from sqlstore.schema import Field, Schema
from sqlstore.types import Ids

_GROUP = 8 * limits.MiB


class FoundDictionaries(Dictionaries):
    """The dictionaries that the log was found to hold so far."""

    def __init__(self) -> None:
        super().__init__(self._found)
        self._bodies: dict[int, bytes | None] = {}

    def add(self, number: int, body: bytes | None) -> None:
        """Take a dictionary, or None in its place if it is damaged."""
        self._bodies[number] = body

    def _found(self, number: int) -> bytes:
        body = self._bodies.get(number, b"")
        if body is None:
            raise _SaidBeforeError(f"dictionary {number} is damaged")
        if not body:
            raise DecodeError(f"dictionary {number} is not known")
        return body


class _SaidBeforeError(ChecksumError):
    """A dictionary is damaged, which was reported once and not for every value."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A stretch of a chunk that some bodies lie in."""

    chunk: str
    start: int
    end: int


def check_dictionary(
    reader: ChunkReader, link: Link, found: FoundDictionaries, report: Report
) -> DictionaryPlace | None:
    """Check the commit of a dictionary; return what its table says, or None if that is damaged."""
    name, trailer = link.chunk, link.trailer
    batch = _table(reader, link, report)
    if batch is None:
        return None
    place = dictionary.parse(batch, trailer, name)
    body = reader.read(name, place.offset, place.length)
    found.add(place.number, None)
    if place.length != trailer.bodies_end - trailer.bodies_start:
        report.add("more than a dictionary in its commit", chunk=name, offset=trailer.bodies_start)
    report.n_bytes += place.length
    with report.catching():
        found.add(place.number, dictionary.checked(body, place, name))
    return place


def check_alone(
    reader: ChunkReader, schema: Schema, link: Link, found: FoundDictionaries, report: Report
) -> None:
    """Check what can be checked of a commit without those around it."""
    with report.catching(chunk=link.chunk):
        check_gap(reader, link, report)
        match link.trailer.kind:
            case kind if kind in EDITS | {CommitKind.APPEND}:
                check_values(reader, schema, link, found, report)
            case CommitKind.DICTIONARY:
                check_dictionary(reader, link, found, report)
            case CommitKind.CHECKPOINT:
                last = Checkpoint(reader, link.chunk, link.trailer)
                check_checkpoint(reader, last, found, report)
            case _:
                reader.table(link.chunk, link.trailer)


def check_gap(reader: ChunkReader, link: Link, report: Report) -> None:
    """Check that the bytes between the bodies and the table of a commit are zero."""
    name, trailer = link.chunk, link.trailer
    gap = reader.read(name, trailer.bodies_end, trailer.table_start - trailer.bodies_end)
    if gap.strip(b"\0"):
        report.add(
            "bytes between bodies and table are not zero", chunk=name, offset=trailer.bodies_end
        )


def _table(reader: ChunkReader, link: Link, report: Report) -> pa.RecordBatch | None:
    """Return the table of a commit, or None if it is damaged."""
    name, trailer = link.chunk, link.trailer
    batches: list[pa.RecordBatch] = []
    with report.catching(chunk=name, offset=trailer.table_start):
        batches.append(reader.table(name, trailer))
    return batches[0] if batches else None


def check_values(
    reader: ChunkReader, schema: Schema, link: Link, found: FoundDictionaries, report: Report
) -> pa.RecordBatch | None:
    """Check an append or an edit; return its table, or None if that is damaged."""
    name, trailer = link.chunk, link.trailer
    batch = _table(reader, link, report)
    if batch is None:
        return None
    ids = np.arange(trailer.first_record, trailer.first_record + batch.num_rows)
    if trailer.kind in EDITS:
        ids = edits.parse(batch, trailer, name).ids
    columns = schema.columns.values()
    place = trailer.number, name, trailer.table_start
    table.check_columns(table.columns_of(batch, columns), columns, *place)
    covered = 0
    for field in schema.fields.values():
        values = table.parse_values(batch, field.number)
        covered += int(values.length.sum())
        with report.catching(field=field.name, chunk=name):
            bounds = Bounds(name, trailer.bodies_start, trailer.bodies_end)
            _check_bodies(reader, bounds, field, ids, values, found, report)
    if covered != trailer.bodies_end - trailer.bodies_start:
        message = f"the values cover {covered} bytes of {trailer.bodies_end - trailer.bodies_start}"
        report.add(message, chunk=name, offset=trailer.bodies_start)
    return batch


def check_part(
    reader: ChunkReader,
    schema: Schema,
    part: Part,
    names: Mapping[int, str],
    found: FoundDictionaries,
    report: Report,
) -> None:
    """Check the bodies of live records of a checkpoint, wherever they lie.

    Parameters
    ----------
    names
        The chunks by number.
    """
    for field in schema.fields.values():
        values, chunk = part.values(field.number)
        for number in np.unique(chunk[values.present]).tolist():
            rows = np.flatnonzero(values.present & (chunk == number))
            if number not in names:
                report.add(
                    f"the checkpoint places a value in chunk {number}, which is not there",
                    record=int(part.ids[rows[0]]),
                    field=field.name,
                )
                continue
            name = names[number]
            rows = rows[np.argsort(values.offset[rows], kind="stable")]
            with report.catching(field=field.name, chunk=name):
                bounds = Bounds(name, HEADER_SIZE, reader.size(name))
                here = part.ids[rows], values.rows(rows)
                _check_bodies(reader, bounds, field, *here, found, report)


def check_checkpoint(
    reader: ChunkReader, last: Checkpoint, found: FoundDictionaries, report: Report
) -> None:
    """Check the pieces of a checkpoint, and take its dictionaries."""
    link = Link(last.name, last.trailer)
    _table(reader, link, report)
    for fault in last.check():
        report.add(fault.message, chunk=last.name, offset=fault.where.get("offset"))
    for place in last.dictionaries:
        found.add(place.number, None)
        with report.catching():
            body = reader.read(last.name, place.offset, place.length)
            found.add(place.number, dictionary.checked(body, place, last.name))


def _check_bodies(
    reader: ChunkReader,
    bounds: Bounds,
    field: Field,
    ids: Ids,
    values: Values,
    found: FoundDictionaries,
    report: Report,
) -> None:
    for rows, start, data in _groups(reader, bounds, ids, values, field, report):
        for row in rows:
            offset, length = int(values.offset[row]), int(values.length[row])
            body = memoryview(data)[offset - start : offset - start + length]
            report.values += 1
            report.n_bytes += length
            where = {
                "record": int(ids[row]),
                "field": field.name,
                "chunk": bounds.chunk,
                "offset": offset,
            }
            try:
                _check_value(field, body, values, row, found)
            except _SaidBeforeError:
                pass
            except MissingPackageError as error:
                report.note(f"some values were only compared with their checksums: {error}")
            except CorruptStoreError as error:
                report.add(error.message, **{**where, **error.where})


def _check_value(
    field: Field, body: memoryview, values: Values, row: int, found: FoundDictionaries
) -> None:
    """Raise if a stored value is not what was written, or cannot be decompressed."""
    crc, compression = int(values.crc[row]), int(values.compression[row])
    raw_length = int(values.raw_length[row])
    if field.is_sequence:
        sequences.check(body, int(values.items[row]), raw_length, crc, compression, found)
        return
    if zlib.crc32(body) != crc:
        raise ChecksumError("the stored bytes are not what was written")
    decompress(body, compression, raw_length, found)


def _groups(
    reader: ChunkReader, bounds: Bounds, ids: Ids, values: Values, field: Field, report: Report
) -> Iterator[tuple[list[int], int, bytes]]:
    """Read the bodies of a field in large pieces: rows, offset of the piece, bytes of the piece."""
    ends = values.offset.astype(np.int64) + values.length
    group: list[int] = []
    for row in np.flatnonzero(values.present).tolist():
        if values.offset[row] < bounds.start or ends[row] > bounds.end:
            report.add(
                "the table names bytes outside of its segment",
                record=int(ids[row]),
                field=field.name,
                chunk=bounds.chunk,
                offset=int(values.offset[row]),
            )
            continue
        if group and ends[row] - values.offset[group[0]] > _GROUP:
            yield _read_group(reader, bounds.chunk, values, group)
            group = []
        group.append(row)
    if group:
        yield _read_group(reader, bounds.chunk, values, group)


def _read_group(
    reader: ChunkReader, chunk: str, values: Values, rows: list[int]
) -> tuple[list[int], int, bytes]:
    start = int(values.offset[rows].min())
    end = int((values.offset[rows].astype(np.int64) + values.length[rows]).max())
    return rows, start, reader.read(chunk, start, end - start)
