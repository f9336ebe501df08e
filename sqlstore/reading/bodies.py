"""Many values at once, as Arrow arrays or as a list of buffers.

Binary views are laid out as the Arrow columnar format says ("variable-size binary view layout"): 16
bytes for a value, the length and then either up to 12 bytes of the value itself, padded with zeros,
or its first four bytes, the number of a buffer and the offset in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sqlstore.arrow import validity
from sqlstore.reading.held import Held, Offsets, words_at
from sqlstore.small import are_all, smallest
from sqlstore.types import Buffer, Ids

INLINE: Final = 12
"""Values up to this many bytes lie in the view itself."""
_VIEW_WORDS: Final = 4
_JOIN_BELOW: Final = 32 * 1024
_LARGEST_BUFFER: Final = 1 << 30


@dataclass(slots=True)  # as `Held`
class Bodies:
    """Values of one field, in the order asked for.

    Attributes
    ----------
    held
        Where in memory they lie.
    length
        In bytes, shape ``(n,)``; 0 where there is no value.
    present
        Whether there is a value; None if there always is.
    """

    held: Held
    length: Offsets
    present: NDArray[np.bool_] | None = None

    def views(self) -> pa.Array:
        """Return the values as Arrow binary views: of long ones not a byte is copied."""
        count, which, offset = len(self.length), self.held.which, self.held.offset
        words = np.empty((count, _VIEW_WORDS), np.uint32)
        words[:, 0] = self.length
        words[:, 2] = 0 if which is None else which
        words[:, 3] = offset
        if which is None and count and smallest(self.length) > INLINE:
            all_words = self.held.words
            if all_words is None:
                all_words = words_at(self.held.buffers[0])
            words[:, 1] = all_words[offset]
        else:
            for buffer, rows in self.held.by_buffer():
                is_short = self.length[rows] <= INLINE
                _put_prefixes(words, buffer, offset, rows[~is_short])
                _put_inline(words, buffer, offset, rows[is_short])
        valid = None if self.present is None else validity(self.present)
        buffers = [valid, pa.py_buffer(words), *self.held.buffers]
        return pa.Array.from_buffers(pa.binary_view(), count, buffers)

    def copied(self) -> pa.LargeBinaryArray:
        """Return the values copied into one Arrow array that keeps nothing else alive."""
        if self.present is None and len(self.length):
            size = int(self.length[0])
            if size and are_all(self.length == size):
                return self._copied_alike(size)
        return pc.cast(self.views(), pa.large_binary())

    def _copied_alike(self, size: int) -> pa.LargeBinaryArray:
        """Copy values of one length: NumPy gathers them as single elements.

        The first call of a function of Arrow's takes 2 MB for good, which many workers feel.
        """
        count, offset = len(self.length), self.held.offset
        if self.held.which is None:
            gathered = _elements(self.held.buffers[0], size)[offset]
        else:
            gathered = np.empty(count, f"V{size}")
            for buffer, rows in self.held.by_buffer():
                if len(rows):  # one without may be shorter than a value
                    gathered[rows] = _elements(buffer, size)[offset[rows]]
        data = gathered.view(np.uint8)
        ends = np.arange(0, (count + 1) * size, size)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_binary(), count, buffers)

    def each(self) -> list[memoryview | None]:
        """Return every value as a buffer, None where there is none; nothing is copied."""
        memory = [memoryview(buffer).cast("B") for buffer in self.held.buffers]
        starts, lengths = self.held.offset.tolist(), self.length.tolist()
        if self.held.which is None:
            only = memory[0] if memory else memoryview(b"")
            found = [only[o : o + n] for o, n in zip(starts, lengths, strict=True)]
        else:
            places = zip(self.held.which.tolist(), starts, lengths, strict=True)
            found = [memory[w][o : o + n] for w, o, n in places]
        if self.present is None:
            return list(found)
        here = self.present.tolist()
        return [one if is_here else None for one, is_here in zip(found, here, strict=True)]


def _elements(buffer: pa.Buffer, size: int) -> NDArray[np.void]:
    """Return the values of one size that begin at each byte of a buffer."""
    return np.ndarray((buffer.size - size + 1,), f"V{size}", buffer, strides=(1,))


NO_BODIES: Final = Bodies(Held([], None, np.empty(0, np.int64)), np.empty(0, np.int64))


def _put_prefixes(words: NDArray[np.uint32], buffer: pa.Buffer, offset: Offsets, rows: Ids) -> None:
    if len(rows):
        words[rows, 1] = words_at(buffer)[offset[rows]]


def _put_inline(words: NDArray[np.uint32], buffer: pa.Buffer, offset: Offsets, rows: Ids) -> None:
    """Copy short values into their views."""
    if not len(rows):
        return
    memory = np.frombuffer(buffer, np.uint8)
    at = offset[rows, None] + np.arange(INLINE)
    inside = np.arange(INLINE) < words[rows, :1]
    taken = np.zeros((len(rows), INLINE), np.uint8)
    taken[inside] = memory[at[inside]]
    words[rows, 1:] = taken.view("<u4")


def with_decompressed(held: Held, rows: Ids, raws: Sequence[Buffer]) -> Held:
    """Return the same pieces with some of them replaced by what they decompress to.

    Parameters
    ----------
    rows
        Which pieces.
    raws
        Their values.
    """
    buffers, which = list(held.buffers), held.which
    which = np.zeros(len(held.offset), np.int32) if which is None else which.copy()
    offset = held.offset.astype(np.int64)
    for group in _joined(raws):
        together = raws[group]
        lengths = np.array([len(raw) for raw in together], np.int64)
        which[rows[group]] = len(buffers)
        offset[rows[group]] = np.cumsum(lengths) - lengths
        buffers.append(pa.py_buffer(together[0] if len(together) == 1 else b"".join(together)))
    return Held(buffers, which, offset)


def _joined(raws: Sequence[Buffer]) -> list[slice]:
    """Return which neighbours to copy into one buffer: small ones, since a buffer has its price."""
    groups: list[slice] = []
    start, size = 0, 0
    for row, raw in enumerate(raws):
        if row > start and (len(raw) >= _JOIN_BELOW or size + len(raw) > _LARGEST_BUFFER):
            groups.append(slice(start, row))
            start, size = row, 0
        size += len(raw)
        if len(raw) >= _JOIN_BELOW:
            groups.append(slice(start, row + 1))
            start, size = row + 1, 0
    if start < len(raws):
        groups.append(slice(start, len(raws)))
    return groups
