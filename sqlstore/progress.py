"""Show how far long work has come, where somebody is looking."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def progress(items: Sequence[T], what: str, unit: str) -> Iterable[T]:
    """Return the items, with a tqdm bar on stderr if that is a terminal and tqdm is installed."""
    bar = _bar()
    return items if bar is None else bar(items, desc=what, unit=f" {unit}", leave=False)


@contextmanager
def counted(
    total: int | Callable[[], int] | None, what: str, unit: str
) -> Iterator[Callable[[int], object]]:
    """Give a function that is told how many more are done; it moves a bar as in `progress`.

    Parameters
    ----------
    total
        How many there are, what counts them if somebody is looking, or None if nobody knows.
    """
    bar = _bar()
    if bar is None:
        yield _nobody_looks
        return
    total = total() if callable(total) else total
    with closing(bar(total=total, desc=what, unit=f" {unit}", leave=False)) as shown:
        yield shown.update


def _nobody_looks(_: int) -> None:
    pass


def _bar() -> Callable[..., Any] | None:
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm
