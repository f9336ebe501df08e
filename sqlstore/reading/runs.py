"""Which reads bring pieces of files in: pieces that lie near each other come with one read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.types import Ids

_LARGEST_BUFFER: Final = 1 << 30  # offsets in a buffer have 31 bits


@dataclass(frozen=True, slots=True)
class Runs:
    """Reads of chunks, in the order in which the bytes lie, and where in memory they go.

    Attributes
    ----------
    chunk, start, end
        What is read, a run each, shape ``(m,)``.
    buffer, place
        Which buffer it goes to, and where in it, shape ``(m,)``.
    sizes
        Of the buffers, in bytes.
    of_piece
        The run that each piece comes with, shape ``(n,)``.
    """

    chunk: Ids
    start: Ids
    end: Ids
    buffer: Ids
    place: Ids
    sizes: list[int]
    of_piece: Ids


def runs_of(chunk: Ids, start: Ids, end: Ids) -> Runs:
    """Return the reads for some pieces, of which there is at least one.

    Parameters
    ----------
    chunk, start, end
        Where the pieces lie, sorted by chunk and start; they may overlap.
    """
    begins = np.ones(len(chunk), bool)
    begins[1:] = chunk[1:] != chunk[:-1]
    begins[1:] |= start[1:] > _reach(begins, end)[:-1] + limits.MERGE_GAP
    of_piece = np.cumsum(begins) - 1
    # A long run is cut where the next piece begins, every so many bytes.
    part = (start - start[begins][of_piece]) // limits.MERGE_BYTES
    begins[1:] |= part[1:] != part[:-1]
    of_piece = np.cumsum(begins) - 1
    firsts = np.flatnonzero(begins)
    run_start, run_end = start[firsts], np.maximum.reduceat(end, firsts)
    buffer, place, sizes = _shared_out(run_end - run_start)
    return Runs(chunk[firsts], run_start, run_end, buffer, place, sizes, of_piece)


def _reach(begins_chunk: NDArray[np.bool_], end: Ids) -> Ids:
    """Return how far the pieces of a chunk up to each one reach."""
    behind = np.cumsum(begins_chunk) << 33  # more than any offset; each chunk begins anew
    reach: Ids = np.maximum.accumulate(behind + end) - behind
    return reach


def _shared_out(sizes: Ids) -> tuple[Ids, Ids, list[int]]:
    """Give every run its place in as few buffers as can be, and return the sizes of these."""
    ends = np.cumsum(sizes)
    buffer, place = np.zeros(len(sizes), np.int64), ends - sizes
    filled: list[int] = []
    first = 0
    while first < len(sizes):
        base = int(place[first])
        fitting = int(np.searchsorted(ends, base + _LARGEST_BUFFER, side="right"))
        stop = max(fitting, first + 1)
        buffer[first:stop] = len(filled)
        filled.append(int(ends[stop - 1]) - base)
        place[first:stop] -= base
        first = stop
    return buffer, place, filled
