"""Read chunk files: stored bytes, segment tables and trailers."""

from __future__ import annotations

import threading
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from sqlstore import limits
from sqlstore.errors import CorruptChunkError, StoreClosedError
from sqlstore.forks import ToldOfForks
from sqlstore.log import files, ipc
from sqlstore.log.segment import HEADER_SIZE, TRAILER_SIZE, CommitKind, Header, Trailer, span


class ChunkReader:
    """Reads the chunk files of one store with a bounded number of descriptors.

    Safe to use from several threads: every read names its place, and a descriptor is not closed
    while it is in use.

    Parameters
    ----------
    root
        The folder of the store.
    most_open
        How many chunk files may be open between reads.
    """

    def __init__(self, root: Path, most_open: int = limits.MAX_OPEN_CHUNKS) -> None:
        self._closed = False
        self.root = root
        self._most_open = most_open
        self._idle: OrderedDict[str, list[int]] = OrderedDict()
        self._n_idle = 0
        self._mutex = threading.Lock()
        self._headers: dict[str, Header] = {}
        _readers.add(self)

    def _lend(self, name: str) -> int:
        """Lend a descriptor of a chunk; until it is given back, nobody else uses or closes it."""
        with self._mutex:
            if self._closed:
                raise StoreClosedError("the store is closed")
            idle = self._idle.get(name)
            if idle:
                self._n_idle -= 1
                return idle.pop()
        return files.open_to_read(files.chunk_path(self.root, name))

    def _give_back(self, name: str, descriptor: int) -> None:
        surplus: list[int] = []
        with self._mutex:
            self._idle.setdefault(name, []).append(descriptor)
            self._idle.move_to_end(name)
            self._n_idle += 1
            bound = 0 if self._closed else self._most_open
            while self._n_idle > bound:
                oldest = next(iter(self._idle))
                if self._idle[oldest]:
                    surplus.append(self._idle[oldest].pop(0))
                    self._n_idle -= 1
                if not self._idle[oldest]:
                    del self._idle[oldest]
        for unused in surplus:
            files.close(unused)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return bytes of a chunk.

        Raises
        ------
        MissingChunkError, TruncatedChunkError
            They are not there.
        """
        descriptor = self._lend(name)
        try:
            return files.read_exactly(descriptor, offset, length, name)
        finally:
            self._give_back(name, descriptor)

    def read_into(self, name: str, pieces: Iterable[tuple[int, memoryview]]) -> None:
        """Fill each buffer with the bytes of a chunk from an offset on."""
        descriptor = self._lend(name)
        try:
            files.read_into(descriptor, pieces, name)
        finally:
            self._give_back(name, descriptor)

    def size(self, name: str) -> int:
        """Return the size of a chunk file in bytes.

        Raises
        ------
        CorruptChunkError
            It is larger than any chunk.
        """
        descriptor = self._lend(name)
        try:
            size = files.size_of(descriptor)
        finally:
            self._give_back(name, descriptor)
        if size > limits.MAX_CHUNK_BYTES:
            raise CorruptChunkError(f"the file has {size} bytes", chunk=name, offset=0)
        return size

    def header(self, name: str) -> Header:
        """Return the header of a chunk, read once."""
        if name not in self._headers:
            self._headers[name] = Header.unpack(self.read(name, 0, HEADER_SIZE), name)
        return self._headers[name]

    def trailer(self, name: str, offset: int, chunk: uuid.UUID) -> Trailer | None:
        """Return the trailer at an offset, or None if none is there.

        Parameters
        ----------
        chunk
            The uuid of the chunk file.
        """
        if offset < HEADER_SIZE or offset + TRAILER_SIZE > self.size(name):
            return None
        return Trailer.unpack(self.read(name, offset, TRAILER_SIZE), offset, chunk)

    def table(self, name: str, trailer: Trailer) -> pa.RecordBatch:
        """Return the segment table that a trailer closes.

        Raises
        ------
        CorruptChunkError
            It is not what was committed.
        """
        start, end = trailer.table_start, trailer.table_end
        data = self.read(name, start, end - start)
        if zlib.crc32(data) != trailer.table_crc:
            raise CorruptChunkError(
                f"the segment table of commit {trailer.number} "
                f"({span(trailer.first_record, trailer.records)}) is damaged",
                chunk=name,
                offset=start,
            )
        batch = ipc.parse(data, name, start)
        if trailer.kind == CommitKind.APPEND and batch.num_rows != trailer.records:
            raise CorruptChunkError(
                f"the segment table of commit {trailer.number} has {batch.num_rows} rows for "
                f"{trailer.records} records",
                chunk=name,
                offset=start,
            )
        return batch

    def close(self) -> None:
        """Close every file."""
        self._closed = True
        self.close_idle()

    def close_idle(self) -> None:
        """Close every file that is not being read; it is opened again when it is needed."""
        with self._mutex:
            descriptors = [d for idle in self._idle.values() for d in idle]
            self._idle.clear()
            self._n_idle = 0
        for descriptor in descriptors:
            files.close(descriptor)

    def __del__(self) -> None:
        if not self._closed:
            self.close()

    def _unlock_in_child(self) -> None:
        """Begin anew with the mutex, which another thread of the parent may have held."""
        self._mutex = threading.Lock()


_readers = ToldOfForks(ChunkReader._unlock_in_child)
