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
    """

    name: ClassVar[str]
    checks: ClassVar[str] = "none"
    how: ClassVar[str]

    @classmethod
    @abstractmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        """Write all records with their five metadata columns into an empty folder, durably."""

    @abstractmethod
    def __init__(self, folder: Path) -> None:
        """Open what was written."""

    @abstractmethod
    def get(self, record: int) -> Body:
        """Return one body."""

    @abstractmethod
    def batch(self, records: NDArray[np.int64]) -> Bodies:
        """Return bodies in the order asked, as a training loop would fetch them: copied."""

    def views(self, records: NDArray[np.int64]) -> Bodies | None:  # noqa: ARG002 - of those that can
        """Return the same without copying a byte, or None if the system has no such way."""
        return None

    @abstractmethod
    def matching(self, below: int) -> Bodies:
        """Return the bodies of all records whose ``width`` is below a bound, in record order."""

    @abstractmethod
    def metadata(self) -> pa.Table:
        """Return label, width, score, taken and valid of all records, with the types written."""

    @abstractmethod
    def scan(self) -> Iterator[Bodies]:
        """Return all bodies in order, some at a time, in the fastest way there is."""

    @abstractmethod
    def close(self) -> None:
        """Let go of every file."""
