"""Nested dicts, lists and tuples with arrays, bytes and plain values in them."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from sqlstore.encodings.arrays import Array
from sqlstore.encodings.base import Encoding
from sqlstore.errors import DecodeError, EncodeError
from sqlstore.types import Buffer

_LENGTH: Final = struct.Struct("<I")
_EXACT: Final = 2**53  # integers that every JSON reader has exactly
_DEEPEST: Final = 200  # lists in lists; reading needs three times as many calls in calls
_ARRAY: Final = Array()
_UNREADABLE: Final = (
    struct.error,
    TypeError,
    ValueError,
    KeyError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class Tree(Encoding):
    """Every value comes back with the type that it had; see `docs/format.md`."""

    def encode(self, value: Any) -> Buffer:
        leaves: list[Buffer] = []
        try:
            node = _node(value, leaves, 0)
            structure = json.dumps(node, ensure_ascii=False, separators=(",", ":")).encode()
        except RecursionError as error:
            raise EncodeError("this tree is too deep, or contains itself") from error
        except UnicodeEncodeError as error:
            raise EncodeError(f"not text that UTF-8 can hold: {error}") from error
        return b"".join((_LENGTH.pack(len(structure)), structure, *leaves))

    def decode(self, data: Buffer) -> Any:
        try:
            (length,) = _LENGTH.unpack_from(data)
            start = _LENGTH.size + length
            structure = json.loads(bytes(data[_LENGTH.size : start]))
            leaves = _Leaves(data, start)
            value = _value(structure, leaves)
        except _UNREADABLE as error:
            raise DecodeError(f"not a tree: {error}") from error
        if leaves.position != len(data):
            raise DecodeError("not a tree: there are bytes behind it")
        return value


def _node(value: Any, leaves: list[Buffer], depth: int) -> Any:
    """Return what JSON says of a value; arrays and bytes go to the leaves."""
    if depth > _DEEPEST:
        raise EncodeError(f"this tree is more than {_DEEPEST} deep, or contains itself")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if abs(value) < _EXACT else {"int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [_node(one, leaves, depth + 1) for one in value]
    if kind is tuple:
        return {"tuple": [_node(one, leaves, depth + 1) for one in value]}
    if kind is dict:
        return {"dict": [[_node(one, leaves, depth + 1) for one in pair] for pair in value.items()]}
    return _leaf(value, leaves)


def _leaf(value: Any, leaves: list[Buffer]) -> Any:
    if type(value) is bytes:
        leaves.append(value)
        return {"bytes": len(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        data = _ARRAY.encode(value)
        leaves.append(data)
        return {"array" if isinstance(value, np.ndarray) else "scalar": len(data)}
    raise EncodeError(
        f"a tree has dicts, lists, tuples, arrays, bytes, text, numbers, bools and None in it, "
        f"not {type(value).__name__}"
    )


class _Leaves:
    """Gives the bytes of one leaf after the other."""

    def __init__(self, data: Buffer, position: int) -> None:
        self._data = data
        self.position = position

    def next(self, length: int) -> Buffer:
        start = self.position
        if type(length) is not int or not 0 <= length <= len(self._data) - start:
            raise ValueError(f"a leaf of {length!r} bytes")
        self.position = start + length
        return self._data[start : self.position]


def _value(node: Any, leaves: _Leaves) -> Any:
    if isinstance(node, list):
        return [_value(one, leaves) for one in node]
    if not isinstance(node, dict):
        return node
    ((name, content),) = node.items()
    return _READERS[name](content, leaves)


def _dict(pairs: Sequence[Sequence[Any]], leaves: _Leaves) -> dict[Any, Any]:
    return {_value(key, leaves): _value(value, leaves) for key, value in pairs}


_READERS: Final[dict[str, Callable[[Any, _Leaves], Any]]] = {
    "int": lambda text, _: int(text, 16),
    "float": lambda text, _: float(text),
    "tuple": lambda nodes, leaves: tuple(_value(one, leaves) for one in nodes),
    "dict": _dict,
    "bytes": lambda length, leaves: bytes(leaves.next(length)),
    "array": lambda length, leaves: _ARRAY.decode(leaves.next(length)),
    "scalar": lambda length, leaves: _ARRAY.decode(leaves.next(length))[()],
}
