"""The bytes of chunks, by the integers that location rows name them by.

`MappedChunks` has whole chunk files as memory, mapped or read; `ReadChunks` reads what is asked
for. Both give the same bytes.
"""

from __future__ import annotations

import itertools
import uuid
from abc import ABC, abstractmethod
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.cache.chunks import ChunkFiles
from sqlstore.errors import CorruptChunkError, StoreClosedError, TruncatedChunkError
from sqlstore.log import files
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, Header
from sqlstore.reading.held import Held, words_at
from sqlstore.reading.runs import Runs, runs_of
from sqlstore.small import are_all, largest
from sqlstore.types import Buffer

_NO_BUFFER: Final = pa.py_buffer(b"")


class Chunks(ABC):
    """Gives the bytes of chunks.

    Attributes
    ----------
    maps
        Whole chunks that are in memory already.
    known
        The chunk files by number; may be replaced by one that knows more.
    """

    maps: dict[int, memoryview]
    known: ChunkFiles

    @abstractmethod
    def piece(self, chunk: int, offset: int, length: int) -> Buffer:
        """Return bytes of one chunk.

        Raises
        ------
        MissingChunkError, TruncatedChunkError
            They are not there.
        """

    @abstractmethod
    def hold(
        self, chunk: NDArray[np.uint32], offset: NDArray[np.uint32], length: NDArray[np.uint32]
    ) -> Held:
        """Return pieces of chunks in memory; every argument has shape ``(n,)``."""

    @abstractmethod
    def name(self, chunk: int) -> str:
        """Return the file name of a chunk."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all memory and files; arrays made from them stay as they are."""


class MappedChunks(Chunks):
    """Chunk files as memory.

    Parameters
    ----------
    root, store
        The folder of the store, and its uuid, which every chunk must name.
    known
        The chunk files by number.
    in_memory
        Read files whole instead of mapping them.
    most
        How many are kept. No descriptor stays open for any.
    """

    def __init__(
        self,
        root: Path,
        store: uuid.UUID,
        known: ChunkFiles,
        *,
        in_memory: bool = False,
        most: int = limits.MAX_MAPPED_CHUNKS,
    ) -> None:
        self._root = root
        self._store = store
        self.known = known
        self._in_memory = in_memory
        self._most = most
        self._closed = False
        self._buffers: dict[int, pa.Buffer] = {}
        self._words: dict[int, NDArray[np.uint32]] = {}
        self.maps = {}

    def name(self, chunk: int) -> str:
        """Return the file name of a chunk."""
        return self.known[chunk].name

    def piece(self, chunk: int, offset: int, length: int) -> memoryview:
        """Return bytes of one chunk, without copying them."""
        memory = self.maps.get(chunk)
        if memory is None or len(memory) < offset + length:
            memory = memoryview(self._load(chunk, offset + length)).cast("B")
        return memory[offset : offset + length]

    def hold(
        self, chunk: NDArray[np.uint32], offset: NDArray[np.uint32], length: NDArray[np.uint32]
    ) -> Held:
        """Return pieces of chunks: whole chunks, each of them once."""
        if not len(chunk):
            return Held([_NO_BUFFER], None, offset)
        first = int(chunk[0])
        if are_all(chunk == first):
            buffer = self._buffers.get(first)
            if buffer is None or buffer.size < largest(offset) + largest(length):
                buffer = self._buffer(first, int((offset.astype(np.int64) + length).max()))
            return Held([buffer], None, offset, self._words.get(first))
        numbers, which = np.unique(chunk, return_inverse=True)
        ends = np.zeros(len(numbers), np.int64)
        np.maximum.at(ends, which, offset.astype(np.int64) + length)
        buffers = [self._buffer(n, e) for n, e in zip(numbers.tolist(), ends.tolist(), strict=True)]
        return Held(buffers, which.astype(np.int32), offset)

    def _buffer(self, chunk: int, end: int) -> pa.Buffer:
        """Return a chunk that reaches to an offset; it may have grown since it was mapped."""
        buffer = self._buffers.get(chunk)
        if buffer is None or buffer.size < end:
            buffer = self._load(chunk, end)
        return buffer

    def _load(self, chunk: int, end: int) -> pa.Buffer:
        if self._closed:
            raise StoreClosedError("the store is closed")
        known = self.known[chunk]
        path = files.chunk_path(self._root, known.name)
        descriptor = files.open_to_read(path)
        try:
            size = files.size_of(descriptor)
            if size < max(end, HEADER_SIZE):
                raise TruncatedChunkError(
                    f"the file has {size} bytes, {end} were expected", chunk=known.name, offset=size
                )
            if size > limits.MAX_CHUNK_BYTES:  # offsets in Arrow's views have 31 bits
                raise CorruptChunkError(f"the file has {size} bytes", chunk=known.name, offset=0)
            buffer = files.read_whole(descriptor, size, known.name) if self._in_memory else None
        finally:
            files.close(descriptor)
        if buffer is None:
            buffer = files.mapped(path)
        _check_header(
            buffer.slice(0, HEADER_SIZE).to_pybytes(), known.name, self._store, known.uuid
        )
        self._keep(chunk, buffer)
        return buffer

    def _keep(self, chunk: int, buffer: pa.Buffer) -> None:
        if len(self.maps) >= self._most:
            for number in list(self.maps)[: len(self.maps) // 2 + 1]:
                self.maps.pop(number, None)
                self._buffers.pop(number, None)
                self._words.pop(number, None)
        # The words before the buffer: another thread may read in between.
        self._words[chunk] = words_at(buffer)
        self._buffers[chunk] = buffer
        self.maps[chunk] = memoryview(buffer).cast("B")

    def close(self) -> None:
        """Let go of all chunks."""
        self._closed = True
        self._buffers.clear()
        self._words.clear()
        self.maps.clear()


def _check_header(data: bytes, name: str, store: uuid.UUID, chunk: uuid.UUID) -> None:
    """Raise if this is the chunk of another store or place.

    A damaged header is no reason to lose the values behind it, which have checksums of their own.
    """
    try:
        header = Header.unpack(data, name)
    except CorruptChunkError:
        return
    if (header.store, header.chunk) != (store, chunk):
        raise CorruptChunkError("this is the chunk of another place or store", chunk=name, offset=0)


class ReadChunks(Chunks):
    """Chunk files that are read piece by piece, with a bounded number of descriptors.

    Parameters
    ----------
    reader
        Reads them.
    store
        The uuid of the store, which every chunk must name.
    known
        The chunk files by number.
    """

    def __init__(self, reader: ChunkReader, store: uuid.UUID, known: ChunkFiles) -> None:
        self._reader = reader
        self._store = store
        self.known = known
        self._names: dict[int, str] = {}
        self.maps = {}

    def name(self, chunk: int) -> str:
        """Return the file name of a chunk, whose header has been checked."""
        name = self._names.get(chunk)
        if name is None:
            known = self.known[chunk]
            name = known.name
            header = self._reader.read(name, 0, HEADER_SIZE)
            _check_header(header, name, self._store, known.uuid)
            self._names[chunk] = name
        return name

    def piece(self, chunk: int, offset: int, length: int) -> bytes:
        """Return bytes of one chunk."""
        return self._reader.read(self.name(chunk), offset, length)

    def hold(
        self, chunk: NDArray[np.uint32], offset: NDArray[np.uint32], length: NDArray[np.uint32]
    ) -> Held:
        """Read pieces of chunks in the order in which they lie, near ones with one read."""
        if not len(chunk):
            return Held([_NO_BUFFER], None, offset)
        order = np.lexsort((offset, chunk))
        start = offset[order].astype(np.int64)
        runs = runs_of(chunk[order].astype(np.int64), start, start + length[order])
        self._check_ends(runs)
        memories = [np.empty(size, np.uint8) for size in runs.sizes]
        self._fill([memory.data for memory in memories], runs)
        which, place = np.empty(len(chunk), np.int32), np.empty(len(chunk), np.int64)
        which[order] = runs.buffer[runs.of_piece]
        place[order] = start + (runs.place - runs.start)[runs.of_piece]
        buffers = [pa.py_buffer(memory) for memory in memories]
        return Held(buffers, which if len(buffers) > 1 else None, place)

    def _check_ends(self, runs: Runs) -> None:
        """Raise if long pieces are not there, before memory is reserved for them."""
        for run in np.flatnonzero(runs.end - runs.start > limits.MiB).tolist():
            name, end = self.name(int(runs.chunk[run])), int(runs.end[run])
            if (size := self._reader.size(name)) < end:
                raise TruncatedChunkError(
                    f"the file has {size} bytes, {end} were expected", chunk=name, offset=size
                )

    def _fill(self, memories: list[memoryview], runs: Runs) -> None:
        columns = runs.chunk, runs.start, runs.end, runs.buffer, runs.place
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for chunk, group in itertools.groupby(rows, key=itemgetter(0)):
            pieces = [
                (start, memories[buffer][place : place + end - start])
                for _, start, end, buffer, place in group
            ]
            self._reader.read_into(self.name(chunk), pieces)

    def close(self) -> None:
        """Close every file."""
        self._reader.close()
