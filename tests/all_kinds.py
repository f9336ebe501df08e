"""A store with every type of column, every compression, sequences and missing values."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any, Final

import numpy as np

import sqlstore
from sqlstore import Column, Field

COUNT: Final = 60
FIELDS: Final = {
    "plain": Field("bytes", None),
    "packed": Field("utf8", "lz4"),
    "array": Field("array", "zstd"),
    "numbers": Field("i64[]", "gzip"),
    "parts": Field("json[]", "zstd"),
    "image": Field("png", None),
}
METADATA: Final = {
    "n": Column("int64", index=True, nullable=False),
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float32": "float32",
    "float64": "float64",
    "string": "string",
    "binary": "binary",
    "date": "date32",
    "naive": "timestamp[us]",
    "zoned": "timestamp[us, Europe/Berlin]",
    "json": "json",
    "bool": "bool",
    "key": "string",
}
MOST: Final = {
    "uint8": 255,
    "uint64": 2**63 - 1,
    "int64": -(2**63),
    "int8": -128,
    "uint32": 2**32 - 1,
}


def record_of(i: int) -> dict[str, Any]:
    record: dict[str, Any] = {
        "n": i,
        "float32": [1.5, math.nan, -math.inf][i % 3],
        "float64": [0.1, math.nan, 5e-324, None][i % 4],
        "string": ["", "owl", 'Käuzchen, "groß"\n', None][i % 4],
        "binary": [b"", b"\x00\xff", None][i % 3],
        "date": dt.date(1, 1, 1) + dt.timedelta(days=i * 1000),
        "naive": dt.datetime(1969, 12, 31, 23, 59, 59, 999_999) + dt.timedelta(hours=i),
        "zoned": dt.datetime(2024, 3, 31, tzinfo=dt.UTC) + dt.timedelta(minutes=30 * i),
        "json": {"i": [i, None]} if i % 2 else None,
        "bool": [True, False, None][i % 3],
        "key": f"dir/{i:03d}",
        "plain": b"p" * i,
        "packed": "é" * 20 * i,
        "array": np.full((i % 4, 3), i, np.float32),
        "numbers": list(range(i % 5)),
        "parts": [{"same": "same " * 20, "i": i}] * (i % 3),
        "image": np.full((2, 2 + i % 3), i, np.uint8),
    }
    for sign in ("", "u"):
        for bits in (8, 16, 32, 64):
            record[f"{sign}int{bits}"] = i if i else MOST.get(f"{sign}int{bits}", i)
    required = ("n", "key")
    return {k: v for j, (k, v) in enumerate(record.items()) if (i + j) % 7 or k in required}


def make(path: Path, count: int = COUNT, **more: Any) -> Path:
    """Return the folder of such a store, of two commits."""
    with sqlstore.create(path, fields=FIELDS, metadata=METADATA, key="key", **more) as store:
        store.extend(record_of(i) for i in range(count // 3))
        store.extend(record_of(i) for i in range(count // 3, count))
    return path


def exactly(value: Any) -> str:
    """Return what a value is, such that NaN equals NaN and 0 does not equal False."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {value.tobytes()!r}"
    if isinstance(value, dict):
        return str({name: exactly(one) for name, one in value.items()})
    return repr(value)
