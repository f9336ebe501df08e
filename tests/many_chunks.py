"""A store of many chunks, made in a moment: commits one by one would take half a minute."""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

import sqlstore
from sqlstore import Field
from sqlstore.log import chain, table
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, CommitKind, Header, Trailer, align


def value(record: int) -> bytes:
    """Return a value of about one KiB that no other record has."""
    return b"%06d" % record * 170


def make(root: Path, count: int) -> Path:
    """Make a store with a chunk and a commit for each of its records."""
    sqlstore.create(root, fields={"data": Field("bytes", None)}, chunk_size=sqlstore.KiB).close()
    (first,) = (root / "chunks").iterdir()
    reader = ChunkReader(root)
    store = reader.header(first.name)
    (link,) = chain.walk(reader, first.name, store.chunk).links
    reader.close()
    for record, (chunk, content) in enumerate(_chunks(store.store, link.trailer, count)):
        name = f"{record + 1:06d}-{chunk.int % 2**32:08x}.chunk"
        (root / "chunks" / name).write_bytes(content)
    with mock.patch.object(os, "fsync"), mock.patch.object(os, "fdatasync"):
        assert sqlstore.rebuild(root) == count
    return root


def _chunks(store: uuid.UUID, previous: Trailer, count: int) -> Iterator[tuple[uuid.UUID, bytes]]:
    """Return the chunks that follow a commit: their uuids and bytes."""
    for record in range(count):
        chunk, body = uuid.uuid4(), value(record)
        rows = bytes(table.build_append({0: _values(body)}, {}))
        end = HEADER_SIZE + len(body)
        previous = Trailer(
            kind=CommitKind.APPEND,
            skippable=False,
            schema_version=previous.schema_version,
            number=previous.number + 1,
            commit=uuid.uuid4(),
            previous=previous.commit,
            first_record=record,
            records=1,
            committed_at=previous.committed_at,
            chunk=record + 1,
            bodies_start=HEADER_SIZE,
            bodies_end=end,
            table_start=align(end),
            table_end=align(end) + len(rows),
            table_crc=zlib.crc32(rows),
        )
        header, padding = Header(store, chunk).pack(), bytes(align(end) - end)
        yield chunk, header + body + padding + rows + previous.pack(chunk)


def _values(body: bytes) -> table.Values:
    one = np.ones(1, np.uint32)
    return table.Values(
        present=np.ones(1, bool),
        offset=one * HEADER_SIZE,
        length=one * len(body),
        raw_length=one * len(body),
        items=one * 0,
        crc=one * zlib.crc32(body),
        compression=np.zeros(1, np.uint8),
    )
