"""A read built up from its parts: every rung does one step more, just as the library does it.

The rungs work on the library's own objects. Beside the last of them stands the public call, so what
they leave out shows as the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, Final, TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import sqlstore
from sqlstore.cache import locations
from sqlstore.cache.locations import ROW_SIZE
from sqlstore.reading.bodies import INLINE, Bodies
from sqlstore.reading.field import FieldValues, _place
from sqlstore.reading.held import Held
from sqlstore.small import are_all, is_any, smallest
from sqlstore.types import Ids
from sqlstore.view import View

Function = TypeVar("Function", bound=Callable[..., Any])
FIELD: Final = "body"


@dataclass(frozen=True)
class Rung:
    """The first steps of a read.

    Attributes
    ----------
    step
        What it does more than the rung before it.
    read
        Does it.
    """

    step: str
    read: Callable[..., Any]


def own(function: Function) -> Function:
    """Return the same function with byte code of its own.

    Python adapts byte code to what it meets: two things that are timed must not share any.
    """
    assert isinstance(function, FunctionType)
    made = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    return cast("Function", made)


def values_of(store: sqlstore.Store) -> FieldValues:
    """Return what reads the bodies of a store that is not empty."""
    source = store._source
    source.raw(0, source.schema.field(FIELD))
    return source._values[FIELD]


# One value, as `View.raw` and `FieldValues.raw` read it. A rung returns what has been made anyway.


def single(store: sqlstore.Store) -> list[Rung]:
    """Return the rungs of `raw`, each to be called with a position and the name of the field."""
    values = values_of(store)

    def outer(function: Callable[..., object]) -> Callable[..., object]:
        return MethodType(own(function), _view(store, {}))

    def inner(function: Callable[..., object]) -> Callable[..., object]:
        bound = MethodType(own(function), values)
        return MethodType(own(View.raw), _view(store, {FIELD: bound}))

    return [
        Rung("a method is called", outer(_nothing)),
        Rung("id of the position", outer(_id)),
        Rung("the field found, its method called", inner(_nothing_inside)),
        Rung("location row unpacked from the map", inner(_row)),
        Rung('"checked" looked up', inner(_checked)),
        Rung("chunk found and sliced", inner(_sliced)),
        Rung("copied to `bytes`", inner(_copied)),
        Rung("length compared", inner(_whole)),
    ]


def _view(store: sqlstore.Store, raws: dict[str, Any]) -> View:
    view = View(store._source, store._record_ids())
    view._set_ids(store._record_ids(), raws)
    return view


def _nothing(_self: View, _position: int, _field: str) -> None:
    return None


def _id(self: View, position: int, _field: str) -> int:
    _, ids, _ = self._reads
    return ids[position]


def _nothing_inside(_self: FieldValues, _record: int) -> None:
    return None


def _row(self: FieldValues, record: int) -> object:
    _chunk, offset, _length, _compression = _place(self._rows, record * ROW_SIZE)
    return offset


def _checked(self: FieldValues, record: int) -> object:
    _chunk, offset, _length, compression = _place(self._rows, record * ROW_SIZE)
    if self._fast[record] and not compression:
        return offset
    return None


def _sliced(self: FieldValues, record: int) -> memoryview | None:
    chunk, offset, length, compression = _place(self._rows, record * ROW_SIZE)
    if self._fast[record] and not compression:
        try:
            return self._maps[chunk][offset : offset + length]
        except KeyError:
            return None
    return None


def _copied(self: FieldValues, record: int) -> bytes | None:
    chunk, offset, length, compression = _place(self._rows, record * ROW_SIZE)
    if self._fast[record] and not compression:
        try:
            return self._maps[chunk][offset : offset + length].tobytes()
        except KeyError:
            return None
    return None


def _whole(self: FieldValues, record: int) -> bytes | None:
    chunk, offset, length, compression = _place(self._rows, record * ROW_SIZE)
    if self._fast[record] and not compression:
        try:
            data = self._maps[chunk][offset : offset + length].tobytes()
        except KeyError:
            data = b""
        if len(data) == length:
            return data
    return None


# A batch, as `View.blobs`, `FieldValues.bodies` and `Bodies` read it: one chunk, one length.


def views(store: sqlstore.Store) -> list[Rung]:
    """Return the rungs of `blobs(copy=False)`, each to be called with the positions."""
    batch = Batch(store)
    return [
        *batch.shared(),
        Rung("16 bytes laid out for each", batch.words),
        Rung("first four bytes of each", batch.prefixes),
        Rung("Arrow array made", batch.views),
    ]


def copies(store: sqlstore.Store) -> list[Rung]:
    """Return the rungs of `blobs()`, each to be called with the positions."""
    batch = Batch(store)
    return [
        *batch.shared(),
        Rung("lengths compared", batch.alike),
        Rung("bodies copied", batch.gathered),
        Rung("Arrow array made", batch.copied),
    ]


class Batch:
    """The rungs of a batch: what is taken from the library is called, the rest is done alike."""

    def __init__(self, store: sqlstore.Store) -> None:
        self.store = store
        self.values = values_of(store)

    def shared(self) -> list[Rung]:
        """Return the steps to where the bodies lie, the same for views and copies."""
        return [
            Rung("ids of the positions", self.ids),
            Rung("location rows gathered from the map", self.rows),
            Rung('"checked" looked up, and what is compressed', self.checked),
            Rung("chunk held", self.held),
        ]

    def ids(self, positions: Ids) -> Ids:
        return self.store._ids_of(positions)

    def rows(self, positions: Ids) -> NDArray[np.uint32]:
        ids = self.store._ids_of(positions)
        return self.values._table.take(ids, axis=0)

    def checked(self, positions: Ids) -> tuple[NDArray[np.uint32], Ids]:
        ids = self.store._ids_of(positions)
        rows = self.values._table.take(ids, axis=0)
        due = self.values._due(rows, ids)
        if is_any(rows[:, locations.COMPRESSION]) or due is not None:
            raise ValueError("these are steps for values that are checked and not compressed")
        return rows, ids

    def held(self, positions: Ids) -> tuple[Held, NDArray[np.uint32]]:
        rows, ids = self.checked(positions)
        return self.values._hold(rows, ids), rows[:, locations.LENGTH]

    def words(self, positions: Ids) -> tuple[NDArray[np.uint32], Held]:
        held, length = self.held(positions)
        Bodies(held, length)
        words = np.empty((len(length), 4), np.uint32)
        words[:, 0] = length
        words[:, 2] = 0
        words[:, 3] = held.offset
        if smallest(length) <= INLINE or held.which is not None:
            raise ValueError("these are steps for values of one chunk, all of them long")
        return words, held

    def prefixes(self, positions: Ids) -> NDArray[np.uint32]:
        words, held = self.words(positions)
        if held.words is None:
            raise ValueError("these are steps for values of one mapped chunk")
        words[:, 1] = held.words[held.offset]
        return words

    def views(self, positions: Ids) -> pa.Array:
        return Bodies(*self.held(positions)).views()

    def alike(self, positions: Ids) -> tuple[Held, int]:
        held, length = self.held(positions)
        Bodies(held, length)
        size = int(length[0])
        if not are_all(length == size):
            raise ValueError("these are steps for values of one length")
        return held, size

    def gathered(self, positions: Ids) -> NDArray[np.uint8]:
        held, size = self.alike(positions)
        (buffer,) = held.buffers
        elements = np.ndarray((buffer.size - size + 1,), f"V{size}", buffer, strides=(1,))
        return elements[held.offset].view(np.uint8)

    def copied(self, positions: Ids) -> pa.Array:
        return Bodies(*self.held(positions)).copied()
