"""Large selections on their way to other processes: a file of record ids that both map.

Files are named by what they hold, and removed some days after they were last used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import zlib
from pathlib import Path
from typing import Final

import numpy as np

from sqlstore.errors import CorruptCacheError, StorageError
from sqlstore.log import files
from sqlstore.types import Ids

_FOLDER: Final = "ids"
_KEPT_SECONDS: Final = 7 * 24 * 3600


def share(folder: Path, ids: Ids) -> tuple[str, int]:
    """Write ids to a file in a cache folder, and return its path and checksum.

    Raises
    ------
    StorageError
        The folder cannot be written.
    """
    data = np.ascontiguousarray(ids, "<i8").data.cast("B")
    path = folder / _FOLDER / f"{hashlib.blake2b(data, digest_size=16).hexdigest()}.bin"
    if path.exists():
        with contextlib.suppress(OSError):  # somebody else's; it is his to keep
            os.utime(path)
    else:
        with files.storage_errors("create", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        _remove_old(path.parent)
        files.put(path, data)
    return str(path), zlib.crc32(data)


def load(path: str, crc: int) -> Ids:
    """Return the ids in a file, mapped.

    Raises
    ------
    CorruptCacheError
        The file is gone or damaged.
    """
    try:
        buffer = files.mapped(Path(path))
    except StorageError as error:
        raise CorruptCacheError(
            f"the record ids of this view are gone ({path}): a pickled view is for other processes "
            "and for a few days; make it anew"
        ) from error
    if zlib.crc32(buffer) != crc:
        raise CorruptCacheError(f"the record ids of this view in {path} are damaged")
    return np.frombuffer(buffer, "<i8")


def _remove_old(folder: Path) -> None:
    oldest = time.time() - _KEPT_SECONDS
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # others may be removing it, too
            if path.stat().st_mtime < oldest:
                path.unlink()
