"""What people use instead, and the list of every system that is compared."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from benchmarks.data import NAMES, Dataset, Row
from benchmarks.measure import sync_file
from benchmarks.systems import (
    PACKED,
    FileColumns,
    FileRows,
    SqlstoreColumns,
    SqlstoreColumnsPlain,
    SqlstoreRows,
    SqlstoreRowsPlain,
    System,
    as_row,
    bodies,
    buffer_of,
    packed,
    unpacked,
)

_MAP_SIZE = 16 << 30  # what LMDB may grow to; the file is sparse
_KEY = struct.Struct(">Q")
_LABEL_TYPE = "S16"
_HDF5_CHUNK = 1 << 20
_HDF5_ROWS = 8192


class GranularRows(System):
    """granular with a field per metadata column, so each can be read without the others."""

    spec: ClassVar[Mapping[str, str]] = {
        "body": "bytes",
        "label": "utf8",
        "width": "int32",
        "score": "float64",
        "taken": "i64",
        "valid": "bool",
    }

    def __init__(self, folder: Path, data: Dataset, batch: int) -> None:
        import granular

        super().__init__(folder, data, batch)
        encoders = {
            **granular.encoders,
            "int32": struct.Struct("<i").pack,
            "float64": struct.Struct("<d").pack,
            "bool": struct.Struct("?").pack,
        }
        self.writer = granular.DatasetWriter(folder / "granular", self.spec, encoders)
        sync_file(folder / "granular")
        sync_file(folder)

    def sync(self) -> None:
        """Make everything durable: granular itself only flushes to the operating system."""
        self.writer.flush()
        for one in self.writer.writers.values():
            os.fdatasync(one.bag.fileno())
            os.fdatasync(one.idx.fileno())

    def write(self) -> None:
        append = self.writer.append
        for batch in self.batches():
            for record in batch:
                append(record, flush=False)
            self.sync()

    def _reader(self) -> Any:
        import granular

        decoders = {
            **granular.decoders,
            "int32": lambda data: struct.unpack("<i", data)[0],
            "float64": lambda data: struct.unpack("<d", data)[0],
            "bool": lambda data: struct.unpack("?", data)[0],
        }
        return granular.DatasetReader(self.folder / "granular", decoders)

    def read(self) -> Iterator[Row]:
        with self._reader() as reader:
            for i in range(len(reader)):
                yield as_row(reader[i])

    def close(self) -> None:
        self.writer.close()


class GranularPacked(GranularRows):
    """granular with the metadata as one msgpack value: fewer files, no columns."""

    spec: ClassVar[Mapping[str, str]] = {"body": "bytes", "metadata": "msgpack"}

    def write(self) -> None:
        append = self.writer.append
        for batch in self.batches():
            for r in batch:
                metadata = (r["label"], r["width"], r["score"], r["taken"], r["valid"])
                append({"body": r["body"], "metadata": metadata}, flush=False)
            self.sync()

    def read(self) -> Iterator[Row]:
        with self._reader() as reader:
            for i in range(len(reader)):
                record = reader[i]
                yield (record["body"], *record["metadata"])


class _Lmdb(System):
    def __init__(self, folder: Path, data: Dataset, batch: int) -> None:
        import lmdb

        super().__init__(folder, data, batch)
        path = str(folder / "lmdb")
        self.environment = lmdb.open(path, map_size=_MAP_SIZE, max_dbs=2, writemap=False)
        sync_file(folder / "lmdb")
        sync_file(folder)

    def read(self) -> Iterator[Row]:
        with self.environment.begin() as transaction:
            for _, value in transaction.cursor():
                yield unpacked(value)

    def close(self) -> None:
        self.environment.close()


class LmdbRows(_Lmdb):
    """LMDB: one put per record in key order, metadata packed before the body; a sync per commit."""

    def write(self) -> None:
        number = 0
        for batch in self.batches():
            with self.environment.begin(write=True) as transaction:
                for r in batch:
                    label = r["label"].encode()
                    value = (
                        PACKED.pack(r["width"], r["score"], r["taken"], r["valid"], len(label))
                        + label
                        + r["body"]
                    )
                    transaction.put(_KEY.pack(number), value, append=True)
                    number += 1


class LmdbColumns(_Lmdb):
    """LMDB from a table: `putmulti` in key order, metadata packed before each body."""

    def write(self) -> None:
        first = 0
        for batch in self.data.pieces(self.batch):
            keys = map(_KEY.pack, range(first, first + len(batch)))
            first += len(batch)
            columns = [column.to_pylist() for column in batch.columns[1:]]
            values = map(packed, bodies(batch), *columns)
            with self.environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(zip(keys, values, strict=True), append=True)


class LmdbSidecar(_Lmdb):
    """LMDB from a table: `putmulti` of bare bodies, the metadata of a batch as one Arrow value."""

    def __init__(self, folder: Path, data: Dataset, batch: int) -> None:
        super().__init__(folder, data, batch)
        self.bodies = self.environment.open_db(b"bodies")
        self.metadata = self.environment.open_db(b"metadata")

    def write(self) -> None:
        first = 0
        for batch in self.data.pieces(self.batch):
            keys = map(_KEY.pack, range(first, first + len(batch)))
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema.remove(0)) as stream:
                stream.write_batch(batch.select(NAMES[1:]))
            with self.environment.begin(write=True) as transaction:
                with transaction.cursor(self.bodies) as cursor:
                    cursor.putmulti(zip(keys, bodies(batch), strict=True), append=True)
                transaction.put(_KEY.pack(first), sink.getvalue(), db=self.metadata, append=True)
            first += len(batch)

    def read(self) -> Iterator[Row]:
        with self.environment.begin() as transaction:
            stored = iter(transaction.cursor(self.bodies))
            for _, part in transaction.cursor(self.metadata):
                for r in pa.ipc.open_stream(part).read_all().to_pylist():
                    yield as_row({"body": next(stored)[1], **r})


class _Hdf5(System):
    """HDF5: bodies back to back in one dataset, where they end in another, a dataset per column."""

    def __init__(self, folder: Path, data: Dataset, batch: int) -> None:
        import h5py

        super().__init__(folder, data, batch)
        self.file = h5py.File(folder / "data.h5", "w", libver="latest")
        types = {"end": "i8", "label": _LABEL_TYPE, "width": "i4", "score": "f8"}
        types |= {"taken": "i8", "valid": "?"}
        self.bodies = self._dataset("body", "u1", _HDF5_CHUNK)
        self.columns = {
            name: self._dataset(name, kind, min(batch, _HDF5_ROWS)) for name, kind in types.items()
        }
        self.written = self.end = 0
        self.sync()
        sync_file(folder)

    def _dataset(self, name: str, kind: str, chunk: int) -> Any:
        return self.file.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(chunk,))

    def sync(self) -> None:
        """Flush the library, then the operating system."""
        self.file.flush()
        os.fdatasync(self.file.id.get_vfd_handle())

    def put(self, body: Any, columns: dict[str, Any]) -> None:
        """Append a batch and make it durable."""
        count = len(columns["end"])
        self.bodies.resize((self.end + len(body),))
        self.bodies[self.end :] = body
        for name, values in columns.items():
            self.columns[name].resize((self.written + count,))
            self.columns[name][self.written :] = values
        self.written += count
        self.end += len(body)
        self.sync()

    def read(self) -> Iterator[Row]:
        start = 0
        names = ("end", *NAMES[1:])
        rows = zip(*(self.columns[name][:].tolist() for name in names), strict=True)
        for end, label, *others in rows:
            yield (self.bodies[start:end].tobytes(), label.decode(), *others)
            start = end

    def close(self) -> None:
        self.file.close()


class Hdf5Rows(_Hdf5):
    """HDF5 with a batch of records collected in memory; it has no cheap append of single ones."""

    def write(self) -> None:
        for batch in self.batches():
            columns: dict[str, Any] = {name: [r[name] for r in batch] for name in NAMES}
            lengths = np.fromiter(map(len, columns["body"]), np.int64, len(batch))
            body = np.frombuffer(b"".join(columns.pop("body")), np.uint8)
            columns["label"] = np.array([label.encode() for label in columns["label"]], _LABEL_TYPE)
            self.put(body, {"end": self.end + np.cumsum(lengths), **columns})


class Hdf5Columns(_Hdf5):
    """HDF5 from the buffers of a table."""

    def write(self) -> None:
        for batch in self.data.pieces(self.batch):
            bounds, body = buffer_of(batch)
            columns = {
                name: batch.column(name).to_numpy(zero_copy_only=False) for name in NAMES[1:]
            }
            columns["label"] = columns["label"].astype(_LABEL_TYPE)
            array = np.frombuffer(body[bounds[0] : bounds[-1]], np.uint8)
            self.put(array, {"end": self.end + (bounds[1:] - bounds[0]), **columns})


@dataclass(frozen=True)
class Entry:
    """A system in the table.

    Attributes
    ----------
    style
        ``"rows"`` takes records one by one, ``"columns"`` takes an Arrow table.
    package
        What must be installed for it beside sqlstore, or None.
    """

    name: str
    style: Literal["rows", "columns"]
    make: Callable[[Path, Dataset, int], System]
    package: str | None = None

    @property
    def is_ours(self) -> bool:
        """Return whether it is sqlstore itself."""
        return self.name.startswith("sqlstore")

    @property
    def is_installed(self) -> bool:
        """Return whether the package is there."""
        return self.package is None or find_spec(self.package) is not None


SYSTEMS = (
    Entry("sqlstore, lz4", "rows", SqlstoreRows),
    Entry("sqlstore, none", "rows", SqlstoreRowsPlain),
    Entry("granular", "rows", GranularRows, "granular"),
    Entry("granular, packed metadata", "rows", GranularPacked, "granular"),
    Entry("LMDB put", "rows", LmdbRows, "lmdb"),
    Entry("HDF5", "rows", Hdf5Rows, "h5py"),
    Entry("plain file", "rows", FileRows),
    Entry("sqlstore, lz4", "columns", SqlstoreColumns),
    Entry("sqlstore, none", "columns", SqlstoreColumnsPlain),
    Entry("LMDB putmulti", "columns", LmdbColumns, "lmdb"),
    Entry("LMDB putmulti, Arrow metadata", "columns", LmdbSidecar, "lmdb"),
    Entry("HDF5", "columns", Hdf5Columns, "h5py"),
    Entry("plain file, Arrow stream", "columns", FileColumns),
)
"""Every system, ours first."""
