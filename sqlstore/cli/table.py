"""Arrow columns, and what is known of things that have names, as tables for people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from sqlstore.text import DOTS, TextColumn, pairs, printable, render, terminal_width

__all__ = ["TextColumn", "listing", "pairs", "render", "text_column"]


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


def listing(entries: Sequence[Mapping[str, object]], elastic: Collection[str]) -> list[str]:
    """Return the lines of a table that has a row for each entry; all have the same keys.

    Parameters
    ----------
    elastic
        The columns that may be shortened.
    """
    columns = {heading: [entry[heading] for entry in entries] for heading in entries[0]}
    return render(
        [
            TextColumn(
                heading,
                [_fact(value) for value in values],
                to_right=any(isinstance(value, int) for value in values),
                elastic=heading in elastic,
            )
            for heading, values in columns.items()
        ]
    )


def _fact(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return "" if value is None else printable(str(value))
