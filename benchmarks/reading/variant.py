"""Rows of the tables that are not whole systems: another way to read what was written already."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.reading.protocol import System


class Variant(System):
    """A system that takes part in some measures only, or reads what another one wrote.

    Attributes
    ----------
    written_by
        The system whose folder it reads, or None if it writes its own.
    measures
        The groups of measures that it takes part in, or None for all.
    """

    written_by: ClassVar[type[System] | None] = None
    measures: ClassVar[frozenset[str] | None] = None


def writer_of(system: type[System]) -> type[System]:
    """Return the system that writes what this one reads."""
    if issubclass(system, Variant) and system.written_by is not None:
        return system.written_by
    return system


def takes_part(system: type[System], group: str) -> bool:
    """Return whether a system has a figure in a group of measures."""
    if group == "write" and writer_of(system) is not system:
        return False
    chosen = system.measures if issubclass(system, Variant) else None
    return chosen is None or group in chosen
