"""Check a commit in the log by itself: its bodies, the gap behind them, and its table."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sqlstore import limits, sequences
from sqlstore.compression import decompress
from sqlstore.dictionaries import Dictionaries
from sqlstore.errors import ChecksumError, CorruptStoreError, DecodeError, MissingPackageError
from sqlstore.log import dictionary, edits, table
from sqlstore.log.chain import Link
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.edits import EDITS
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import Trailer
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


def _table(reader: ChunkReader, link: Link, report: Report) -> pa.RecordBatch | None:
    """Return the table of a commit, or None if it is damaged; look into the gap before it."""
    name, trailer = link.chunk, link.trailer
    gap = reader.read(name, trailer.bodies_end, trailer.table_start - trailer.bodies_end)
    if gap.strip(b"\0"):
        report.add(
            "bytes between bodies and table are not zero", chunk=name, offset=trailer.bodies_end
        )
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
    covered = 0
    for field in schema.fields.values():
        values = table.parse_values(batch, field.number)
        covered += int(values.length.sum())
        with report.catching(field=field.name, chunk=name):
            _check_bodies(reader, link, field, ids, values, found, report)
    if covered != trailer.bodies_end - trailer.bodies_start:
        message = f"the values cover {covered} bytes of {trailer.bodies_end - trailer.bodies_start}"
        report.add(message, chunk=name, offset=trailer.bodies_start)
    return batch


def _check_bodies(
    reader: ChunkReader,
    link: Link,
    field: Field,
    ids: Ids,
    values: Values,
    found: FoundDictionaries,
    report: Report,
) -> None:
    for rows, start, data in _groups(reader, link, ids, values, field, report):
        for row in rows:
            offset, length = int(values.offset[row]), int(values.length[row])
            body = memoryview(data)[offset - start : offset - start + length]
            report.values += 1
            report.n_bytes += length
            where = {
                "record": int(ids[row]),
                "field": field.name,
                "chunk": link.chunk,
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
    reader: ChunkReader, link: Link, ids: Ids, values: Values, field: Field, report: Report
) -> Iterator[tuple[list[int], int, bytes]]:
    """Read the bodies of a field in large pieces: rows, offset of the piece, bytes of the piece."""
    trailer: Trailer = link.trailer
    ends = values.offset.astype(np.int64) + values.length
    group: list[int] = []
    for row in np.flatnonzero(values.present).tolist():
        if values.offset[row] < trailer.bodies_start or ends[row] > trailer.bodies_end:
            report.add(
                "the table names bytes outside of its segment",
                record=int(ids[row]),
                field=field.name,
                chunk=link.chunk,
                offset=int(values.offset[row]),
            )
            continue
        if group and ends[row] - values.offset[group[0]] > _GROUP:
            yield _read_group(reader, link, values, group)
            group = []
        group.append(row)
    if group:
        yield _read_group(reader, link, values, group)


def _read_group(
    reader: ChunkReader, link: Link, values: Values, rows: list[int]
) -> tuple[list[int], int, bytes]:
    start = int(values.offset[rows].min())
    end = int((values.offset[rows].astype(np.int64) + values.length[rows]).max())
    return rows, start, reader.read(link.chunk, start, end - start)
