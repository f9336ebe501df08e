"""Refuse what a stranger may have put in the place of an index or beside it.

SQLite follows links, and believes a journal: one that names another file makes it delete that file
when it is rolled back. A store needs neither links nor such names.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from sqlstore.errors import CorruptIndexError

_BESIDE: Final = ("-journal", "-wal", "-shm")
_NAMES_ANOTHER: Final = bytes.fromhex("d9d505f920a163d7")
"""How a journal ends that belongs to a transaction over several files, whose list it names."""


def refuse_planted(path: Path, root: Path) -> None:
    """Raise unless an index and what lies beside it are plain files of the store itself.

    Parameters
    ----------
    path
        The index, which need not be there.
    root
        The folder of the store.

    Raises
    ------
    CorruptIndexError
        One is a link or no file, or the journal names another file.
    """
    if path.parent != root and path.parent.is_symlink():
        raise CorruptIndexError(
            f"{path.parent} is a link; sqlstore follows none inside a store: put a folder there"
        )
    if path.is_symlink():
        raise _refusal(path, "a link; sqlstore follows none inside a store")
    for suffix in _BESIDE:
        _refuse_no_file(path.with_name(path.name + suffix))
    if _names_another(path.with_name(f"{path.name}-journal")):
        raise CorruptIndexError(
            f"{path}-journal names another file, which SQLite would delete; no journal of a store "
            f"does: remove it, and run `sqlstore rebuild {root}`"
        )


def _refuse_no_file(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise _refusal(path, "a link or no file; SQLite would write to what it is")


def _refusal(path: Path, what: str) -> CorruptIndexError:
    return CorruptIndexError(
        f"{path} is {what}: remove it, and run `sqlstore rebuild {path.parent}`"
    )


def _names_another(journal: Path) -> bool:
    """Return whether a journal ends with the name of another; SQLite holds no locks on journals."""
    size = len(_NAMES_ANOTHER)
    with contextlib.suppress(OSError):
        descriptor = os.open(journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            end = os.fstat(descriptor).st_size
            return os.pread(descriptor, size, max(0, end - size)) == _NAMES_ANOTHER
        finally:
            os.close(descriptor)
    return False
