"""Make the store that is kept for every released revision of the index.

`<revision>.zip` beside this file is a store as a released sqlstore wrote it. `test_migrate.py`
opens each of them with the sqlstore of today, compares all that is in it with `RECORDS`, verifies
it and brings it up to date. So nobody can change the format, or lose an upgrade, without noticing.

Once for every new revision, with the code that is about to be released::

    python tests/assets/make_store.py

That writes the zip of the revision that this code writes. An existing zip is never made anew and
`RECORDS` is never changed: a later revision that can hold more gets a list of its own.
"""

from __future__ import annotations

import datetime as dt
import math
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

import sqlstore
from sqlstore import Column, Field

FIELDS: Final = {
    "plain": Field("bytes", None),
    "squeezed": Field("bytes", "lz4"),
    "text": Field("utf8", "zstd"),
    "grid": Field("array", "gzip"),
    "image": Field("png", None),
}
COLUMNS: Final[dict[str, str | Column]] = {
    "path": "string",
    "label": Column("string", index=True),
    "flag": "bool",
    **{f"int{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "single": "float32",
    "double": "float64",
    "thumb": "binary",
    "day": "date32",
    "local": "timestamp[us]",
    "taken": "timestamp[us, UTC]",
    "shown": "timestamp[us, Europe/Berlin]",
    "extra": "json",
    "width": Column("int32", index=True, nullable=False),
}
KEY: Final = "path"

_LOWEST: Final[dict[str, Any]] = {
    "path": "",
    "label": "",
    "flag": False,
    **{f"int{bits}": -(2 ** (bits - 1)) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": 0 for bits in (8, 16, 32, 64)},
    "single": -math.inf,
    "double": -0.0,
    "thumb": b"",
    "day": dt.date.min,
    "local": dt.datetime.min,
    "taken": dt.datetime(1, 1, 2, tzinfo=dt.UTC),
    "shown": dt.datetime(1900, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    "extra": [],
    "width": 0,
}
_HIGHEST: Final[dict[str, Any]] = {
    "path": "ä/ß/日本/🦉.jpg",
    "label": "line\none, 'two'; --\0three",
    "flag": True,
    **{f"int{bits}": 2 ** (bits - 1) - 1 for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": min(2**bits - 1, 2**63 - 1) for bits in (8, 16, 32, 64)},
    "single": float(np.float32(3.4e38)),
    "double": math.nan,
    "thumb": bytes(range(256)),
    "day": dt.date.max,
    "local": dt.datetime.max,
    "taken": dt.datetime(9999, 12, 30, 23, 59, 59, 999999, dt.UTC),
    "shown": dt.datetime(2026, 7, 1, 12, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    "extra": {"a": [1, 2.5, None, True, "ü"], "b": {}},
    "width": 2**31 - 1,
}
_MISSING: Final[dict[str, Any]] = dict.fromkeys([*FIELDS, *COLUMNS])

RECORDS: Final[list[dict[str, Any]]] = [
    {
        "plain": b"",
        "squeezed": b"",
        "text": "",
        "grid": np.zeros((0, 3), np.float32),
        "image": np.zeros((1, 1), np.uint8),
        **_LOWEST,
    },
    {
        "plain": bytes(range(256)),
        "squeezed": b"again and " * 50,
        "text": "Grüße, 日本, 🦉. " * 20,
        "grid": np.arange(600, dtype=np.int16).reshape(20, 30),
        "image": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
        **_HIGHEST,
    },
    {**_MISSING, "path": "only what is required", "width": -1},
    *(
        {
            **_MISSING,
            "plain": bytes([i]) * i,
            "squeezed": b"%d " % i * 20,
            "text": f"text {i}",
            "grid": np.full((i, 2), i / 7),
            "image": np.full((2, i), 1000 * i, np.uint16),
            "path": f"birds/{i}.jpg",
            "label": ["owl", "wren"][i % 2],
            "flag": i % 2 == 0,
            "double": i / 3,
            "taken": dt.datetime(2026, 1, i, 3, 4, 5, 6, tzinfo=dt.UTC),
            "width": 100 * i,
        }
        for i in range(1, 10)
    ),
]
"""Every record as it is written and as it must be read; what is missing is None."""

COMMITS: Final = (1, 2, 4, 5)
"""How many records each commit has."""


def make(path: Path, chunk_size: int = 16 * sqlstore.KiB) -> None:
    """Make the store in a new folder: several commits in several chunks."""
    with sqlstore.create(
        path, fields=FIELDS, metadata=COLUMNS, key=KEY, chunk_size=chunk_size
    ) as store:
        start = 0
        for count in COMMITS:
            with store.writer() as writer:
                writer.extend(RECORDS[start : start + count])
            start += count


def same(found: object, expected: object) -> bool:
    """Return whether a value is the one that was written, also as to its type."""
    if isinstance(expected, np.ndarray):
        return (
            isinstance(found, np.ndarray)
            and found.dtype == expected.dtype
            and found.shape == expected.shape
            and found.tobytes() == expected.tobytes()
        )
    if isinstance(expected, float) and math.isnan(expected):
        return isinstance(found, float) and math.isnan(found)
    if isinstance(expected, float):
        return isinstance(found, float) and found.hex() == expected.hex()
    if isinstance(expected, dt.datetime):  # the class is a subclass where pandas is imported
        return isinstance(found, dt.datetime) and found == expected
    return type(found) is type(expected) and found == expected


def differences(store: sqlstore.View) -> list[str]:
    """Return which values of an opened store, or of a view of it, are not as in `RECORDS`."""
    if len(store) != len(RECORDS):
        return [f"{len(store)} records instead of {len(RECORDS)}"]
    return [
        f"record {number}, {name}: {record[name]!r} instead of {expected[name]!r}"
        for number, (record, expected) in enumerate(zip(store, RECORDS, strict=True))
        for name in expected
        if not same(record[name], expected[name])
    ]


def main() -> int:
    """Write the zip of the revision that this code writes, unless it is there."""
    from sqlstore.index import versions

    target = Path(__file__).with_name(f"{versions.head()}.zip")
    if target.exists():
        print(f"{target.name} is there; a store that was released is not made anew")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        make(root)
        with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            for file in sorted(root.rglob("*")):
                name = file.relative_to(root)
                if name.parts[0] != "cache":  # which is made anew by whoever reads
                    packed.write(file, name)
    print(f"{target.name}: {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
