"""What is measured, in which unit, and how a figure is written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One figure of a system.

    Attributes
    ----------
    key
        In the JSON file. What stands before the first dot is the group that is run together.
    heading
        In the tables.
    title, unit
        Over the panel of the chart.
    rate
        Whether more is better.
    """

    key: str
    heading: str
    title: str
    unit: str
    rate: bool = False


_FIRST = "µs per record, the first time"
_SCAN = "Scan, every byte summed"
MEASURES = (
    Measure("write", "write MB/s", "Write and sync", "MB/s", rate=True),
    Measure("disk", "disk MB", "On disk", "MB"),
    Measure("open.ms", "open ms", "Open", "ms, in a fresh process"),
    Measure("open.mb", "private MB", "Private memory after open", "MB, in a fresh process"),
    Measure("filter", "filter + read 1 % ms", "Open, filter, read 1 %", "ms, in a fresh process"),
    Measure("metadata.first", "metadata first ms", "Metadata to Arrow", "ms, the first time"),
    Measure("metadata.again", "again ms", "Metadata to Arrow", "ms, after the first time"),
    Measure("single.first", "one record first µs", "One random record", "µs, the first time"),
    Measure("single.again", "again µs", "One random record", "µs"),
    Measure("single.summed", "one record µs", "One random record, summed", "µs"),
    Measure("batch.first", "256 copied, first µs", "Random batch of 256, copied", _FIRST),
    Measure("batch.again", "again µs", "Random batch of 256, copied", "µs per record"),
    Measure(
        "batch.summed", "256 copied µs", "Random batch of 256, copied, summed", "µs per record"
    ),
    Measure("views.first", "256 views, first µs", "Random batch of 256, views", _FIRST),
    Measure("views.again", "again µs", "Random batch of 256, views", "µs per record"),
    Measure("views.summed", "256 views µs", "Random batch of 256, views, summed", "µs per record"),
    Measure("scan.first", "scan first MB/s", _SCAN, "MB/s, the first time", rate=True),
    Measure("scan.again", "again MB/s", _SCAN, "MB/s", rate=True),
)
"""Every measure, in the order of the tables."""

BY_KEY = {measure.key: measure for measure in MEASURES}


def figure(value: float) -> str:
    """Return a number with three digits that count, or a few more."""
    if abs(value) < 0.0005:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return (
        f"{value:.1f}" if value >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
    )


def cell(values: Sequence[float]) -> str:
    """Return the median of all rounds and, in brackets, the lowest and the highest."""
    if not values:
        return "-"
    middle = figure(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({figure(min(values))} - {figure(max(values))})"
