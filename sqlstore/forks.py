"""Tell objects of a fork: what a child must not share with its parent, it gives up at once.

And let a fork wait for other threads where a child could not go on from what they are in.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

T = TypeVar("T")

_TIDY_AT: Final = 64
_FIRST_PAUSE: Final = 0.05


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


class Mutex(Protocol):
    """What `threading.RLock` returns."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it."""

    def release(self) -> None:
        """Give it back."""


class HeldInForks(ToldOfForks[T]):
    """Objects that no other thread is inside of when this process forks, as long as they live.

    Parameters
    ----------
    in_child
        What is called with each object in a forked child.
    mutex_of
        Returns what a thread holds that is inside an object.
    patience
        Returns how many seconds a fork waits for that.

    Attributes
    ----------
    busy
        In a forked child, the objects that another thread was inside of for longer.
    """

    def __init__(
        self,
        in_child: Callable[[T], None],
        mutex_of: Callable[[T], Mutex],
        patience: Callable[[], float],
    ) -> None:
        super().__init__(in_child)
        self.busy: list[T] = []
        self._mutex_of = mutex_of
        self._patience = patience
        self._held: list[Mutex] = []
        os.register_at_fork(before=self._take, after_in_parent=self._give_back)

    def _take(self) -> None:
        """Take all mutexes.

        All are held while one is waited for, as else threads that read on and on would take turns;
        but not for long, as its owner may be waiting for one of these.
        """
        deadline = time.monotonic() + self._patience()
        pause = _FIRST_PAUSE
        while not self._take_within(min(pause, self._patience())) and time.monotonic() < deadline:
            self._give_back()
            pause *= 2

    def _take_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        self._mutex.acquire()  # first, so that no object is added meanwhile
        self._held, self.busy = [self._mutex], []
        for one in self._members:
            if (member := one()) is None:
                continue
            mutex = self._mutex_of(member)
            if mutex.acquire(timeout=max(until - time.monotonic(), 0)):
                self._held.append(mutex)
            else:
                self.busy.append(member)
        return not self.busy

    def _give_back(self) -> None:
        held, self._held, self.busy = self._held, [], []
        for mutex in reversed(held):  # the one that keeps other forks waiting is the last
            mutex.release()

    def _tell(self) -> None:
        super()._tell()
        self._held, self.busy = [], []


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
