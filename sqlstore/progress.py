"""Show how far long work has come, where somebody is looking."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def progress(items: Sequence[T], what: str, unit: str) -> Iterable[T]:
    """Return the items, with a tqdm bar on stderr if that is a terminal and tqdm is installed."""
    if not sys.stderr.isatty():
        return items
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    return tqdm(items, desc=what, unit=f" {unit}", leave=False)
