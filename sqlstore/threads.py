"""Do many small pieces of work in a few threads, where they let go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST: Final = 8
_GROUPS_PER_THREAD: Final = 4
_pool: ThreadPoolExecutor | None = None


def count() -> int:
    """Return how many threads are used: the processors of this process, 8 at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(_MOST, len(os.sched_getaffinity(0)))
    return min(_MOST, os.cpu_count() or 1)


def spread(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return what a function returns for every item, in order; the first error is raised."""
    threads = min(count(), len(items))
    if threads < 2:
        return [function(item) for item in items]
    step = -(-len(items) // (threads * _GROUPS_PER_THREAD))
    groups = [items[start : start + step] for start in range(0, len(items), step)]
    pool = _shared_pool()
    return [one for done in pool.map(lambda g: [function(i) for i in g], groups) for one in done]


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(count(), thread_name_prefix="sqlstore")
    return _pool


def _forget() -> None:
    """Leave the parent's threads behind: they do not run in a forked child."""
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget)
