"""The dtypes of arrays as text, and back; see `docs/format.md`."""

from __future__ import annotations

import ast
import copy
import re
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from sqlstore.errors import EncodeError, MissingPackageError

_MOST_NAME: Final = 2**16 - 1
_PLAIN: Final = re.compile(r"[<>|][biufcSUmMV]\d+(\[\d*[A-Za-z]+\])?")
"""How NumPy writes the plain dtypes. It reads much more, some of it with a warning."""
_EXTENSION: Final = re.compile(r"bfloat16|b?complex32|u?int[124]|float[468]_\w+")
"""The dtypes of the package ml_dtypes."""
_USERS: Final = 2  # what NumPy has as `isbuiltin` of the dtypes that other packages register


@lru_cache(maxsize=256)
def name_of(dtype: np.dtype[Any]) -> bytes:
    """Return the text that a dtype is written as.

    Raises
    ------
    EncodeError
        It cannot be stored.
    """
    if dtype.hasobject:
        raise EncodeError(f"arrays of dtype {dtype} cannot be stored: they hold Python objects")
    try:
        described = _described(dtype)
        name = described if isinstance(described, str) else repr(described)
        encoded = name.encode("utf-8")
        is_same = len(encoded) <= _MOST_NAME and dtype_of(name) == dtype
    except (TypeError, ValueError, SyntaxError, RecursionError) as error:
        raise EncodeError(f"arrays of dtype {dtype} cannot be stored: {error}") from error
    if not is_same:
        raise EncodeError(f"arrays of dtype {dtype} cannot be stored exactly")
    return encoded


def _described(dtype: np.dtype[Any]) -> Any:
    """Return text for a plain dtype, and for others Python literals in which it is all said."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return _described(base), shape
    if dtype.fields is None or dtype.names is None:
        return dtype.name if dtype.isbuiltin == _USERS else dtype.str
    if fits_npy(dtype):
        return dtype.descr
    fields = [dtype.fields[name] for name in dtype.names]
    described: dict[str, Any] = {
        "names": list(dtype.names),
        "formats": [_described(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }
    titles = [field[2] if len(field) > 2 else None for field in fields]
    return described | ({"titles": titles} if any(titles) else {})


def fits_npy(dtype: np.dtype[Any]) -> bool:
    """Return whether the header of an ``.npy`` file can say what a dtype is."""
    try:
        described: Any = dtype.str if dtype.fields is None else dtype.descr
        return bool(npy.descr_to_dtype(described) == dtype)
    except (TypeError, ValueError):  # fields overlap or are in another order, or are not NumPy's
        return False


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the dtype that a text stands for; one with fields is nobody else's.

    Raises
    ------
    ValueError, TypeError, LookupError, AttributeError, SyntaxError, OverflowError, MemoryError,
    RecursionError
        It stands for none, or for one that holds objects.
    MissingPackageError
        It is one of ml_dtypes, which is not installed.
    """
    return unshared(_parsed(name))


@lru_cache(maxsize=256)
def _parsed(name: str) -> np.dtype[Any]:
    dtype = _meant(ast.literal_eval(name) if name[:1] in ("[", "{") else name)
    if dtype.hasobject:
        raise ValueError(f"dtype {name!r}")
    return dtype


def unshared(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype whose fields may be renamed, which NumPy does in place."""
    if dtype.names is None:
        return dtype
    is_flat = all(dtype[name].base.names is None for name in dtype.names)
    return copy.copy(dtype) if is_flat else copy.deepcopy(dtype)


def _meant(described: Any) -> np.dtype[Any]:
    """Return the dtype that `_described` has described."""
    dtype: np.dtype[Any]
    if isinstance(described, list):
        dtype = npy.descr_to_dtype(described)
    elif isinstance(described, dict):
        parts: Any = {**described, "formats": [_meant(one) for one in described["formats"]]}
        dtype = np.dtype(parts)
    elif isinstance(described, tuple):
        base, shape = described
        dtype = np.dtype((_meant(base), tuple(shape)))
    elif _PLAIN.fullmatch(described):
        dtype = np.dtype(described)
    elif _EXTENSION.fullmatch(described):
        dtype = np.dtype(getattr(_ml_dtypes(described), described))
    else:
        raise ValueError(f"dtype {described!r}")
    return dtype


def _ml_dtypes(name: str) -> Any:
    try:
        import ml_dtypes
    except ImportError as error:
        raise MissingPackageError(f"{name} arrays need ml_dtypes: pip install ml_dtypes") from error
    return ml_dtypes
