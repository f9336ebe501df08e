"""Encodings: a value to bytes, and back. Nothing is lossy.

========  ===========================================================  =======================
name      takes                                                        gives back
========  ===========================================================  =======================
bytes     bytes, bytearray, memoryview                                 bytes
utf8      str                                                          str
array     NumPy arrays and scalars of any fixed-size, plain dtype      numpy.ndarray
png       arrays (H, W), (H, W, 2), (H, W, 3), (H, W, 4) of uint8 or   numpy.ndarray
          (H, W) of uint16; Pillow images; the bytes of a PNG file
========  ===========================================================  =======================
"""

from __future__ import annotations

import io
import math
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sqlstore.errors import DecodeError, EncodeError, MissingPackageError
from sqlstore.types import Buffer

if TYPE_CHECKING:
    from types import ModuleType

_ARRAY_HEADER: Final = struct.Struct("<BBH")
_FORTRAN: Final = 1
_PLAIN_KINDS: Final = "biufcSUmM"
_DTYPE: Final = re.compile(rf"[<>|][{_PLAIN_KINDS}]\d+(\[\d*[A-Za-z]+\])?")
"""How NumPy writes the plain dtypes. It reads much more, some of it with a warning."""
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_MODES: Final = {"L", "LA", "RGB", "RGBA", "I;16"}


class Encoding(ABC):
    """How the values of a field become bytes and bytes become values.

    Attributes
    ----------
    straight
        Values of exactly this type are stored as they are; None if there is no such type.
    parallel
        Whether decoding lets go of Python's lock, so that threads help.
    gives_arrays
        Whether every value comes back as a NumPy array.
    """

    straight: type | None = None
    parallel: bool = False
    gives_arrays: bool = False

    @abstractmethod
    def encode(self, value: Any) -> Buffer:
        """Return the bytes of a value.

        Raises
        ------
        EncodeError
            The value is not of a kind that this encoding takes.
        """

    @abstractmethod
    def decode(self, data: Buffer) -> Any:
        """Return the value of the bytes.

        Raises
        ------
        DecodeError
            The bytes were not made by this encoding.
        """


class _Bytes(Encoding):
    straight = bytes

    def encode(self, value: Any) -> Buffer:
        if type(value) is bytes:
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)  # a copy: the caller may change his buffer before the commit
        raise EncodeError(f"expected bytes, got {type(value).__name__}")

    def decode(self, data: Buffer) -> bytes:
        return bytes(data)


class _Utf8(Encoding):
    def encode(self, value: Any) -> Buffer:
        if not isinstance(value, str):
            raise EncodeError(f"expected a string, got {type(value).__name__}")
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise EncodeError(f"not text that UTF-8 can hold: {error}") from error

    def decode(self, data: Buffer) -> str:
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"not UTF-8: {error}") from error


class _Array(Encoding):
    """Flags, number of dimensions, dtype, shape, and the elements; see `docs/format.md`."""

    gives_arrays = True

    def encode(self, value: Any) -> Buffer:
        if not isinstance(value, (np.ndarray, np.generic)):
            raise EncodeError(f"expected a NumPy array, got {type(value).__name__}")
        array = np.asarray(value)
        if array.dtype.kind not in _PLAIN_KINDS or not array.dtype.itemsize:
            raise EncodeError(f"arrays of dtype {array.dtype} cannot be stored")
        if isinstance(value, np.ma.MaskedArray):
            raise EncodeError("a masked array would lose its mask; store values and mask as two")
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        name = array.dtype.str.encode("ascii")
        header = _ARRAY_HEADER.pack(_FORTRAN if fortran else 0, array.ndim, len(name))
        shape = struct.pack(f"<{array.ndim}Q", *array.shape)
        return b"".join((header, name, shape, array.tobytes("F" if fortran else "C")))

    def decode(self, data: Buffer) -> np.ndarray[Any, Any]:
        try:
            return self._parse(data)
        except (struct.error, TypeError, ValueError, OverflowError) as error:
            raise DecodeError(f"not an array: {error}") from error

    def _parse(self, data: Buffer) -> np.ndarray[Any, Any]:
        flags, dtype, shape, start = _array_header(data)
        count = math.prod(shape)
        # A copy, so that the array is aligned and writable and does not keep a larger buffer alive.
        flat = np.frombuffer(bytearray(data[start:]), dtype, count) if count else np.empty(0, dtype)
        return flat.reshape(shape, order="F" if flags == _FORTRAN else "C")


def _array_header(data: Buffer) -> tuple[int, np.dtype[Any], tuple[int, ...], int]:
    """Return flags, dtype and shape of an encoded array, and where its elements begin."""
    flags, ndim, n_name = _ARRAY_HEADER.unpack_from(data)
    start = _ARRAY_HEADER.size
    name = bytes(data[start : start + n_name]).decode("ascii")
    if not _DTYPE.fullmatch(name) or flags not in (0, _FORTRAN):
        raise ValueError(f"dtype {name!r}, flags {flags}")
    dtype = np.dtype(name)
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
        flags, dtype, shape, start = _array_header(first)
    except (struct.error, TypeError, ValueError, OverflowError):
        return None  # decoding it says what is wrong
    header, size = bytes(first[:start]), len(first)
    if flags or any(d is None or len(d) != size or d[:start] != header for d in datas):
        return None
    whole = np.empty((len(datas), *shape), dtype)
    rows = whole.reshape(-1).view(np.uint8).reshape(len(datas), -1) if whole.size else None
    if rows is not None:
        for row, data in zip(rows, datas, strict=True):
            row[:] = np.frombuffer(data or b"", np.uint8, offset=start)
    return whole


class _Png(Encoding):
    parallel = True
    gives_arrays = True

    def encode(self, value: Any) -> Buffer:
        if isinstance(value, (bytes, bytearray, memoryview)):
            if bytes(value[:8]) != _PNG_SIGNATURE:
                raise EncodeError("these bytes are not a PNG file")
            return bytes(value)
        image = self._image(value)
        if image.mode not in _PNG_MODES:
            raise EncodeError(f"Pillow images of mode {image.mode} cannot be stored; convert it")
        stream = io.BytesIO()
        try:
            _check_pixels(image)
            image.save(stream, "PNG")
        except (OSError, SyntaxError, ValueError) as error:
            raise EncodeError(f"this image cannot be stored: {error}") from error
        return stream.getvalue()

    def _image(self, value: Any) -> Any:
        pillow = _pillow()
        if isinstance(value, pillow.Image):
            return value
        if not isinstance(value, np.ndarray):
            raise EncodeError(f"expected an array, image or PNG bytes, got {type(value).__name__}")
        channels = value.shape[2] if value.ndim == 3 else 1
        fits = (
            value.ndim in (2, 3) and channels in (1, 2, 3, 4) and (value.ndim == 2 or channels > 1)
        )
        native = value.dtype.newbyteorder("=")
        depth = native == np.uint8 or (native == np.uint16 and value.ndim == 2)
        if not fits or not depth or not value.size:
            raise EncodeError(
                f"an array of shape {value.shape} and dtype {value.dtype} is not an image; "
                "expected (H, W), (H, W, 2), (H, W, 3) or (H, W, 4) of uint8, or (H, W) of uint16"
            )
        return pillow.fromarray(np.ascontiguousarray(value, native))

    def decode(self, data: Buffer) -> np.ndarray[Any, Any]:
        _pillow()
        from PIL.PngImagePlugin import PngImageFile

        try:
            # Not by `Image.open`, which warns of an image half as large as the largest allowed.
            with PngImageFile(io.BytesIO(data)) as image:
                _check_pixels(image)
                return np.array(_plain(image))
        except (OSError, SyntaxError, ValueError) as error:
            raise DecodeError(f"not a PNG image: {error}") from error


def _check_pixels(image: Any) -> None:
    """Refuse an image that would fill the memory: Pillow's own limit, which people can change."""
    limit = _pillow().MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > 2 * limit:
        raise ValueError(
            f"{image.width} x {image.height} pixels are more than twice "
            f"PIL.Image.MAX_IMAGE_PIXELS ({limit})"
        )


def _plain(image: Any) -> Any:
    """Return the image without palette, so that every pixel is what a person sees."""
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image.convert("L") if image.mode == "1" else image


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError("images need Pillow: pip install 'sqlstore[images]'") from error
    return Image


ENCODINGS: Final[dict[str, Encoding]] = {
    "bytes": _Bytes(),
    "utf8": _Utf8(),
    "array": _Array(),
    "png": _Png(),
}
"""Every encoding by its name in a schema."""
