"""One file as a record: its bytes, and what is known about it."""

from __future__ import annotations

import datetime as dt
import os
import stat
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from sqlstore import limits
from sqlstore.ingest.image_size import image_size
from sqlstore.ingest.walk import FolderItem
from sqlstore.types import Record

FIELD: Final = "file"
KEY: Final = "path"
METADATA: Final = {
    KEY: "string",
    "size": "int64",
    "modified": "timestamp[us, UTC]",
    "suffix": "string",
    "label": "string",
    "width": "int32",
    "height": "int32",
}
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class ReadFile:
    """Makes records of the files of a folder.

    Attributes
    ----------
    root
        The folder.
    """

    root: str

    def __call__(self, item: FolderItem) -> Record:
        """Read a file."""
        data, status = whole_file(f"{self.root}/{item.path}")
        path = PurePosixPath(item.path)
        width, height = image_size(data) or (None, None)
        return {
            FIELD: data,
            KEY: item.path,
            "size": len(data),
            "modified": modified(status),
            "suffix": path.suffix.lower() or None,
            "label": path.parts[0] if len(path.parts) > 1 else None,
            "width": width,
            "height": height,
            **(item.row or {}),
        }


def modified(status: os.stat_result) -> dt.datetime | None:
    """Return when a file was modified, in whole microseconds; None outside the years of Python."""
    try:
        return _EPOCH + dt.timedelta(microseconds=status.st_mtime_ns // 1000)
    except OverflowError:
        return None


def whole_file(path: str) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a file that nobody changes meanwhile, and its status.

    Raises
    ------
    OSError
        It cannot be read, is a link or no file, is too large for a value, or was changed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError("it is no file any more")
        if before.st_size > limits.MAX_VALUE_BYTES:
            raise OSError(f"{before.st_size} bytes are more than a value can have")
        data = file.read(before.st_size + 1)
        after = os.fstat(descriptor)
    if len(data) != after.st_size or _version(before) != _version(after):
        raise OSError("the file was changed while it was read")
    return data, after


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
