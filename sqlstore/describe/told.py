"""A description as text for people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from sqlstore.describe.summaries import ColumnSummary, FieldSummary, Sizes
from sqlstore.text import TextColumn, about, counted, printable, render, terminal_width

_NONE: Final = "-"
_Cell: TypeAlias = Callable[[Any], str]


def told(
    records: int, columns: Iterable[ColumnSummary], fields: Iterable[FieldSummary]
) -> list[str]:
    """Return the lines of a description."""
    columns = list(columns)
    measured = [column for column in columns if column.quantiles]
    lines = [counted(records, "record")]
    for summaries, cells in (
        (measured, _COLUMN_CELLS),
        ([column for column in columns if not column.quantiles], _COLUMN_CELLS),
        (list(fields), _FIELD_CELLS),
    ):
        if summaries:
            lines += ["", *render(_table(summaries, cells))]
    return lines


def _table(
    summaries: Sequence[ColumnSummary | FieldSummary], cells: dict[str, _Cell]
) -> list[TextColumn]:
    columns = []
    for heading, cell in cells.items():
        texts = [cell(summary) for summary in summaries]
        is_text = heading in _TEXTS
        if any(text != _NONE for text in texts):
            columns.append(TextColumn(heading, texts, to_right=not is_text, elastic=is_text))
    return columns


def _value(value: Any) -> str:
    if value is None:
        return _NONE
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")[:16]  # to the minute; the type names the zone
    return str(value)


def _count(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def _frequent(summary: ColumnSummary) -> str:
    room = terminal_width()
    texts = [f"{printable(str(value)[:room])} {count:,}" for value, count in summary.frequent]
    return ", ".join(texts) or _NONE


def _lengths(found: Sizes | None) -> str:
    if found is None:
        return _NONE
    return f"{found.least:,} to {found.greatest:,}"


def _missing(summary: ColumnSummary) -> str:
    return _count(summary.missing) + (f" + {summary.nan:,} NaN" if summary.nan else "")


def _bytes(number: float | None) -> str:
    return _NONE if number is None else about(round(number))


_TEXTS: Final = {"column", "type", "field", "encoding", "most frequent"}
_COLUMN_CELLS: Final[dict[str, _Cell]] = {
    "column": lambda s: printable(s.name),
    "type": lambda s: s.type,
    "missing": _missing,
    "distinct": lambda s: "many" if s.distinct is None else _count(s.distinct),
    "least": lambda s: _value(s.least),
    "median": lambda s: _value((s.quantiles or {}).get(0.5)),
    "greatest": lambda s: _value(s.greatest),
    "mean": lambda s: _value(s.mean),
    "length": lambda s: _lengths(s.lengths),
    "most frequent": _frequent,
}
_FIELD_CELLS: Final[dict[str, _Cell]] = {
    "field": lambda s: printable(s.name),
    "encoding": lambda s: s.encoding,
    "values": lambda s: _count(s.count),
    "missing": lambda s: _count(s.missing),
    "stored": lambda s: _bytes(s.stored and s.stored.total),
    "raw": lambda s: _bytes(s.raw and s.raw.total),
    "ratio": lambda s: _NONE if s.ratio is None else f"{s.ratio:.2f}",
    "mean": lambda s: _bytes(s.raw and s.raw.mean),
    "largest": lambda s: _bytes(s.raw and s.raw.greatest),
    "items": lambda s: _lengths(s.items),
}
