"""Append segments to a chunk file that belongs to this writer alone."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pyarrow as pa

from sqlstore import limits
from sqlstore.errors import CorruptChunkError, StoreTooNewError
from sqlstore.log import carriers, files
from sqlstore.log.segment import HEADER_SIZE, Header, Trailer, align
from sqlstore.types import Buffer

NO_CHUNK: Final = uuid.UUID(int=0)


class ChunkWriter:
    """A chunk file that one writer appends to, under the `flock` of the file.

    Attributes
    ----------
    name, path, chunk
        File name, where it lies, and its uuid.
    integer
        What stands for the chunk in the index; None until its first commit.
    size
        Its committed size: where the next segment begins.
    """

    def __init__(self, path: Path, descriptor: int, chunk: uuid.UUID, size: int) -> None:
        self.name = path.name
        self.path = path
        self.chunk = chunk
        self.integer: int | None = None
        self.size = size
        self._may_hold_commit = False
        self._descriptor = descriptor
        carriers.carries_lock(descriptor)

    @classmethod
    def create(cls, root: Path, store: uuid.UUID, sequence: int) -> ChunkWriter:
        """Begin a new chunk file.

        Parameters
        ----------
        sequence
            First part of its name; the second is random, so two writers never collide.
        """
        chunk = uuid.uuid4()
        path = root / files.CHUNKS_FOLDER / f"{sequence:06d}-{secrets.token_hex(4)}.chunk"
        descriptor = files.create_exclusively(path)
        writer = cls(path, descriptor, chunk, HEADER_SIZE)
        try:
            # Another writer may hold it for the instant in which it looks whether anybody does.
            files.lock(descriptor, path, limits.LOCK_SECONDS)
            files.write_at(descriptor, 0, [Header(store, chunk).pack()], path)
        except BaseException:
            writer.abandon()
            raise
        return writer

    @classmethod
    def resume(cls, root: Path, store: uuid.UUID, name: str) -> ChunkWriter | None:
        """Open a chunk file to append to it, or return None if that cannot be done.

        It cannot if another writer has the chunk, or if its header is damaged or foreign.

        The caller must then compare `actual_size` with the size that is committed *now* and set
        `size`, or close it.
        """
        path = files.chunk_path(root, name)
        writer = cls(path, files.open_to_append(path), NO_CHUNK, -1)
        try:
            if files.try_lock(writer._descriptor, path):
                data = files.read_exactly(writer._descriptor, 0, HEADER_SIZE, name)
                header = Header.unpack(data, name)
                if header.store == store:
                    writer.chunk = header.chunk
                    return writer
        except (CorruptChunkError, StoreTooNewError):
            pass  # then it is not continued; `verify` says what is wrong with it
        except BaseException:
            writer.close()
            raise
        writer.close()
        return None

    @staticmethod
    def is_free(root: Path, name: str) -> bool:
        """Return whether no writer has a chunk; under the writer lock, none takes it then."""
        path = files.chunk_path(root, name)
        descriptor = files.open_to_append(path)
        try:
            return files.try_lock(descriptor, path)
        finally:
            files.close(descriptor)

    @property
    def is_new(self) -> bool:
        """Return whether nothing has been committed to the chunk yet."""
        return self.integer is None

    @property
    def may_hold_commit(self) -> bool:
        """Return whether a trailer was begun of which nobody knows what became."""
        return self._may_hold_commit

    def actual_size(self) -> int:
        """Return the size of the file."""
        return files.size_of(self._descriptor)

    def write(self, bodies: Iterable[Buffer], bodies_end: int, table: pa.Buffer) -> None:
        """Write a segment but for its trailer, and make it durable."""
        end = files.write_at(self._descriptor, self.size, bodies, self.path)
        if end != bodies_end:
            raise CorruptChunkError("bodies and table disagree", chunk=self.name, offset=end)
        padding = bytes(align(end) - end)
        files.write_at(self._descriptor, end, [padding, memoryview(table)], self.path)
        files.sync_data(self._descriptor, self.path)

    def write_trailer(self, trailer: Trailer) -> None:
        """Append the trailer and make it durable: from here on the commit exists.

        Until `committed` or `discard`, the file may hold a commit: it is not removed.
        """
        self._may_hold_commit = True
        data = trailer.pack(self.chunk)
        files.write_at(self._descriptor, trailer.table_end, [data], self.path)
        files.sync_file(self._descriptor, self.path)
        if self.is_new:
            files.sync_folder(self.path.parent)

    def committed(self, trailer: Trailer) -> None:
        """Take over what the index has accepted."""
        self.integer = trailer.chunk
        self.size = trailer.end
        self._may_hold_commit = False

    def discard(self) -> None:
        """Cut off what this writer wrote since its last commit."""
        files.truncate(self._descriptor, self.size, self.path)
        self._may_hold_commit = False

    def abandon(self) -> None:
        """Close the file; if nothing was ever committed to it, remove it."""
        if self.is_new and not self._may_hold_commit:
            files.remove_left_over(self.path)
        self.close()

    def close(self) -> None:
        """Close the file and give up its lock."""
        if self._descriptor >= 0:
            carriers.close_carrier(self._descriptor)
            self._descriptor = -1
