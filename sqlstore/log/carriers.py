"""Descriptors that may carry a lock, and are closed in forked children.

A `flock` belongs to the open file, which a forked child shares: the child of a writer that died
would hold its locks for ever.
"""

from __future__ import annotations

import os

_lock_carriers: set[int] = set()


def carries_lock(descriptor: int) -> None:
    """Say that a descriptor may carry a lock and must be closed in forked children."""
    _lock_carriers.add(descriptor)


def close_carrier(descriptor: int) -> None:
    """Close a descriptor that may carry a lock."""
    _lock_carriers.discard(descriptor)
    os.close(descriptor)


def _close_carriers_in_child() -> None:
    for descriptor in _lock_carriers:
        os.close(descriptor)
    _lock_carriers.clear()


os.register_at_fork(after_in_child=_close_carriers_in_child)
