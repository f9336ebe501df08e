"""NumPy arrays: in a form of our own, which keeps every plain dtype, and as ``.npy`` files."""

from __future__ import annotations

import io
import math
import struct
import tokenize
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from sqlstore import limits
from sqlstore.encodings.base import Encoding, as_bytes
from sqlstore.encodings.dtypes import dtype_of, fits_npy, name_of, unshared
from sqlstore.errors import DecodeError, EncodeError
from sqlstore.types import Buffer

_HEADER: Final = struct.Struct("<BBH")
_FORTRAN: Final = 1
_NPY_MAGIC: Final = b"\x93NUMPY"
_NPY_FIRST: Final = b"\x93NUMPY\x01\x00"
_NPY_START: Final = struct.Struct("<8sH")
_NPY_HEADER: Final = 2**17  # bytes: dtypes of some thousand fields; NumPy's own limit is 10,000
_UNREADABLE: Final = (
    struct.error,
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    OverflowError,
    SyntaxError,
    EOFError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
)


class Array(Encoding):
    """Order, number of dimensions, dtype, shape, and the elements; see `docs/format.md`."""

    gives_arrays = True

    def encode(self, value: Any) -> Buffer:
        array = _array(value)
        name = name_of(array.dtype)
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        header = _HEADER.pack(_FORTRAN if fortran else 0, array.ndim, len(name))
        shape = struct.pack(f"<{array.ndim}Q", *array.shape)
        return b"".join((header, name, shape, array.tobytes("F" if fortran else "C")))

    def decode(self, data: Buffer) -> np.ndarray[Any, Any]:
        try:
            return self._parse(data)
        except _UNREADABLE as error:
            raise DecodeError(f"not an array: {error}") from error

    def _parse(self, data: Buffer) -> np.ndarray[Any, Any]:
        flags, dtype, shape, start = _parsed_header(data)
        order: Any = "F" if flags == _FORTRAN else "C"
        if start == len(data):
            return _without_bytes(shape, dtype, order)
        # A copy, so that the array is aligned and writable and does not keep a larger buffer alive.
        flat = np.frombuffer(bytearray(data[start:]), dtype, math.prod(shape))
        return flat.reshape(shape, order=order)


def _without_bytes(
    shape: tuple[int, ...], dtype: np.dtype[Any], order: Any
) -> np.ndarray[Any, Any]:
    # As a part of a structure: alone, text of no length would become one byte long.
    array: np.ndarray[Any, Any] = np.zeros(shape, [("part", dtype)], order)["part"]
    return array


def _array(value: Any) -> np.ndarray[Any, Any]:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise EncodeError(
            f"expected a NumPy array, got {type(value).__name__}; `numpy.asarray` makes one of "
            "numbers, lists and tensors"
        )
    check_unmasked(value)
    array = np.asarray(value)
    if array.nbytes > limits.MAX_VALUE_BYTES:  # before it is copied: it may be one value, repeated
        raise EncodeError(
            f"an array of {array.nbytes} bytes; the limit is {limits.MAX_VALUE_BYTES}"
        )
    if array.dtype.fields is None or array.flags.forc:
        return array
    # NumPy would fill the room between fields with whatever lies in memory.
    whole = np.zeros(array.shape, array.dtype)
    whole[...] = array
    return whole


def check_unmasked(value: object) -> None:
    """Refuse an array with a mask, of which only the values would be kept."""
    if isinstance(value, np.ma.MaskedArray):
        raise EncodeError("a masked array would lose its mask; store values and mask as two")


def _parsed_header(data: Buffer) -> tuple[int, np.dtype[Any], tuple[int, ...], int]:
    """Return flags, dtype and shape of an encoded array, and where its elements begin."""
    flags, ndim, n_name = _HEADER.unpack_from(data)
    start = _HEADER.size
    if flags not in (0, _FORTRAN):
        raise ValueError(f"flags {flags}")
    dtype = dtype_of(bytes(data[start : start + n_name]).decode("utf-8"))
    shape = struct.unpack_from(f"<{ndim}Q", data, start + n_name)
    start += n_name + 8 * ndim
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"{len(data) - start} bytes for shape {shape} of {dtype}")
    return flags, dtype, shape, start


def stacked_arrays(datas: Sequence[Buffer | None]) -> np.ndarray[Any, Any] | None:
    """Return encoded arrays as one array if all have one header in C order; else None.

    The elements are copied once, straight to their place.
    """
    first = datas[0]
    if first is None:
        return None
    try:
        flags, dtype, shape, start = _parsed_header(first)
    except _UNREADABLE:
        return None  # decoding it says what is wrong
    header, size = bytes(first[:start]), len(first)
    if (
        flags
        or not dtype.itemsize
        or any(d is None or len(d) != size or d[:start] != header for d in datas)
    ):
        return None
    whole = np.empty((len(datas), *shape), dtype)
    if whole.nbytes:
        rows = whole.reshape(-1).view(np.uint8).reshape(len(datas), -1)
        for row, data in zip(rows, datas, strict=True):
            row[:] = np.frombuffer(data or b"", np.uint8, offset=start)
    return whole


class Npy(Encoding):
    """A file as `numpy.save` writes it; the bytes of such a file are kept as they are."""

    gives_arrays = True

    def encode(self, value: Any) -> Buffer:
        given = as_bytes(value)
        if given is not None:
            if not given.startswith(_NPY_MAGIC):
                raise EncodeError("these bytes are not an npy file")
            return given
        array = _array(value)
        name_of(array.dtype)  # which refuses what nothing can hold
        if not fits_npy(array.dtype):
            raise EncodeError(f"npy has no dtype {array.dtype}; the encoding `array` has")
        return _npy_file(array)

    def decode(self, data: Buffer) -> np.ndarray[Any, Any]:
        try:
            return self._parse(data)
        except _UNREADABLE as error:
            raise DecodeError(f"not an npy file: {error}") from error

    def _parse(self, data: Buffer) -> np.ndarray[Any, Any]:
        start = _NPY_START.size + _NPY_START.unpack_from(data)[-1]
        if bytes(data[: len(_NPY_FIRST)]) != _NPY_FIRST:  # a later version of the format
            array: np.ndarray[Any, Any] = npy.read_array(
                io.BytesIO(data), allow_pickle=False, max_header_size=_NPY_HEADER
            )
            return array
        shape, is_fortran, dtype = _npy_header(bytes(data[:start]))
        if math.prod(shape) * dtype.itemsize != len(data) - start:
            raise ValueError(f"{len(data) - start} bytes for shape {shape} of {dtype}")
        order: Any = "F" if is_fortran else "C"
        if start == len(data):
            return _without_bytes(shape, unshared(dtype), order)
        flat = np.frombuffer(bytearray(data[start:]), unshared(dtype), math.prod(shape))
        return flat.reshape(shape, order=order)


def _npy_file(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    try:
        npy.write_array(stream, array, (1, 0), allow_pickle=False)
    except ValueError:  # its names are too long, or not in Latin-1; nothing has been written
        # Asked for by its number, as NumPy warns when it chooses this version by itself.
        npy.write_array(stream, array, (3, 0), allow_pickle=False)
    return stream.getvalue()


@lru_cache(maxsize=256)
def _npy_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether it is in Fortran order, and dtype; NumPy takes 30 us to parse them."""
    stream = io.BytesIO(head[len(_NPY_FIRST) :])
    shape, is_fortran, dtype = npy.read_array_header_1_0(stream, max_header_size=_NPY_HEADER)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, is_fortran, dtype
