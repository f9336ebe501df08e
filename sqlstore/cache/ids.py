"""Large selections on their way to other processes: a file of record ids that both map.

Files are named by what they hold, and removed some days after they were last used.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
import zlib
from pathlib import Path
from typing import Final

import numpy as np

from sqlstore.errors import StaleViewError, StorageError
from sqlstore.log import files
from sqlstore.types import Ids

_FOLDER: Final = "ids"
_KEPT_SECONDS: Final = 7 * 24 * 3600
_TIDY_SECONDS: Final = 3600
_tidied_at = -math.inf


def share(folder: Path, ids: Ids) -> tuple[str, int]:
    """Write ids to a file in a cache folder, and return its path and checksum.

    Raises
    ------
    StorageError
        The folder cannot be written.
    """
    data = np.ascontiguousarray(ids, "<i8").data.cast("B")
    path = folder / _FOLDER / f"{hashlib.blake2b(data, digest_size=16).hexdigest()}.bin"
    crc = zlib.crc32(data)
    if _has(path, crc):
        with contextlib.suppress(OSError):  # somebody else's; it is his to keep
            os.utime(path)
    else:
        if path.parent.is_symlink():
            raise StorageError(f"{path.parent} is a link; sqlstore follows none inside a store")
        with files.storage_errors("create", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        files.put(path, data)
    return str(path), crc


def _has(path: Path, crc: int) -> bool:
    with contextlib.suppress(StorageError):
        return zlib.crc32(files.mapped(path)) == crc
    return False


def load(path: str, crc: int) -> Ids:
    """Return the ids in a file, mapped.

    Raises
    ------
    StaleViewError
        The file is gone or damaged.
    """
    try:
        buffer = files.mapped(Path(path))
    except StorageError as error:
        raise StaleViewError(
            f"the record ids of this view are gone ({path}): a pickled view is for other processes "
            "and for a week, as long as nobody deletes the cache; make it anew"
        ) from error
    if zlib.crc32(buffer) != crc:
        raise StaleViewError(f"the record ids of this view in {path} are damaged; make it anew")
    return np.frombuffer(buffer, "<i8")


def _tidy(folder: Path) -> None:
    """Remove what is old, now and then: there may be thousands of files."""
    global _tidied_at
    if time.monotonic() < _tidied_at + _TIDY_SECONDS:
        return
    _tidied_at = time.monotonic()
    oldest = time.time() - _KEPT_SECONDS
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # others may be removing it, too
            if path.stat().st_mtime < oldest:
                path.unlink()
