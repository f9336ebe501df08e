"""Text for people: numbers with their units, tables no wider than the terminal, plain values."""

from __future__ import annotations

import datetime as dt
import math
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlstore.types import Ids

WIDTH_WITHOUT_TERMINAL: Final = 100
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_GAP: Final = "  "
_MOST_IDS: Final = 5
_LEAST: Final = 8  # text is not shortened below this width
DOTS: Final = "..."


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


def plain(value: object) -> object:
    """Return a value as JSON can hold it: times as ISO 8601, bytes as hex, NaN as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def printable(text: str) -> str:
    r"""Return text with every control character written as an escape such as ``\n``."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def counted(count: int, what: str) -> str:
    """Return a number with its noun: ``1 record``, ``1,234 records``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(ids: Ids, what: str) -> str:
    """Return how many ids there are, and the first of them: ``7 records: 0, 1, 2, 3, 4, ...``."""
    shown = ", ".join(map(str, ids[:_MOST_IDS].tolist()))
    more = ", ..." if len(ids) > _MOST_IDS else ""
    return f"{counted(len(ids), what)}: {shown}{more}"


def sized(count: int) -> str:
    """Return a number of bytes, and for a large one also the nearest unit."""
    exact, rounded = counted(count, "byte"), about(count)
    return exact if rounded == exact else f"{exact} ({rounded})"


def about(count: int) -> str:
    """Return a number of bytes in the nearest unit: ``12 bytes``, ``1.5 KiB``."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else counted(count, "byte")


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
    kept, room = "", max(width - len(DOTS), 0)
    for character in text:
        room -= _character_width(character)
        if room < 0:
            break
        kept += character
    return (kept + DOTS)[:width] if width < len(DOTS) else kept + DOTS


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
