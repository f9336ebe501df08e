"""The operating system, as the chunk files see it. No other module opens a chunk file.

Every function turns what the system refuses into `StorageError` or `StoreFullError` and names the
file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from sqlstore.errors import (
    MissingChunkError,
    NotAStoreError,
    StorageError,
    StoreBusyError,
    StoreFullError,
    StoreNotFoundError,
    TruncatedChunkError,
)
from sqlstore.types import Buffer

CHUNKS_FOLDER: Final = "chunks"
CHUNK_NAME: Final = re.compile(r"[0-9]{6,10}-[0-9a-f]{8}\.chunk")
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS: Final = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP}
_FIRST_PAUSE: Final = 0.0005
_LONGEST_PAUSE: Final = 0.01
_UNCHECKED: Final = 1 << 20  # bytes that are asked for without a look at the size of the file
_MOST_BUFFERS: Final = 1024  # IOV_MAX on Linux and macOS


@contextmanager
def storage_errors(what: str, path: str | Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into one of ours that names the file."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise refused(what, path, error) from error


def refused(what: str, path: str | Path, error: OSError) -> StorageError:
    """Return our error for something that the system has refused to do with a file."""
    full = error.errno in _FULL
    hint = "; free some space and write again: the last commit is intact" if full else ""
    kind = StoreFullError if full else StorageError
    why = str(error) if error.errno is None else os.strerror(error.errno)
    ours = kind(f"cannot {what} {path}: {why}{hint}")
    ours.errno = error.errno
    return ours


def check_has_chunks(root: Path) -> None:
    """Raise unless a folder looks like a store."""
    if not root.exists():
        raise StoreNotFoundError(f"there is no store at {root}")
    if (root / CHUNKS_FOLDER).is_symlink():
        raise NotAStoreError(
            f"{root / CHUNKS_FOLDER} is a link; sqlstore follows none inside a store: link to the "
            "whole store, or mount what it leads to there"
        )
    if not (root / CHUNKS_FOLDER).is_dir():
        is_part = root.is_file() or root.name == CHUNKS_FOLDER
        inside = is_part and (root.parent / CHUNKS_FOLDER).is_dir()
        hint = f"; open its folder, {root.parent}" if inside else ""
        raise NotAStoreError(f"{root} is not a store: it has no folder named {CHUNKS_FOLDER}{hint}")


def chunk_path(root: Path, name: str) -> Path:
    """Return where a chunk lies; a name that is not a chunk's is refused."""
    if not CHUNK_NAME.fullmatch(name):
        raise MissingChunkError(f"{name!r:.100} is not the name of a chunk")
    return root / CHUNKS_FOLDER / name


def chunk_names(root: Path) -> list[str]:
    """Return the names of all chunk files that are there, sorted."""
    folder = root / CHUNKS_FOLDER
    with storage_errors("list", folder), os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if CHUNK_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        )


def chunk_size(root: Path, name: str) -> int | None:
    """Return the size of a chunk file in bytes, or None if there is no such file."""
    with contextlib.suppress(FileNotFoundError):
        return chunk_path(root, name).lstat().st_size
    return None


def remove_chunks(root: Path, names: Iterable[str]) -> None:
    """Remove chunk files that nobody needs any more; who reads one keeps what he has mapped.

    Raises
    ------
    StorageError
        One cannot be removed.
    """
    for name in names:
        path = chunk_path(root, name)
        with storage_errors("remove", path):
            path.unlink(missing_ok=True)
    sync_folder(root / CHUNKS_FOLDER)


def create_exclusively(path: Path) -> int:
    """Create a file that must not exist yet and return its descriptor."""
    with storage_errors("create", path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def open_to_append(path: Path) -> int:
    """Open an existing file for reading and writing and return its descriptor."""
    return _open_file(path, os.O_RDWR)


def open_to_read(path: Path) -> int:
    """Open a chunk for reading and return its descriptor.

    Raises
    ------
    MissingChunkError
        There is no such file.
    """
    try:
        return _open_regular(path)
    except StorageError as error:
        if error.errno in (None, errno.ENOENT, errno.ELOOP):
            raise missing(path) from error
        raise


def missing(path: Path) -> MissingChunkError:
    """Return the error for a chunk file that is not there, or is no file."""
    why = "what is there is no file" if path.exists() else "the chunk file is gone"
    why = "the chunk is a link, which sqlstore does not follow" if path.is_symlink() else why
    return MissingChunkError(f"{why}: put the file there, or `sqlstore repair`", chunk=path.name)


def close(descriptor: int) -> None:
    """Close a descriptor."""
    os.close(descriptor)


def size_of(descriptor: int) -> int:
    """Return the size of an open file in bytes."""
    return os.fstat(descriptor).st_size


def read_exactly(descriptor: int, offset: int, length: int, name: str) -> bytes:
    """Read exactly these bytes of a chunk.

    Raises
    ------
    TruncatedChunkError
        The file ends before them.
    """
    try:
        if length > _UNCHECKED and size_of(descriptor) < offset + length:
            raise TruncatedChunkError(  # before memory is reserved for it
                f"the file ends at byte {size_of(descriptor)}, {length} bytes were expected",
                chunk=name,
                offset=offset,
            )
        data = os.pread(descriptor, length, offset)
        while len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                raise TruncatedChunkError(
                    f"the file ends at byte {offset + len(data)}, {length} bytes were expected",
                    chunk=name,
                    offset=offset,
                )
            data += more
    except OSError as error:
        raise refused("read", name, error) from error
    return data


def read_into(descriptor: int, pieces: Iterable[tuple[int, memoryview]], name: str) -> None:
    """Fill each writable buffer with the bytes of a chunk from an offset on.

    Raises
    ------
    TruncatedChunkError
        The file ends before a buffer is full.
    """
    with storage_errors("read", name):
        for offset, buffer in pieces:
            done = os.preadv(descriptor, [buffer], offset)
            while done < len(buffer):
                more = os.preadv(descriptor, [buffer[done:]], offset + done)
                if not more:
                    raise TruncatedChunkError(
                        f"the file ends at byte {offset + done}, {len(buffer)} bytes were expected",
                        chunk=name,
                        offset=offset,
                    )
                done += more


def read_whole(descriptor: int, size: int, name: str) -> pa.Buffer:
    """Return the first bytes of a chunk, read into memory of its own."""
    memory = np.empty(size, np.uint8)
    read_into(descriptor, [(0, memory.data)], name)
    return pa.py_buffer(memory)


def mapped(path: Path) -> pa.Buffer:
    """Return a whole file as memory; no descriptor stays open.

    The file must not become shorter while the memory is in use: the system would end the process.
    """
    close(_open_regular(path))
    with storage_errors("map", path), contextlib.closing(pa.memory_map(str(path))) as file:
        return file.read_buffer()


def contents(path: Path, most: int) -> bytes:
    """Return all bytes of a file, which has at most so many."""
    descriptor = _open_regular(path)
    try:
        size = size_of(descriptor)
        if size > most:
            raise StorageError(f"{path} has {size} bytes, which makes no sense")
        return read_exactly(descriptor, 0, size, path.name)
    finally:
        close(descriptor)


def _open_regular(path: Path) -> int:
    """Open a file for reading that must be one: no link, and nothing that can be waited for."""
    return _open_file(path, os.O_RDONLY)


def _open_file(path: Path, flags: int) -> int:
    with storage_errors("open", path):
        try:
            safely = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(path, flags | safely, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            refusal = StorageError(f"{path} is a link; sqlstore follows none inside a store")
            refusal.errno = error.errno
            raise refusal from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StorageError(f"{path} is no file")
    return descriptor


def put(path: Path, data: Buffer | pa.Buffer) -> None:
    """Make a file of these bytes, or replace one, in one step; nothing is synced."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    with storage_errors("write", path):
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except BaseException:
            remove_left_over(temporary)
            raise


def link_or_copy(path: Path, to: Path) -> None:
    """Give a file another name, or copy it where the system has or allows no such links."""
    with storage_errors("link", path):
        try:
            os.link(path, to)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(path, to)


def remove_left_over(path: Path) -> None:
    """Remove a file that is of no use any more, if it is there; if that fails it does no harm."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def open_or_create(path: Path) -> int:
    """Open a file for reading and writing, made if there is none, and return its descriptor."""
    return _open_file(path, os.O_RDWR | os.O_CREAT)


def write_at(descriptor: int, offset: int, buffers: Iterable[Buffer], path: Path) -> int:
    """Write buffers back to back from an offset on and return the offset of their end."""
    with storage_errors("write", path):
        waiting = iter(buffers)
        while group := list(itertools.islice(waiting, _MOST_BUFFERS)):
            offset = _write_group(descriptor, offset, group)
    return offset


def _write_group(descriptor: int, offset: int, group: list[Buffer]) -> int:
    written = os.pwritev(descriptor, group, offset)
    if written == sum(map(len, group)):
        return offset + written
    return _write_rest(descriptor, offset, group, written)


def _write_rest(descriptor: int, offset: int, group: list[Buffer], written: int) -> int:
    """Go on after a write that the system cut short."""
    views = [memoryview(buffer).cast("B") for buffer in group if len(buffer)]
    while views:
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
        written = os.pwritev(descriptor, views, offset) if views else 0
    return offset


def truncate(descriptor: int, size: int, path: Path) -> None:
    """Cut a file to a size and make that durable."""
    with storage_errors("truncate", path):
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)


def sync_data(descriptor: int, path: Path) -> None:
    """Make the bytes of a file durable."""
    with storage_errors("sync", path):
        os.fdatasync(descriptor)


def sync_file(descriptor: int, path: Path) -> None:
    """Make the bytes and the size of a file durable."""
    with storage_errors("sync", path):
        os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with storage_errors("sync", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def try_lock(descriptor: int, path: Path) -> bool:
    """Take the exclusive `flock` of an open file if nobody holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(
            f"cannot lock {path}: {error}; the file system must support flock"
        ) from error
    return True


def lock(descriptor: int, path: Path, timeout: float) -> None:
    """Take the exclusive `flock` of an open file, waiting for it.

    Raises
    ------
    StoreBusyError
        Somebody else held it for ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while not try_lock(descriptor, path):
        if time.monotonic() > deadline:
            raise StoreBusyError(
                f"another process held {path} for {timeout:.0f} seconds; try again"
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def unlock(descriptor: int, path: Path) -> None:
    """Give up the `flock` of an open file."""
    with storage_errors("unlock", path):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
