"""What an export has written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export has written.

    Attributes
    ----------
    records
        How many records.
    files
        How many files they are in now; of a new store, its chunk files.
    n_bytes
        The size of these files together.
    """

    records: int
    files: int
    n_bytes: int
