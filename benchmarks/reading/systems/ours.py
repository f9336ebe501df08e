"""sqlstore itself: with its defaults, without compression, with an index, and read otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import sqlstore
from benchmarks.data import METADATA_TYPES, NAMES, Dataset
from benchmarks.reading.protocol import Viewed

_READS = frozenset({"single", "batch", "views", "scan"})
_INDEXED = {**METADATA_TYPES, "width": sqlstore.Column("int32", index=True)}


class Sqlstore(Viewed):
    """A store as `create` makes it: LZ4, kept raw where that does not help, as it does not here."""

    name = "sqlstore"
    checks = "CRC once"
    how = "`raw`, `blobs`, `blobs(copy=False)`, `where`, `to_arrow`, `batches`; all defaults"
    compression: ClassVar[str | None] = "lz4"
    columns: ClassVar[Mapping[str, Any]] = METADATA_TYPES
    io: ClassVar[Literal["mmap", "pread", "memory"]] = "mmap"
    verify: ClassVar[Literal["once", "always", "never"]] = "once"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        with sqlstore.create(
            folder / "store",
            fields={"body": "bytes"},
            metadata=cls.columns,
            compression=cls.compression,
        ) as store:
            store.extend(data.table)

    def __init__(self, folder: Path) -> None:
        self.store = sqlstore.open(folder / "store", io=self.io, verify=self.verify)
        # Every record has a body, so it is never None.
        self.raw = cast("Callable[[int, str], bytes]", self.store.raw)

    def get(self, record: int) -> bytes:
        return self.raw(record, "body")

    def batch(self, records: NDArray[np.int64]) -> pa.Array:
        return self.store.blobs("body", records)

    def views(self, records: NDArray[np.int64]) -> pa.Array:
        return self.store.blobs("body", records, copy=False)

    def matching(self, below: int) -> pa.Array:
        return self.store.where("width < :below", below=below).blobs("body")

    def metadata(self) -> pa.Table:
        return self.store.to_arrow().select(NAMES[1:])

    def scan(self) -> Iterator[pa.Array]:
        for view in self.store.batches(1024):
            yield view.blobs("body", copy=False)

    def close(self) -> None:
        self.store.close()


class SqlstorePlain(Sqlstore):
    """The field declared as one that is not worth compressing."""

    name = "sqlstore, uncompressed"
    how = "the same with `compression=None`"
    compression = None


class SqlstoreIndexed(SqlstorePlain):
    """A SQL index on the column that is filtered by."""

    name = "sqlstore, uncompressed, indexed"
    how = "the same with an index on `width`"
    columns = _INDEXED


class _Reread(SqlstorePlain):
    """Another way to read the uncompressed store."""

    written_by = SqlstorePlain
    measures = _READS


class SqlstoreAlways(_Reread):
    """Every checksum, every time."""

    name = "sqlstore, uncompressed, always"
    checks = "CRC always"
    how = 'the same with `verify="always"`'
    verify = "always"


class SqlstoreNever(_Reread):
    """No checksums."""

    name = "sqlstore, uncompressed, never"
    checks = "none"
    how = 'the same with `verify="never"`'
    verify = "never"


class SqlstorePread(_Reread):
    """Nothing mapped but the caches."""

    name = "sqlstore, uncompressed, pread"
    how = 'the same with `io="pread"`'
    measures = frozenset({"open", "single", "batch"})
    io = "pread"


class SqlstoreMemory(_Reread):
    """Whole chunks in memory."""

    name = "sqlstore, uncompressed, memory"
    how = 'the same with `io="memory"`'
    measures = frozenset({"open", "single", "batch"})
    io = "memory"


SYSTEMS = (
    Sqlstore,
    SqlstorePlain,
    SqlstoreIndexed,
    SqlstoreAlways,
    SqlstoreNever,
    SqlstorePread,
    SqlstoreMemory,
)
