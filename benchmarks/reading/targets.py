"""The aims that we set ourselves: our time as a multiple of a peer's, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measure import formatted
from benchmarks.reading.measures import BY_KEY, figure
from benchmarks.reading.results import OURS, Group, Row


@dataclass(frozen=True)
class Aim:
    """What our time shall be at most, as a multiple of another's.

    Attributes
    ----------
    text
        What is compared with what.
    measure
        Ours.
    peer
        The module of the other system.
    peer_measures
        Theirs: the best of these; ours if none is given.
    most
        The multiple that we aim at, or None where there is no aim and the figure is of interest.
    large
        Whether this is about the data set of large records.
    only
        What the name of our row must contain, where not all rows can mean it.
    row
        The name of their row, where the module has several and one is meant.
    """

    text: str
    measure: str
    peer: str
    most: float | None
    peer_measures: tuple[str, ...] = ()
    large: bool = False
    only: str = ""
    row: str = ""


_OTHER_IO = ("pread", "memory")
_BATCHES = ("views.again", "batch.again")
_HUGGING_FACE = "HuggingFace datasets"  # by its own interface, not the Arrow table under it
_FILTER = "open, filter and read 1 %"
AIMS = (
    Aim("one record, LMDB `get`", "single.again", "lmdb_system", 1.0),
    Aim("one record, granular", "single.again", "granular_system", 0.25),
    Aim("one record, first time, LMDB `get`", "single.first", "lmdb_system", None),
    Aim("views of 256, LMDB's copies", "views.again", "lmdb_system", 0.2, ("batch.again",)),
    Aim("views of 256, LMDB's views", "views.again", "lmdb_system", None),
    Aim(
        "views of 256, Hugging Face's best",
        "views.again",
        "huggingface",
        0.3,
        _BATCHES,
        row=_HUGGING_FACE,
    ),
    Aim("views of 256, the Arrow table in it", "views.again", "huggingface", None, _BATCHES),
    Aim("views of 256, bare views", "views.again", "bare", 2.0),
    Aim("256 copied, Arrow `take`", "batch.again", "arrow_file", 1.5),
    Aim("one record, summed, bare", "single.summed", "bare", 1.2, large=True),
    Aim("256 copied, summed, bare", "batch.summed", "bare", 1.2, large=True),
    Aim("views of 256, summed, bare", "views.summed", "bare", 1.2, large=True),
    Aim("scan, summed, bare", "scan.again", "bare", 1.2, large=True),
    Aim("scan, summed, first time, bare", "scan.first", "bare", None, large=True),
    *(
        Aim(f"{_FILTER}, {name}", "filter", module, 1.0, large=large, row=row)
        for large in (False, True)
        for name, module, row in (
            ("Lance", "lance", ""),
            ("LMDB + Parquet", "lmdb_system", ""),
            ("Hugging Face", "huggingface", _HUGGING_FACE),
            ("granular + Parquet", "granular_system", ""),
        )
    ),
    Aim(f"{_FILTER}, the table in Hugging Face's", "filter", "huggingface", None),
    Aim(f"{_FILTER}, Arrow file", "filter", "arrow_file", 2.0, only="indexed"),
    Aim("metadata to Arrow, Parquet", "metadata.again", "parquet_table", 0.5),
    Aim("metadata to Arrow, first time, Parquet", "metadata.first", "parquet_table", None),
)


def table(groups: Sequence[Group]) -> str:
    """Return all aims with what every way to use sqlstore reached, as Markdown."""
    ours = [row for group in groups for row in group.of(OURS) if not row.name.endswith(_OTHER_IO)]
    checks = {row.name: row.checks for row in ours}
    lines = []
    for aim in AIMS:
        if aim.large and len(groups) < 2:
            continue
        group = groups[1] if aim.large else groups[0]
        most = "-" if aim.most is None else f"{aim.most:g}"
        reached = {row.name: ratio(aim, row, group.of(aim.peer)) for row in group.of(OURS)}
        if any(value is not None for value in reached.values()):
            text = f"{group.title}: {aim.text}"
            cells = [_cell(reached.get(name), aim.most, checks[name]) for name in checks]
            lines.append([text, most, *cells])
    short = [name.replace("sqlstore, ", "") for name in checks]
    return formatted(["our time / theirs", "aim", *short], lines)


def ratio(aim: Aim, ours: Row, peers: Sequence[Row]) -> float | None:
    """Return how many times as long we take, or None where one of both has no such figure."""
    if aim.only not in ours.name:
        return None
    rate = BY_KEY[aim.measure].rate
    best = max if rate else min
    keys = aim.peer_measures or (aim.measure,)
    meant = [row for row in peers if aim.row in ("", row.name)]
    theirs = [m for row in meant for key in keys if (m := row.median(key)) is not None]
    mine = ours.median(aim.measure)
    if mine is None or not theirs:
        return None
    return best(theirs) / mine if rate else mine / best(theirs)


def _cell(value: float | None, most: float | None, checks: str) -> str:
    if value is None:
        return "-"
    text = figure(value)
    # The aims are for checksums that are verified once, which is the default.
    return f"**{text}**" if most is not None and value > most and "once" in checks else text
