"""Every system must give the same answers before it is timed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.data import NAMES, Dataset
from benchmarks.reading.protocol import Bodied, Body, System, Viewed
from benchmarks.reading.sums import each

BELOW = 104  # about one in a hundred: widths are uniform from 64 to 4095
_SAMPLED = 200


def check(system: type[System], folder: Path, data: Dataset) -> None:
    """Compare what a system gives with what was written: every body and every metadata value.

    Raises
    ------
    ValueError
        Something differs.
    """
    opened = system(folder)
    try:
        _check_metadata(system, opened.metadata(), data.table.select(NAMES[1:]))
        for what, found, expected in _answers(opened, data):
            _compare(f"{system.name}: {what}", found, expected)
    finally:
        opened.close()


def _answers(
    opened: System, data: Dataset
) -> Iterable[tuple[str, Iterable[Body], Iterable[bytes]]]:
    records = np.random.default_rng(0).integers(0, len(data), _SAMPLED)
    records[:3] = len(data) - 1, 0, 0  # the ends, and one that comes twice in a row
    wanted = [data.rows[record][0] for record in records.tolist()]
    if isinstance(opened, Viewed):
        yield "views", each(opened.views(records)), wanted
    if isinstance(opened, Bodied):
        yield "one record", map(opened.get, records.tolist()), wanted
        yield "batch", each(opened.batch(records)), wanted
        matching = [row[0] for row in data.rows if row[2] < BELOW]
        yield "filter", each(opened.matching(BELOW)), matching
        scanned = itertools.chain.from_iterable(map(each, opened.scan()))
        yield "scan", scanned, (row[0] for row in data.rows)


def _compare(what: str, found: Iterable[Body], expected: Iterable[bytes]) -> None:
    for number, (one, other) in enumerate(itertools.zip_longest(found, expected)):
        if one is None or other is None:
            raise ValueError(f"{what}: there are too {'few' if one is None else 'many'} bodies")
        if bytes(one) != other:
            raise ValueError(f"{what}: body {number} is not what was written")


def _check_metadata(system: type[System], found: pa.Table, expected: pa.Table) -> None:
    for name in NAMES[1:]:
        if found[name].type != expected[name].type:
            raise ValueError(f"{system.name}: {name} is {found[name].type}")
        if not found[name].equals(expected[name]):
            raise ValueError(f"{system.name}: {name} is not what was written")
