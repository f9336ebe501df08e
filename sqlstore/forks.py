"""Tell objects of a fork: what a child must not share with its parent, it gives up at once."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


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
        os.register_at_fork(after_in_child=self._tell)

    def add(self, member: T) -> None:
        """Tell this object, too."""
        living = [one for one in self._members if one() is not None]
        self._members = [*living, weakref.ref(member)]

    def _tell(self) -> None:
        for one in self._members:
            member = one()
            if member is not None:
                self._in_child(member)
