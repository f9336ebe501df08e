"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.measure import formatted
from benchmarks.reading import targets
from benchmarks.reading.measures import BY_KEY, cell
from benchmarks.reading.results import Group, Results

TABLES = {
    "writing, opening, choosing": (
        "write",
        "disk",
        "open.ms",
        "open.mb",
        "filter",
        "metadata.first",
        "metadata.again",
    ),
    "reading": (
        "single.first",
        "single.again",
        "batch.first",
        "batch.again",
        "views.first",
        "views.again",
    ),
    "reading, every byte summed": (
        "single.summed",
        "batch.summed",
        "views.summed",
        "scan.first",
        "scan.again",
    ),
}
"""What stands in which table of a data set."""

_KEY = """\
Medians of all rounds, and in brackets the lowest and the highest. Random reads, batches and scans
of all systems happen in one process, in turn; opening, filtering and metadata in a new process
each time, in which everything is imported before the clock starts. The page cache is warm. *First*
is the first time since the system was opened, where a checksum that is verified once is paid and
mapped pages are touched for the first time; *again* is every time after. Filtering includes
opening, and what it reads is summed; so are the buffers of the metadata.

MB are 10^6 bytes; of bodies, where it is a rate. On disk is what the file system has set aside,
with the metadata and after reading. Private memory is how much opening adds to what no other
process shares. Times of batches are per record."""

_AIMS = """\
Our time divided by theirs, medians of the same run; for rates, theirs divided by ours. Below 1 we
are faster; bold is where an aim was missed."""


def pieces(results: Results) -> Iterator[str]:
    """Return the report in paragraphs."""
    yield "; ".join(f"{name} {value}" for name, value in results.machine.items()) + "."
    yield "; ".join(results.notes) + "."
    yield how(results.groups)
    yield _KEY
    for group in results.groups:
        yield from (f"Failed: {failure}" for failure in dict.fromkeys(group.failures))
        for title, keys in TABLES.items():
            yield f"**{group.title}: {title}**"
            yield table(group, keys)
    yield _AIMS
    yield targets.table(results.groups)


def table(group: Group, keys: Sequence[str]) -> str:
    """Return the rows of a data set that have any of these figures."""
    present = [key for key in keys if any(key in row.figures for row in group.rows)]
    rows = [
        [row.name, row.checks, *(cell(row.figures.get(key, ())) for key in present)]
        for row in group.rows
        if any(key in row.figures for key in present)
    ]
    return formatted(["system", "checks", *(BY_KEY[key].heading for key in present)], rows)


def how(groups: Sequence[Group]) -> str:
    """Return what each system is, and how it is used."""
    lines = {row.name: row.how for group in groups for row in group.rows}
    rule = "| system | how it is used |\n| :-- | :-- |\n"
    return rule + "\n".join(f"| {name} | {text} |" for name, text in lines.items())
