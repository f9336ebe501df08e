"""The figures as a picture: a panel per measure, a bar per system, the best at the top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.reading.measures import BY_KEY, figure
from benchmarks.reading.results import Group, Results, Row

PANELS = (
    "write",
    "open.ms",
    "open.mb",
    "filter",
    "metadata.again",
    "scan.again",
    "single.again",
    "batch.again",
    "views.again",
)
"""What is shown, row by row, three in a row."""

_ACROSS = 3
_OURS, _OTHER_OURS, _LIMIT, _PEER = "#d1495b", "#eaa3ac", "#4f6d7a", "#c3ccd2"
_INK, _GREY, _FAINT = "#22303a", "#71808a", "#e3e7ea"
_LIMITS = ("bare", "arrow_file")  # what cannot be beaten: nothing is checked, nothing can change
_SHOWN = {
    "": ("sqlstore", "uncompressed", "always"),
    "filter": ("sqlstore", "uncompressed", "indexed"),
}
"""How the names of those of our rows end that are in a panel."""
_BAR_INCHES, _PANEL_INCHES = 0.205, 0.8
_SMALLEST = 1e-3


def draw(results: Results, folder: Path) -> dict[str, Path]:
    """Write a picture per data set and return them by title.

    The first is ``reading.png``; the others have the size of their records in their names.
    """
    drawn = {}
    for number, group in enumerate(results.groups):
        path = folder / (f"reading-{group.size}.png" if number else "reading.png")
        _draw(group, path)
        drawn[group.title] = path
    return drawn


def _draw(group: Group, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = {key: rows for key in PANELS if (rows := _ranked(group.rows, key))}
    tall = math.ceil(len(panels) / _ACROSS)
    most = max(map(len, panels.values()))
    height = tall * (most * _BAR_INCHES + _PANEL_INCHES) + 1.1
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 8, "text.color": _INK}):
        made, axes = plt.subplots(tall, _ACROSS, figsize=(16, height), squeeze=False)
        flat = list(axes.flat)
        for axis, (key, rows) in zip(flat, panels.items(), strict=False):
            _panel(axis, key, rows, most)
        for axis in flat[len(panels) :]:
            axis.set_visible(False)
        _heading(made, group, height)
        made.tight_layout(rect=(0, 0, 1, 1 - 0.85 / height), h_pad=2.2, w_pad=2.2)
        made.savefig(path, dpi=110, facecolor="white")
        plt.close(made)


def _ranked(rows: Sequence[Row], key: str) -> list[tuple[Row, float]]:
    """Return the rows that have a figure, the best first."""
    ours = _SHOWN.get(key, _SHOWN[""])
    shown = [row for row in rows if not row.is_ours or row.name.endswith(ours)]
    found = [(row, value) for row in shown if (value := row.median(key)) is not None]
    return sorted(found, key=lambda one: one[1], reverse=BY_KEY[key].rate)


def _panel(axis: Any, key: str, rows: Sequence[tuple[Row, float]], most: int) -> None:
    values = [max(value, _SMALLEST) for _, value in rows]
    places = range(len(rows))
    low, high = _bounds(values)
    colours = [_colour(row) for row, _ in rows]
    axis.barh(places, [value - low for value in values], 0.74, left=low, color=colours)
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    # All panels have room for as many bars, so that bars are equally thick everywhere.
    axis.set_ylim(most - 0.4, -0.6)
    axis.set_yticks(places, [_short(row.name) for row, _ in rows])
    for label, (row, _) in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_color(_OURS if row.is_ours else _INK)
        label.set_fontweight("bold" if row.is_ours else "normal")
    for place, value in zip(places, values, strict=True):
        axis.annotate(
            figure(value), (value, place), (3, 0), textcoords="offset points", va="center", size=7
        )
    measure = BY_KEY[key]
    below = f"{measure.unit} \N{MIDDLE DOT} {'more' if measure.rate else 'less'} is better"
    axis.set_title(measure.title, loc="left", size=11, weight="bold", pad=17)
    axis.annotate(
        below,
        (0, 1),
        (0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        size=8,
        color=_GREY,
    )
    _quiet(axis)


def _quiet(axis: Any) -> None:
    """Take away what is not data."""
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="both", which="both", length=0)
    axis.tick_params(axis="x", labelsize=6.5, labelcolor=_GREY)
    axis.xaxis.grid(visible=True, which="major", color=_FAINT, linewidth=0.8)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.xaxis.set_minor_formatter(lambda *_: "")
    axis.set_axisbelow(True)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return where the axis begins and ends: whole powers of ten, and room for the labels."""
    low = 10 ** math.floor(math.log10(min(values) / 1.5))
    high = max(max(values), 10 * low)
    return low, high * (high / low) ** 0.14


def _colour(row: Row) -> str:
    if row.is_ours:
        return _OURS if row.name == "sqlstore" else _OTHER_OURS
    return _LIMIT if row.module in _LIMITS else _PEER


def _short(name: str) -> str:
    return name.replace(" + Parquet", "").replace("sqlstore, uncompressed, ", "sqlstore, ")


def _heading(made: Any, group: Group, height: float) -> None:
    from matplotlib.patches import Patch

    top = 1 - 0.2 / height
    text = f"Reading {group.title} records"
    made.text(0.008, top, text, size=16, weight="bold", va="top")
    below = (
        "Medians of interleaved rounds, page cache warm, logarithmic scales. "
        "Systems that keep no metadata have a Parquet file beside them."
    )
    made.text(0.008, top - 0.36 / height, below, size=9, color=_GREY, va="top")
    kinds = {
        "sqlstore as it comes": _OURS,
        "sqlstore, otherwise": _OTHER_OURS,
        "the limit: no checks, no changes": _LIMIT,
        "peers": _PEER,
    }
    patches = [Patch(color=colour, label=label) for label, colour in kinds.items()]
    made.legend(
        handles=patches,
        loc="upper right",
        bbox_to_anchor=(0.995, top + 0.05 / height),
        ncols=len(patches),
        frameon=False,
        fontsize=9,
        handlelength=1,
    )
