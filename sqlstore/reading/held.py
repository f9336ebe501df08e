"""Pieces of chunks in memory: some buffers, and where in them every piece begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Offsets: TypeAlias = NDArray[np.integer[Any]]
Int = TypeVar("Int", bound=np.integer[Any])

_WORD: Final = 4


@dataclass(slots=True)  # not frozen, which would take most of a microsecond for each
class Held:
    """Pieces of chunks in memory.

    Attributes
    ----------
    buffers
        The memory.
    which
        For every piece the buffer that it lies in; None if there is only one.
    offset
        Where it begins there, in bytes.
    words
        `words_at` of the only buffer, where that is kept.
    """

    buffers: list[pa.Buffer]
    which: NDArray[np.int32] | None
    offset: Offsets
    words: NDArray[np.uint32] | None = None

    def some(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Held:
        """Return some of the pieces, chosen by position or by a mask."""
        which = None if self.which is None else self.which[chosen]
        return Held(self.buffers, which, self.offset[chosen])

    def by_buffer(self) -> Iterator[tuple[pa.Buffer, NDArray[np.int64]]]:
        """Return every buffer with the positions of the pieces in it."""
        if self.which is None:
            yield from ((buffer, np.arange(len(self.offset))) for buffer in self.buffers)
            return
        order = np.argsort(self.which, kind="stable")
        bounds = np.searchsorted(self.which[order], np.arange(len(self.buffers) + 1)).tolist()
        for buffer, (start, stop) in zip(self.buffers, pairwise(bounds), strict=True):
            yield buffer, order[start:stop]

    def widened(self, present: NDArray[np.bool_]) -> Held:
        """Return pieces for more values; those that are not present begin at 0."""
        which = None if self.which is None else spread_out(self.which, present)
        return Held(self.buffers, which, spread_out(self.offset, present))


def words_at(buffer: pa.Buffer) -> NDArray[np.uint32]:
    """Return a buffer as 32-bit words, one beginning at every byte."""
    return np.ndarray((buffer.size - _WORD + 1,), "<u4", buffer, strides=(1,))


def spread_out(values: NDArray[Int], present: NDArray[np.bool_]) -> NDArray[Int]:
    """Return values at the rows that are present, and 0 elsewhere."""
    spread = np.zeros(len(present), values.dtype)
    spread[present] = values
    return spread
