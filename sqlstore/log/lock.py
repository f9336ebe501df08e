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
from sqlstore.log import files

LOCK_NAME: Final = "writer.lock"
_TEXT_SIZE: Final = 512


@dataclass(frozen=True, slots=True)
class Pending:
    """The trailer that is about to be appended: in which chunk, where, and which commit."""

    chunk: str
    offset: int
    number: int


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
            with files.storage_errors("open", self._path):
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o666)
        except StorageError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise ReadOnlyError(f"{root} cannot be written by this process") from error
            raise
        files.carries_lock(self._descriptor)

    @contextmanager
    def held(self, timeout: float = limits.LOCK_SECONDS) -> Iterator[None]:
        """Hold the lock inside the block.

        Parameters
        ----------
        timeout
            How many seconds to wait for it.

        Raises
        ------
        StoreBusyError
            Somebody else held it all the time.
        """
        try:
            files.lock(self._descriptor, self._path, timeout)
            yield
        finally:
            files.unlock(self._descriptor)

    def pending(self) -> Pending | None:
        """Return the commit that the last owner named and did not clear.

        Text that makes no sense, as a power failure may leave it, names nothing: the first commit
        of every writer looks at all chunks anyway.
        """
        text = os.pread(self._descriptor, _TEXT_SIZE, 0)
        try:
            found = json.loads(text)["pending"]
            pending = Pending(str(found["chunk"]), int(found["offset"]), int(found["commit"]))
        except (ValueError, KeyError, TypeError):
            return None
        return pending if files.CHUNK_NAME.fullmatch(pending.chunk) else None

    def name_pending(self, pending: Pending) -> None:
        """Say which trailer is about to be appended."""
        self._write(
            {
                "pending": {
                    "chunk": pending.chunk,
                    "offset": pending.offset,
                    "commit": pending.number,
                },
                "process": os.getpid(),
                "host": socket.gethostname()[:64],
            }
        )

    def clear_pending(self) -> None:
        """Say that nothing is pending any more."""
        self._write({"pending": None})

    def _write(self, content: dict[str, object]) -> None:
        text = json.dumps(content).encode().ljust(_TEXT_SIZE - 1) + b"\n"
        files.write_at(self._descriptor, 0, [text], self._path)

    def close(self) -> None:
        """Close the file; a lock that is held ends."""
        if self._descriptor >= 0:
            files.close_carrier(self._descriptor)
            self._descriptor = -1
