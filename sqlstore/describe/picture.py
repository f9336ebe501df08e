"""A description as a picture of small parts, one for each column and field."""

from __future__ import annotations

import datetime as dt
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from sqlstore.describe.summaries import (
    ColumnSummary,
    FieldSummary,
    Histogram,
)
from sqlstore.errors import MissingPackageError
from sqlstore.export.beside import Beside
from sqlstore.text import about, printable, shortened
from sqlstore.types import StrPath

_ACROSS: Final = 4
_INCHES: Final = (3.2, 2.4)
_LABEL: Final = 18
_LONG: Final = 1_000_000
_COLUMN, _FIELD, _PALE = "tab:blue", "tab:green", "lightgrey"

_Draw: TypeAlias = Callable[[Any], None]


def draw(columns: Iterable[ColumnSummary], fields: Iterable[FieldSummary], path: StrPath) -> None:
    """Write the picture to a file; see `Description.plot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("this needs matplotlib: pip install 'sqlstore[plot]'") from error
    parts = list(_parts(columns, list(fields)))
    across = max(1, min(_ACROSS, len(parts)))
    down = max(1, math.ceil(len(parts) / across))
    figure = Figure(figsize=(_INCHES[0] * across, _INCHES[1] * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for (title, part), one in zip(parts, axes, strict=False):
        one.set_title(title, fontsize="medium", parse_math=False)
        one.tick_params(labelsize="small")
        one.spines[["top", "right"]].set_visible(False)
        part(one)
    for unused in axes[len(parts) :]:
        unused.set_visible(False)
    target = Path(path)
    with Beside(overwrite=True) as beside, beside.file(target) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box is drawn for it
        figure.savefig(file, format=target.suffix.lstrip(".") or "png", dpi=100)


def _parts(
    columns: Iterable[ColumnSummary], fields: list[FieldSummary]
) -> Iterator[tuple[str, _Draw]]:
    """Return what is drawn, each with its title."""
    for column in columns:
        title = printable(column.name)
        if column.missing:
            title += f" ({column.missing:,} missing)"
        yield title, _of_column(column)
    if any(field.count for field in fields):
        yield "bytes, stored in front of raw", partial(_totals, fields)
    for field in fields:
        title = f"bytes of {printable(field.name)}"
        if field.missing:
            title += f" ({field.missing:,} missing)"
        yield title, partial(_histogram, field.histogram, _FIELD)


def _of_column(column: ColumnSummary) -> _Draw:
    if column.frequent:
        return partial(_bars, column)
    if column.histogram is not None:
        return partial(_histogram, column.histogram, _COLUMN)
    return partial(_words, column)


def _histogram(histogram: Histogram | None, colour: str, axes: Any) -> None:
    if histogram is None:
        _nothing(axes, "no values")
        return
    edges, n_bins = histogram.edges, len(histogram.counts)
    # By the number of the bin: matplotlib's own axes end with the year 9999 and 64 bits.
    axes.bar(range(n_bins), histogram.counts, width=1, align="edge", color=colour)
    is_each = isinstance(edges[0], int) and edges[-1] - edges[0] == n_bins  # a bar for an integer
    shown = sorted({0, (n_bins - is_each) // 2, n_bins - is_each})
    labels = [_edge(edges[number], edges[-1], edges[0]) for number in shown]
    axes.set_xticks([number + is_each / 2 for number in shown], labels, parse_math=False)
    axes.locator_params(axis="y", nbins=4)


def _edge(edge: Any, last: Any, first: Any) -> str:
    if isinstance(edge, dt.datetime):
        text = edge.isoformat(sep=" ")
        return text[11:19] if first.date() == last.date() else text[:10]
    if isinstance(edge, float) or (isinstance(edge, int) and abs(edge) >= _LONG):
        return f"{edge:.4g}"
    return f"{edge:,}" if isinstance(edge, int) else str(edge)


def _bars(column: ColumnSummary, axes: Any) -> None:
    names = [shortened(printable(str(value)), _LABEL) for value, _ in column.frequent]
    places = range(len(names))
    axes.barh(places, [count for _, count in column.frequent], color=_COLUMN)
    axes.set_yticks(places, names, parse_math=False)
    axes.invert_yaxis()


def _words(column: ColumnSummary, axes: Any) -> None:
    if not column.count:
        _nothing(axes, "no values")
        return
    distinct = "many" if column.distinct is None else f"{column.distinct:,}"
    lines = [f"{distinct} distinct values"]
    if column.lengths is not None:
        lines.append(f"length {column.lengths.least:,} to {column.lengths.greatest:,}")
    _nothing(axes, "\n".join(lines))


def _nothing(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def _totals(fields: list[FieldSummary], axes: Any) -> None:
    places = range(len(fields))
    raw = [0 if field.raw is None else field.raw.total for field in fields]
    stored = [0 if field.stored is None else field.stored.total for field in fields]
    axes.barh(places, raw, color=_PALE)
    axes.barh(places, stored, color=_FIELD, height=0.5)
    axes.set_yticks(
        places, [shortened(printable(f.name), _LABEL) for f in fields], parse_math=False
    )
    axes.invert_yaxis()
    axes.set_xticks([0, max(raw)], ["0", about(max(raw))])
