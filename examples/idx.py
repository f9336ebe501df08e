"""Read the IDX files in which MNIST and its relatives are published."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UNSIGNED_BYTE = 0x08


class IdxError(Exception):
    """A file is not an IDX file of unsigned bytes, or is damaged."""


def read(path: Path) -> NDArray[np.uint8]:
    """Return the array in an IDX file of unsigned bytes; gzip is undone if need be.

    The file has two zero bytes, the type of the elements, the number of dimensions, every
    dimension as a big-endian 32-bit number, and the elements, the last index running fastest.

    Raises
    ------
    IdxError
        The file is not what it should be; the message says what is wrong.
    """
    data = _content(path)
    if len(data) < 4 or data[:2] != b"\0\0":
        raise IdxError(
            f"{path} is not an IDX file: it begins with {data[:4].hex(' ') or 'nothing'}"
        )
    kind, dimensions = data[2], data[3]
    if kind != UNSIGNED_BYTE:
        raise IdxError(f"{path} holds elements of type 0x{kind:02x}; only 0x08, bytes, can be read")
    start = 4 + 4 * dimensions
    if not dimensions or len(data) < start:
        raise IdxError(f"{path} ends within its header of {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    expected, found = math.prod(shape), len(data) - start
    if expected != found:
        sizes = " x ".join(map(str, shape))
        raise IdxError(f"{path} should hold {sizes} = {expected} bytes, but has {found}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:  # a damaged gzip file is an OSError as well
        raise IdxError(f"cannot read {path}: {error}") from error
