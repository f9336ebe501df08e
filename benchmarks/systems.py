"""What every system does, ours, and the plain file that all are measured against.

A system is made ready for its first record when it is constructed; `System.write` is what is timed,
from the first record until all are durable. Every one of them syncs after every ``batch`` records,
and holds the five metadata columns too.
"""

from __future__ import annotations

import itertools
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import sqlstore
from benchmarks.data import ARROW_SCHEMA, METADATA_TYPES, Dataset, Row
from benchmarks.measure import sync_file

_LENGTH = struct.Struct("<I")
PACKED = struct.Struct("<idq?B")
"""Width, score, taken, valid, and the length of the label, which follows."""
_MOST_BUFFERS = 1024

Bounds: TypeAlias = NDArray[np.int32]


class System(ABC):
    """One way to keep records.

    Parameters
    ----------
    folder
        An empty folder of its own.
    data
        What will be written.
    batch
        After how many records it syncs.
    """

    def __init__(self, folder: Path, data: Dataset, batch: int) -> None:
        self.folder = folder
        self.data = data
        self.batch = batch

    @abstractmethod
    def write(self) -> None:
        """Write all records and make them durable."""

    @abstractmethod
    def read(self) -> Iterator[Row]:
        """Return what was written, in order."""

    @abstractmethod
    def close(self) -> None:
        """Let go of every file."""

    def batches(self) -> Iterator[Sequence[dict[str, Any]]]:
        """Return the records as mappings, a batch at a time."""
        for start in range(0, len(self.data), self.batch):
            yield self.data.records[start : start + self.batch]


class _Sqlstore(System):
    compression: str | None

    def __init__(self, folder: Path, data: Dataset, batch: int) -> None:
        super().__init__(folder, data, batch)
        self.store = sqlstore.create(
            folder / "store",
            fields={"body": "bytes"},
            metadata=METADATA_TYPES,
            compression=self.compression,
        )
        # Only the count decides when to commit, as for everybody else.
        most = sqlstore.GiB
        self.writer = self.store.writer(commit_records=batch, commit_bytes=most)

    def read(self) -> Iterator[Row]:
        with sqlstore.open(self.store.path) as store:
            for record in store:
                yield as_row(record)

    def close(self) -> None:
        self.writer.close()
        self.store.close()


class SqlstoreRows(_Sqlstore):
    """One `Writer.append` per record, with the default compression."""

    compression: str | None = "lz4"

    def write(self) -> None:
        append = self.writer.append
        for record in self.data.records:
            append(record)
        self.writer.commit()


class SqlstoreRowsPlain(SqlstoreRows):
    """The same without compression."""

    compression = None


class SqlstoreColumns(_Sqlstore):
    """The Arrow table at once, with the default compression.

    `Store.extend` opens a writer and does this.
    """

    compression: str | None = "lz4"

    def write(self) -> None:
        self.writer.extend(self.data.table)
        self.writer.commit()


class SqlstoreColumnsPlain(SqlstoreColumns):
    """The same without compression."""

    compression = None


class _File(System):
    def __init__(self, folder: Path, data: Dataset, batch: int) -> None:
        super().__init__(folder, data, batch)
        self.path = folder / "records"
        self.file = self.path.open("wb", buffering=0)
        sync_file(folder)

    def sync(self) -> None:
        """Make everything durable."""
        os.fdatasync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


class FileRows(_File):
    """A plain file: length, packed metadata, body, again and again; the limit of the disk."""

    def write(self) -> None:
        for batch in self.batches():
            parts: list[bytes] = []
            for r in batch:
                label, body = r["label"].encode(), r["body"]
                metadata = PACKED.pack(r["width"], r["score"], r["taken"], r["valid"], len(label))
                parts += (_LENGTH.pack(len(body)) + metadata + label, body)
            for start in range(0, len(parts), _MOST_BUFFERS):
                self._write(parts[start : start + _MOST_BUFFERS])
            self.sync()

    def _write(self, parts: list[bytes]) -> None:
        if os.writev(self.file.fileno(), parts) != sum(map(len, parts)):
            raise OSError(f"{self.path} took only a part of what was written")

    def read(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            while prefix := file.read(_LENGTH.size):
                fixed = file.read(PACKED.size)
                *_, n_label = PACKED.unpack(fixed)
                (n_body,) = _LENGTH.unpack(prefix)
                yield unpacked(fixed + file.read(n_label + n_body))


class FileColumns(_File):
    """A plain file: the table as an Arrow stream, batch after batch."""

    def write(self) -> None:
        with pa.ipc.new_stream(self.file, ARROW_SCHEMA) as stream:
            for batch in self.data.pieces(self.batch):
                stream.write_batch(batch)
                self.sync()
        self.sync()

    def read(self) -> Iterator[Row]:
        with pa.ipc.open_stream(self.path) as stream:
            for batch in stream:
                yield from zip(*(c.to_pylist() for c in batch.columns), strict=True)


def as_row(record: dict[str, Any]) -> Row:
    """Return a record that was read as a mapping."""
    return (
        record["body"],
        record["label"],
        record["width"],
        record["score"],
        record["taken"],
        record["valid"],
    )


def packed(
    body: memoryview, label: str, width: int, score: float, taken: int, valid: bool
) -> bytes:
    """Return a record as one value: metadata, then body."""
    name = label.encode()
    return b"".join((PACKED.pack(width, score, taken, valid, len(name)), name, body))


def unpacked(value: bytes) -> Row:
    """Return the record that was packed."""
    width, score, taken, valid, n_label = PACKED.unpack_from(value)
    end = PACKED.size + n_label
    return value[end:], value[PACKED.size : end].decode(), width, score, taken, valid


def bodies(batch: pa.RecordBatch) -> Iterator[memoryview]:
    """Return the bodies of a record batch one by one, without copying them."""
    bounds, body = buffer_of(batch)
    ends = bounds.tolist()
    return (body[start:end] for start, end in itertools.pairwise(ends))


def buffer_of(batch: pa.RecordBatch) -> tuple[Bounds, memoryview]:
    """Return where the bodies of a record batch begin and end, and the bytes that hold them."""
    column = batch.column("body")
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return bounds, memoryview(data)
