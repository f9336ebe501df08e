"""What `describe` finds in a column and in a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Histogram:
    """How values are distributed.

    Attributes
    ----------
    edges
        Where the bins begin, and where the last one ends, which is the only one to hold its end.
    counts
        How many values are in each bin.
    """

    edges: Sequence[Any]
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Some numbers, such as sizes in bytes: their sum, the least, the mean and the greatest."""

    total: int
    least: int
    mean: float
    greatest: int


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """What is in a metadata column.

    Attributes
    ----------
    name, type
        As declared.
    count, missing
        How many records have a value, and how many have none.
    nan
        How many of the values are NaN; they count nowhere else.
    distinct
        How many different values there are; None if they are too many to be counted.
    least, greatest, mean, std, quantiles
        Of numbers; of times all but ``std``. Quantiles by their fractions, between two values in
        proportion. None and empty elsewhere.
    frequent
        The most frequent texts and truth values with their counts; empty if no text is there twice.
    lengths
        Of text, in characters, and of bytes; None elsewhere.
    histogram
        Of finite numbers, and of times; None elsewhere.
    """

    name: str
    type: str
    count: int
    missing: int
    nan: int = 0
    distinct: int | None = None
    least: Any = None
    greatest: Any = None
    mean: Any = None
    std: float | None = None
    quantiles: Mapping[float, Any] | None = None
    frequent: Sequence[tuple[Any, int]] = ()
    lengths: Sizes | None = None
    histogram: Histogram | None = None


@dataclass(frozen=True, slots=True)
class FieldSummary:
    """What is in a field.

    Attributes
    ----------
    name, encoding, compression
        As declared.
    count, missing
        How many records have a value, and how many have none.
    stored, raw
        Bytes of a value as it lies in the chunks, and decompressed; None if there is no value.
    ratio
        Raw bytes for each stored one; None if there are none.
    items
        Items of a sequence; None for other fields.
    histogram
        Of the raw bytes of values.
    """

    name: str
    encoding: str
    compression: str | None
    count: int
    missing: int
    stored: Sizes | None = None
    raw: Sizes | None = None
    ratio: float | None = None
    items: Sizes | None = None
    histogram: Histogram | None = None
