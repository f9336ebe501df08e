"""Arrow columns as tables for people."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa

from sqlstore.text import DOTS, TextColumn, pairs, printable, render, terminal_width

__all__ = ["TextColumn", "pairs", "render", "text_column"]


def text_column(heading: str, column: pa.ChunkedArray) -> TextColumn:
    """Return an Arrow column as text, as its type asks for."""
    kind = column.type
    # Not more of a long value than fits on a line: it may be as large as memory.
    most = terminal_width() + 1
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    cells = [_cell(value, kind, most) for value in column.to_pylist()]
    elastic = not (is_number or pa.types.is_temporal(kind) or pa.types.is_boolean(kind))
    return TextColumn(printable(heading), cells, is_number, elastic)


def _cell(value: object, kind: pa.DataType, most: int) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, float) and pa.types.is_float32(kind):
        return str(np.float32(value))  # shorter than as a double
    if isinstance(value, bytes):
        return value[:most].hex()
    if isinstance(value, str):
        return printable(value[:most]) + (DOTS if len(value) > most else "")
    return str(value)
