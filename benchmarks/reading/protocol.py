"""What every system is asked to do: each in the best way that its own documentation shows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import Dataset

Body: TypeAlias = bytes | bytearray | memoryview
Bodies: TypeAlias = "Sequence[Body] | pa.Array"
"""Bodies as a list of buffers, or as an Arrow binary array; whichever the system gives."""


class System(ABC):
    """A written data set, open for reading.

    Opening, which is timed, is constructing. Packages are imported when the module is, which is not
    timed. Records are numbered from 0 in the order in which they were written.

    Attributes
    ----------
    name
        As in the tables.
    checks
        What is checked of a body when it is read, for the tables: "none", "crc once", ...
    how
        One line that says how the system is used.
    written_by
        The system whose folder this one reads, or None if it writes its own.
    measures
        The groups of measures that it takes part in, or None for all that it has methods for.
    """

    name: ClassVar[str]
    checks: ClassVar[str] = "none"
    how: ClassVar[str]
    written_by: ClassVar[type[System] | None] = None
    measures: ClassVar[frozenset[str] | None] = None

    @classmethod
    @abstractmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        """Write all records with their five metadata columns into an empty folder, durably."""

    @abstractmethod
    def __init__(self, folder: Path) -> None:
        """Open what was written."""

    @abstractmethod
    def metadata(self) -> pa.Table:
        """Return label, width, score, taken and valid of all records, with the types written."""

    @abstractmethod
    def close(self) -> None:
        """Let go of every file."""


class Bodied(System):
    """A system that keeps bodies, not only metadata."""

    @abstractmethod
    def get(self, record: int) -> Body:
        """Return one body."""

    @abstractmethod
    def batch(self, records: NDArray[np.int64]) -> Bodies:
        """Return bodies in the order asked, as a training loop would fetch them: copied."""

    @abstractmethod
    def matching(self, below: int) -> Bodies:
        """Return the bodies of all records whose ``width`` is below a bound, in record order."""

    @abstractmethod
    def scan(self) -> Iterator[Bodies]:
        """Return all bodies in order, some at a time, in the fastest way there is."""


class Viewed(Bodied):
    """A system that can give bodies without copying a byte."""

    @abstractmethod
    def views(self, records: NDArray[np.int64]) -> Bodies:
        """Return the same as `batch`, as views."""


def bodied(opened: System) -> Bodied:
    """Return a system as one that keeps bodies.

    Raises
    ------
    TypeError
        It keeps none.
    """
    if not isinstance(opened, Bodied):
        raise TypeError(f"{opened.name} keeps no bodies")
    return opened


def writer_of(system: type[System]) -> type[System]:
    """Return the system that writes what this one reads."""
    return system.written_by or system


def takes_part(system: type[System], group: str) -> bool:
    """Return whether a system has a figure in a group of measures."""
    if group == "write" and system.written_by is not None:
        return False
    if not issubclass(system, _NEEDED.get(group, System)):
        return False
    return system.measures is None or group in system.measures


_NEEDED: dict[str, type] = {
    "single": Bodied,
    "batch": Bodied,
    "filter": Bodied,
    "scan": Bodied,
    "views": Viewed,
}
"""What a system must be to take part in a group of measures."""
