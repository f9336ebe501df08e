"""The ids of the records that were deleted, in one file of the cache."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from sqlstore.cache.manifest import Deleted
from sqlstore.errors import CorruptCacheError, StorageError
from sqlstore.log import files
from sqlstore.types import Ids


def extended(folder: Path, have: Deleted | None, ids: Ids, commit: int) -> Deleted | None:
    """Write the ids of more deleted records, and return what there is then.

    Parameters
    ----------
    ids
        Ascending; may be none.
    commit
        The number of the last commit that is in it.
    """
    if not len(ids):
        return have
    data = np.union1d(load(folder, have), ids).astype("<i8").tobytes()
    then = Deleted(len(data) // 8, zlib.crc32(data), commit)
    files.put(folder / then.file, data)
    return then


def load(folder: Path, deleted: Deleted | None) -> Ids:
    """Return the ids of all deleted records, ascending.

    Raises
    ------
    CorruptCacheError
        The file is missing, or not what was written.
    """
    if deleted is None:
        return np.empty(0, np.int64)
    try:
        data = files.mapped(folder / deleted.file) if deleted.records else b""
    except (OSError, StorageError) as error:
        raise CorruptCacheError(f"{folder} lacks the deleted records") from error
    if len(data) != 8 * deleted.records or zlib.crc32(data) != deleted.crc:
        raise CorruptCacheError(f"{deleted.file} in {folder} is not what was written")
    ids: Ids = np.frombuffer(data, "<i8")
    if len(ids) and (ids[0] < 0 or np.any(ids[1:] <= ids[:-1])):
        raise CorruptCacheError(f"{deleted.file} in {folder} holds what are no ids")
    return ids
