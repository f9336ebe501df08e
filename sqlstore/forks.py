"""Tell objects of a fork: what a child must not share with its parent, it gives up at once."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_TIDY_AT: Final = 64


class ToldOfForks(Generic[T]):
    """Objects for which a function is called in every forked child, as long as they live.

    Not a `weakref.WeakSet`: that runs Python code whenever one of its objects goes, and a Ctrl-C
    that arrives just then is lost.

    Parameters
    ----------
    in_child
        What is called with each object.
    """

    def __init__(self, in_child: Callable[[T], None]) -> None:
        self._in_child = in_child
        self._members: list[weakref.ref[T]] = []
        self._tidy_at = _TIDY_AT
        self._mutex = threading.RLock()
        os.register_at_fork(after_in_child=self._tell)

    def add(self, member: T) -> None:
        """Tell this object, too."""
        with self._mutex:
            self._members.append(weakref.ref(member))
            if len(self._members) > self._tidy_at:
                self._members = [one for one in self._members if one() is not None]
                self._tidy_at = max(_TIDY_AT, 2 * len(self._members))

    def _tell(self) -> None:
        self._mutex = threading.RLock()  # another thread of the parent may have held it
        for one in self._members:
            member = one()
            if member is not None:
                self._in_child(member)


def detach(file: tuple[int, int]) -> None:
    """Turn this process's descriptors of a file into descriptors of nothing.

    In a forked child the parent's connection to a database is neither used nor closed. But its
    descriptors would keep the file in use; and if their numbers were only closed, other files would
    get them, which SQLite would close or write to if the connection were ever collected.

    Parameters
    ----------
    file
        Device and inode.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for entry in Path("/dev/fd").iterdir():  # a link to /proc/self/fd on Linux
        with contextlib.suppress(OSError):  # the one that lists the folder may be closed by now
            status = os.fstat(number := int(entry.name))
            if (status.st_dev, status.st_ino) == file:
                os.dup2(nothing, number, inheritable=False)
    os.close(nothing)
