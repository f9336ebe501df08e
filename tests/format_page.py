"""The tables of `docs/format.md`, and stores to hold against them."""

from __future__ import annotations

import datetime as dt
import math
import re
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

import sqlstore
from sqlstore import Column, Field

PAGE: Final = (Path(__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """Return the text under every heading of the page, without what is under lower headings."""
    parts = re.split(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def code(heading: str) -> list[tuple[str, str]]:
    """Return language and text of the code blocks under a heading."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", sections()[heading], re.MULTILINE | re.DOTALL)


def table_rows(heading: str, which: int = 0) -> list[list[str]]:
    """Return the rows of a table under a heading, without its head and without code marks."""
    tables = re.findall(r"(?:^\|.*\|\n)+", sections()[heading], re.MULTILINE)
    lines = tables[which].splitlines()[2:]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def bare(text: str) -> str:
    return text.strip("`")


TYPES: Final = {"u16": "H", "u32": "I", "u64": "Q", "i64": "q"}


def layout(heading: str) -> tuple[struct.Struct, list[str]]:
    """Return a table of offsets, sizes and types as a struct, and the names of its parts."""
    form, names = "<", []
    for offset, size, kind, name, _ in table_rows(heading):
        assert struct.calcsize(form) == int(offset)
        form += TYPES.get(kind, f"{size}{'x' if kind == 'zero' else 's'}")
        assert struct.calcsize(form) == int(offset) + int(size)
        names += [name] if name else []
    return struct.Struct(form), names


def described(heading: str) -> pa.Schema:
    """Return the Arrow schema that a table of the page describes."""
    fields = []
    for name, kind, _ in table_rows(heading):
        arrow = pa.type_for_alias(kind.removesuffix(" not null"))
        fields.append(pa.field(bare(name), arrow, nullable=not kind.endswith("not null")))
    return pa.schema(fields)


def column_types() -> Iterator[tuple[str, str, str]]:
    """Return declared type, Arrow type and SQLite storage from the page."""
    for names, arrow, storage, _ in table_rows("9. Types of metadata columns"):
        for name in re.findall(r"`([^`]+)`", names):
            yield name, name if arrow == "the same" else arrow, storage


# Stores to hold against the page.

BERLIN: Final = ZoneInfo("Europe/Berlin")
FIELDS: Final[dict[str, str | Field]] = {
    "blob": "bytes",
    "text": Field("utf8", "zstd"),
    "array": Field("array", "gzip"),
    "picture": Field("png", None),
}
COLUMNS: Final[dict[str, str | Column]] = {
    "flag": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "single": Column("float32", index=True),
    "double": "float64",
    "name": "string",
    "bytes_": "binary",
    "day": "date32",
    "clock": "timestamp[us]",
    "moment": "timestamp[us, Europe/Berlin]",
    "extra": "json",
}
LOWEST: Final = {
    "blob": b"",
    "text": "",
    "array": np.zeros((0, 3), "<f4"),
    "flag": False,
    **{f"int{bits}": -(2 ** (bits - 1)) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": 0 for bits in (8, 16, 32, 64)},
    "single": -math.inf,
    "double": -0.0,
    "name": "",
    "bytes_": b"",
    "day": dt.date.min,
    "clock": dt.datetime.min,
    "moment": dt.datetime(1923, 11, 15, 12, 30, 0, 1, tzinfo=BERLIN),
    "extra": [],
}
HIGHEST: Final = {
    "blob": bytes(range(256)) * 20,
    "text": "eulé 🦉\0" * 300,
    "array": np.asfortranarray(np.arange(6000, dtype=">i2").reshape(20, 300)),
    "picture": np.arange(300, dtype=np.uint8).reshape(10, 10, 3),
    "flag": True,
    **{f"int{bits}": 2 ** (bits - 1) - 1 for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": min(2**bits, 2**63) - 1 for bits in (8, 16, 32, 64)},
    "single": math.inf,
    "double": 1.7976931348623157e308,
    "name": "owl\0🦉",
    "bytes_": b"\0\xff",
    "day": dt.date.max,
    "clock": dt.datetime.max,
    "moment": dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    "extra": {"a": [1, None, {"b": "é"}], "big": 2**70},
}
NAN: Final = {
    "array": np.array(1.5),
    "single": math.nan,
    "double": math.nan,
    "day": dt.date(1969, 12, 31),
    "clock": dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
    "extra": "null",
}
LOWEST_METADATA: Final[dict[str, Any]] = {name: LOWEST[name] for name in COLUMNS}
HIGHEST_METADATA: Final[dict[str, Any]] = {name: HIGHEST[name] for name in COLUMNS}


def chunk_files(path: Path) -> list[Path]:
    return sorted((path / "chunks").iterdir())


def append(path: Path, records: Any) -> None:
    with sqlstore.open(path, "a") as store:
        store.extend(records)


def create(path: Path, **arguments: Any) -> Path:
    sqlstore.create(path, **arguments).close()
    return path


def create_owls(folder: Path) -> Path:
    """Return a store with two commits of records in one chunk."""
    path = create(folder / "owls", fields={"blob": Field("bytes", None)}, metadata={"n": "int64"})
    append(path, [{"blob": b"owl", "n": 0}, {"blob": None, "n": 1}])
    append(path, [{"blob": b"eagle owl" * 9, "n": 2}])
    return path


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Run SQL on the index of a store that nobody has open."""
    uri = f"{(path / 'index.sqlite').absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.execute(sql).fetchall()
