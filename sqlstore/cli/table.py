"""Tables for people: headings, numbers to the right, and never wider than the terminal."""

from __future__ import annotations

import datetime as dt
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from sqlstore.cli.output import printable

WIDTH_WITHOUT_TERMINAL: Final = 100
_GAP: Final = "  "
_LEAST: Final = 8  # text is not shortened below this width
_DOTS: Final = "..."


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column of a table, as text.

    Attributes
    ----------
    heading, cells
        What is shown.
    to_right
        Align to the right, as numbers are.
    elastic
        Whether cells may be shortened. A number never is: part of one is another number.
    """

    heading: str
    cells: Sequence[str]
    to_right: bool = False
    elastic: bool = True


def terminal_width() -> int:
    """Return how many characters fit on a line; COLUMNS in the environment overrules it."""
    return shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns


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
        return printable(value[:most]) + (_DOTS if len(value) > most else "")
    return str(value)


def render(columns: Sequence[TextColumn]) -> list[str]:
    """Return the lines of a table that fits the terminal, and one for what does not fit."""
    widths = _fitted(columns, terminal_width())
    shown = list(zip(columns, widths, strict=False))
    lines = [
        _line([_aligned(c.heading, width, to_right=c.to_right) for c, width in shown]),
        _line(["-" * width for width in widths]),
    ]
    for row in zip(*(c.cells for c, _ in shown), strict=True):
        cells = zip(row, shown, strict=True)
        lines.append(_line([_aligned(t, width, to_right=c.to_right) for t, (c, width) in cells]))
    if hidden := [column.heading for column in columns[len(shown) :]]:
        lines.append(shortened(f"no room for: {', '.join(hidden)}", terminal_width()))
    return lines


def pairs(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Return labels and what belongs to each, one pair on a line."""
    width = max(display_width(label) for label, _ in entries)
    return [f"{_aligned(label, width, to_right=False)}{_GAP}{printable(t)}" for label, t in entries]


def display_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shortened(text: str, width: int) -> str:
    """Return the text, or if it is too wide its beginning and dots."""
    if display_width(text) <= width:
        return text
    kept, room = "", max(width - len(_DOTS), 0)
    for character in text:
        room -= _character_width(character)
        if room < 0:
            break
        kept += character
    return (kept + _DOTS)[:width] if width < len(_DOTS) else kept + _DOTS


def _fitted(columns: Sequence[TextColumn], room: int) -> list[int]:
    """Return the widths of the columns that fit, from the left; at least one does."""
    widths = [_widest(column) for column in columns]
    least = [_narrowest(column) for column in columns]
    while len(widths) > 1 and _total(least[: len(widths)]) > room:
        widths.pop()
    widths = [max(low, min(width, room)) for width, low in zip(widths, least, strict=False)]
    while _total(widths) > room:
        spare = [width if width > low else 0 for width, low in zip(widths, least, strict=False)]
        if not any(spare):
            break
        widths[spare.index(max(spare))] -= 1
    return widths


def _widest(column: TextColumn) -> int:
    return max(map(display_width, [column.heading, *column.cells]))


def _narrowest(column: TextColumn) -> int:
    cells = max(map(display_width, column.cells), default=0)
    return max(
        min(cells, _LEAST) if column.elastic else cells,
        min(display_width(column.heading), _LEAST),
    )


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _aligned(text: str, width: int, *, to_right: bool) -> str:
    text = shortened(text, width)
    space = " " * (width - display_width(text))
    return space + text if to_right else text + space


def _line(cells: Sequence[str]) -> str:
    return _GAP.join(cells).rstrip()
