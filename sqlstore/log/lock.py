"""`writer.lock`: who commits now, and which commit is pending.

The lock is the `flock` of the file, so it ends with its owner, whatever becomes of it. The text in
the file names the trailer that the owner is about to append; whoever takes the lock next settles
that.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlstore import limits
from sqlstore.errors import ReadOnlyError, StorageError
from sqlstore.interrupts import deferred_interrupts
from sqlstore.log import carriers, files

LOCK_NAME: Final = "writer.lock"
_TEXT_SIZE: Final = 512


@dataclass(frozen=True, slots=True)
class Pending:
    """The trailer that is about to be appended: in which chunk, where, and which commit."""

    chunk: str
    offset: int
    number: int


@dataclass(frozen=True, slots=True)
class LockText:
    """What the lock file says: the pending commit, and the number of the last complete one.

    An index that ends before the last commit is an older copy.
    """

    pending: Pending | None
    last: int


def text_of(root: Path) -> LockText:
    """Return what the lock file of a store says, without taking the lock."""
    try:
        return _parsed(files.contents(root / LOCK_NAME, _TEXT_SIZE))
    except StorageError:  # copied without it, or not readable: it says nothing
        return LockText(None, 0)


def _parsed(data: bytes) -> LockText:
    try:
        found = json.loads(data)
        last = int(found["last"])
        named = found["pending"]
        if named is None:
            return LockText(None, last)
        pending = Pending(str(named["chunk"]), int(named["offset"]), int(named["commit"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return LockText(None, 0)
    known = files.CHUNK_NAME.fullmatch(pending.chunk) is not None
    return LockText(pending if known else None, last)


class WriterLock:
    """The lock under which commits happen, one at a time over all processes.

    Parameters
    ----------
    root
        The folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / LOCK_NAME
        try:
            self._descriptor = files.open_or_create(self._path)
        except StorageError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise ReadOnlyError(f"{root} cannot be written by this process") from error
            raise
        self._failure: StorageError | None = None
        carriers.carries_lock(self._descriptor)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock inside the block.

        Raises
        ------
        StoreBusyError
            Somebody else held it for `limits.LOCK_SECONDS`.
        """
        try:
            self.acquire()
            yield
        finally:
            with deferred_interrupts():
                self.release()

    def acquire(self) -> None:
        """Take the lock, waiting for it."""
        if self._failure is not None:
            raise self._failure
        files.lock(self._descriptor, self._path, limits.LOCK_SECONDS)

    def release(self) -> None:
        """Give up the lock, if it is held; if the system refuses that, with the open file."""
        if self._descriptor < 0:
            return
        try:
            files.unlock(self._descriptor, self._path)
        except StorageError as error:
            self._failure = error
            self.close()

    def text(self) -> LockText:
        """Return what the last owner wrote.

        Text that makes no sense, as a power failure may leave it, says nothing: every writer that
        is opened looks at all chunks anyway.
        """
        with files.storage_errors("read", self._path):
            return _parsed(os.pread(self._descriptor, _TEXT_SIZE, 0))

    def name_pending(self, pending: Pending) -> None:
        """Say which trailer is about to be appended."""
        named = {"chunk": pending.chunk, "offset": pending.offset, "commit": pending.number}
        host = socket.gethostname()[:64]
        last = pending.number - 1
        self._write({"pending": named, "last": last, "process": os.getpid(), "host": host})

    def clear_pending(self, last: int) -> None:
        """Say that nothing is pending any more, and which commit is the last."""
        self._write({"pending": None, "last": last})

    def _write(self, content: dict[str, object]) -> None:
        text = json.dumps(content).encode().ljust(_TEXT_SIZE - 1) + b"\n"
        files.write_at(self._descriptor, 0, [text], self._path)

    def close(self) -> None:
        """Close the file; a lock that is held ends."""
        if self._descriptor >= 0:
            carriers.close_carrier(self._descriptor)
            self._descriptor = -1
