"""Whether this library can use an index: decided with plain SQL, before anything else is read."""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Final

from sqlstore.errors import (
    CorruptIndexError,
    MigrationRequiredError,
    StoreTooNewError,
)
from sqlstore.index.engine import Index
from sqlstore.limits import FORMAT_VERSION

KNOWN_REVISIONS: Final = ("0001",)
"""Every revision in `migrations/versions`, oldest first."""

OLDEST_READABLE: Final = "0001"
"""The oldest revision that can be read without an upgrade."""


def head() -> str:
    """Return the revision that this library writes."""
    return KNOWN_REVISIONS[-1]


def revision(index: Index) -> str:
    """Return the revision of the index.

    Raises
    ------
    CorruptIndexError
        It has none, or several.
    """
    rows = index.rows("SELECT version_num FROM alembic_version")
    if len(rows) != 1:
        raise CorruptIndexError(f"{index.path} has {len(rows)} revisions instead of one")
    return str(rows[0][0])


def check(index: Index) -> None:
    """Raise unless this library can read, or if `index` is for writing, write the index.

    Raises
    ------
    MigrationRequiredError
        It is older and must be upgraded first.
    StoreTooNewError
        It is newer than this library can deal with.
    """
    found = revision(index)
    if found == head():
        return
    folder = index.root
    if found in KNOWN_REVISIONS:
        readable = KNOWN_REVISIONS.index(found) >= KNOWN_REVISIONS.index(OLDEST_READABLE)
        if index.write or not readable:
            raise MigrationRequiredError(
                f"{folder} was written by an older sqlstore (revision {found:.40}); "
                f"run `sqlstore migrate {folder}`"
            )
        return
    (min_reader,) = index.row("SELECT min_reader FROM store") or (FORMAT_VERSION + 1,)
    if index.write or min_reader > FORMAT_VERSION:
        raise StoreTooNewError(
            f"{folder} was written by a newer sqlstore (revision {found:.40}); update sqlstore"
        )
    warnings.warn(
        f"{folder} was written by a newer sqlstore (revision {found:.40}); it can be read, "
        "not written",
        UserWarning,
        stacklevel=_frames_of_ours(),
    )


def _frames_of_ours() -> int:
    """Return how many calls lie between the caller of this library and who asks."""
    depth = 0
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("sqlstore"):
        depth, frame = depth + 1, frame.f_back
    return depth + 1
