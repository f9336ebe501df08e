"""What is in a metadata column."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sqlstore.columns.base import is_text
from sqlstore.describe.summaries import ColumnSummary, Histogram, Sizes
from sqlstore.schema import Column

_EPOCH: Final = dt.date(1970, 1, 1)
_DAY: Final = 24 * 3600 * 1_000_000
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS: Final = 30
_FAR: Final = 1e308
"""Two floats that are further from 0 together may have an infinite difference."""
_FREQUENT: Final = 10
_COUNTED: Final = 1 << 20
"""Of columns longer than this, values are only counted if half of the first so many are repeats."""


def summary(column: Column, values: pa.ChunkedArray) -> ColumnSummary:
    """Return what is in a column, from its values."""
    kind, missing = values.type, values.null_count
    here = values.drop_null() if missing else values
    found = {"name": column.name, "type": str(column.type), "missing": missing, "count": len(here)}
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return ColumnSummary(**found, **_of_numbers(_numpy(here)))
    if pa.types.is_temporal(kind):
        return ColumnSummary(**found, **_of_times(here))
    return ColumnSummary(**found, **_of_others(here))


def _numpy(values: pa.ChunkedArray) -> NDArray[Any]:
    """Return integers as int64, which all of them fit, and floats as float64."""
    wide = pa.float64() if pa.types.is_floating(values.type) else pa.int64()
    array: NDArray[Any] = values.cast(wide).to_numpy()
    return array


def _of_numbers(values: NDArray[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if values.dtype.kind == "f":
        is_nan = np.isnan(values)
        found["nan"] = int(np.count_nonzero(is_nan))
        values = values[~is_nan]
    ordered = np.sort(values)
    found["distinct"] = _distinct(ordered)
    if not len(ordered):
        return found
    with np.errstate(invalid="ignore", over="ignore"):  # infinities have no mean
        found["mean"] = float(ordered.mean())
        found["std"] = float(ordered.std(ddof=1)) if len(ordered) > 1 else None
    return found | {
        "least": ordered[0].item(),
        "greatest": ordered[-1].item(),
        "quantiles": {q: _between(*_quantile(ordered, q)) for q in QUANTILES},
        "histogram": _histogram(ordered),
    }


def _of_times(values: pa.ChunkedArray) -> dict[str, Any]:
    days = pa.types.is_date(values.type)
    ordered = np.sort(_numpy(values.cast(pa.int32()) if days else values.cast(pa.int64())))
    if not len(ordered):
        return {"distinct": 0}
    first, last = int(ordered[0]), int(ordered[-1])
    around = [_quantile(ordered, q) for q in QUANTILES]
    quantiles = [before + int((behind - before) * part) for before, behind, part in around]
    # Dates end with the year 9999, which no zone may pass.
    end = (dt.date.max - _EPOCH).days * (1 if days else _DAY)
    edges = [min(edge, max(last, end)) for edge in _steps(first, last)]
    mean = first + int((ordered - first).mean())
    plain = pa.array([first, last, mean, *quantiles, *edges], pa.int32() if days else pa.int64())
    least, greatest, middle, *others = plain.cast(values.type).to_pylist()
    return {
        "distinct": _distinct(ordered),
        "least": least,
        "greatest": greatest,
        "mean": middle,
        "quantiles": dict(zip(QUANTILES, others, strict=False)),
        "histogram": Histogram(others[len(QUANTILES) :], _counts(ordered, edges)),
    }


def _of_others(values: pa.ChunkedArray) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if pa.types.is_binary(values.type):
        found["lengths"] = sizes(_lengths(pc.binary_length(values)))
    elif is_text(values.type):
        found["lengths"] = sizes(_lengths(pc.utf8_length(values)))
    head = values.slice(0, _COUNTED)
    if len(values) > _COUNTED and pc.count_distinct(head).as_py() > _COUNTED // 2:
        return found
    counted = pc.value_counts(values)
    counts = counted.field(1).to_numpy()
    found["distinct"] = len(counts)
    if not pa.types.is_binary(values.type) and len(counts) and counts.max() > 1:
        most = np.argsort(-counts, kind="stable")[:_FREQUENT]
        texts = counted.field(0).take(pa.array(most)).to_pylist()
        found["frequent"] = list(zip(texts, counts[most].tolist(), strict=True))
    return found


def _lengths(lengths: pa.ChunkedArray) -> NDArray[np.int64]:
    array: NDArray[np.int64] = lengths.cast(pa.int64()).to_numpy()
    return array


def sizes(values: NDArray[Any]) -> Sizes | None:
    """Return the sum, the least, the mean and the greatest of integers; None if there are none."""
    if not len(values):
        return None
    total = int(values.sum(dtype=np.int64))
    return Sizes(total, int(values.min()), total / len(values), int(values.max()))


def _distinct(ordered: NDArray[Any]) -> int:
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + bool(len(ordered))


def _quantile(ordered: NDArray[Any], fraction: float) -> tuple[Any, Any, float]:
    """Return the values that a quantile lies between, and how far it is from one to the other."""
    place = fraction * (len(ordered) - 1)
    low = int(place)
    return ordered[low].item(), ordered[min(low + 1, len(ordered) - 1)].item(), place - low


def _between(before: float, behind: float, part: float) -> float:
    if before == behind or not part:  # there may be infinities, which have no difference
        return float(before)
    if abs(before) + abs(behind) > _FAR:
        return before * (1 - part) + behind * part
    return before + (behind - before) * part


def histogram(values: NDArray[Any]) -> Histogram | None:
    """Return how numbers are distributed; None if there are none."""
    return _histogram(np.sort(values))


def _histogram(ordered: NDArray[Any]) -> Histogram | None:
    edges: list[Any]
    if ordered.dtype.kind == "f":
        ordered = ordered[np.isfinite(ordered)]
    if not len(ordered):
        return None
    first, last = ordered[0].item(), ordered[-1].item()
    if ordered.dtype.kind != "f":
        edges = _steps(first, last)
    elif first == last:
        edges = [first, last]
    else:  # not by the difference, which may be infinite
        parts = np.linspace(0, 1, BINS + 1)
        edges = np.unique(first * (1 - parts) + last * parts).tolist()
    return Histogram(edges, _counts(ordered, edges))


def _steps(first: int, last: int) -> list[int]:
    """Return integers at the same distance, from the first to behind the last."""
    step = -(-(last - first + 1) // BINS)
    return list(range(first, last + 1 + step, step))


def _counts(ordered: NDArray[Any], edges: list[Any]) -> list[int]:
    inner = np.searchsorted(ordered, np.array(edges[1:-1], ordered.dtype), side="left")
    counts: list[int] = np.diff(inner, prepend=0, append=len(ordered)).tolist()
    return counts
