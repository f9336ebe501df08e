"""Bytes, text, integers, what JSON and MessagePack can hold, and encodings of somebody's own."""

from __future__ import annotations

import json
import operator
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sqlstore.encodings.base import Encoding, as_bytes
from sqlstore.errors import DecodeError, EncodeError, MissingPackageError
from sqlstore.json_text import json_text
from sqlstore.types import Buffer

if TYPE_CHECKING:
    from types import ModuleType


class Bytes(Encoding):
    """Bytes as they are."""

    straight = bytes

    def encode(self, value: Any) -> Buffer:
        given = as_bytes(value)
        if given is None:
            raise EncodeError(f"expected bytes, got {type(value).__name__}")
        return given

    def decode(self, data: Buffer) -> bytes:
        return bytes(data)


class Utf8(Encoding):
    """Text as UTF-8."""

    def encode(self, value: Any) -> Buffer:
        if not isinstance(value, str):
            raise EncodeError(f"expected a string, got {type(value).__name__}")
        try:
            return str.encode(value)
        except UnicodeEncodeError as error:
            raise EncodeError(f"not text that UTF-8 can hold: {error}") from error

    def decode(self, data: Buffer) -> str:
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"not UTF-8: {error}") from error


def _integer(value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise EncodeError("expected an integer, got a bool")
    try:
        return operator.index(value)
    except TypeError as error:
        raise EncodeError(f"expected an integer, got {type(value).__name__}") from error


class Int(Encoding):
    """An integer of any size: two's complement, little endian."""

    def encode(self, value: Any) -> Buffer:
        number = _integer(value)
        return number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)

    def decode(self, data: Buffer) -> int:
        if not data:
            raise DecodeError("not an integer: there are no bytes")
        return int.from_bytes(data, "little", signed=True)


class FixedInt(Encoding):
    """An integer in eight bytes, little endian.

    Parameters
    ----------
    code
        Of `struct`: ``"<q"`` with a sign, ``"<Q"`` without.
    """

    def __init__(self, code: str) -> None:
        self._struct = struct.Struct(code)

    def encode(self, value: Any) -> Buffer:
        try:
            return self._struct.pack(_integer(value))
        except struct.error as error:
            raise EncodeError("it is outside the integers of eight bytes") from error

    def decode(self, data: Buffer) -> int:
        try:
            (value,) = self._struct.unpack(data)
        except struct.error as error:
            raise DecodeError(f"not an integer of eight bytes: {error}") from error
        return int(value)


class Json(Encoding):
    """What JSON can hold: it comes back as it was, or it is refused."""

    def encode(self, value: Any) -> Buffer:
        try:
            return json_text(value).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise EncodeError(f"this cannot be stored as JSON: {error}") from error

    def decode(self, data: Buffer) -> Any:
        try:
            return json.loads(bytes(data))
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"not JSON: {error}") from error


class MessagePack(Encoding):
    """What MessagePack can hold; see https://msgpack.org."""

    def encode(self, value: Any) -> Buffer:
        packing = _msgpack()
        try:
            packed: bytes = packing.packb(value, use_bin_type=True, strict_types=True)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"this cannot be stored as MessagePack: {error}") from error
        return packed

    def decode(self, data: Buffer) -> Any:
        packing = _msgpack()
        try:
            return packing.unpackb(data, raw=False, strict_map_key=False)
        except (ValueError, TypeError, RecursionError, packing.UnpackException) as error:
            raise DecodeError(f"not MessagePack: {error}") from error


def _msgpack() -> ModuleType:
    try:
        import msgpack
    except ImportError as error:
        raise MissingPackageError("this needs msgpack: pip install 'sqlstore[msgpack]'") from error
    module: ModuleType = msgpack
    return module


class Own(Encoding):
    """An encoding that somebody has registered.

    Parameters
    ----------
    encode, decode
        Functions from a value to bytes, and back.
    """

    def __init__(self, encode: Callable[[Any], Buffer], decode: Callable[[bytes], Any]) -> None:
        self._encode = encode
        self._decode = decode

    def encode(self, value: Any) -> Buffer:
        try:
            encoded = self._encode(value)
        except Exception as error:  # somebody else's code
            raise EncodeError(f"the encode function failed: {error!r}") from error
        given = as_bytes(encoded)
        if given is None:
            raise EncodeError(f"the encode function gave {type(encoded).__name__}, not bytes")
        return given

    def decode(self, data: Buffer) -> Any:
        try:
            return self._decode(bytes(data))
        except Exception as error:  # somebody else's code
            raise DecodeError(f"the decode function failed: {error!r}") from error
