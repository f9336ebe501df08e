"""The figures of a run as plain values, so that tables can be made again without measuring."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS = "ours"
"""The module of sqlstore itself."""


@dataclass
class Row:
    """A system and its figures: for every measure that it has, the values of all rounds."""

    name: str
    checks: str
    how: str
    module: str
    figures: dict[str, list[float]] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Return whether it is sqlstore itself."""
        return self.module == OURS

    def add(self, figures: dict[str, float]) -> None:
        """Take the figures of one more round."""
        for key, value in figures.items():
            self.figures.setdefault(key, []).append(value)

    def median(self, key: str) -> float | None:
        """Return the middle of all rounds, or None if the system has no such figure."""
        values = self.figures.get(key)
        return statistics.median(values) if values else None


@dataclass
class Group:
    """The rows of one data set, and what went wrong."""

    count: int
    size: int
    rows: list[Row]
    failures: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Return what is in the tables."""
        size = f"{self.size // 1024} KiB" if self.size % 1024 == 0 else f"{self.size} bytes"
        return f"{self.count:,} x {size}"

    def of(self, module: str) -> list[Row]:
        """Return the rows of the systems of one module; none if it did not take part."""
        return [row for row in self.rows if row.module == module]


@dataclass
class Results:
    """All that a run found out, and on which machine."""

    machine: dict[str, str | int]
    notes: list[str]
    groups: list[Group]

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(path: Path) -> Results:
    """Return what `Results.save` wrote."""
    plain = json.loads(path.read_text())
    groups = [
        Group(g["count"], g["size"], _rows(g["rows"]), g["failures"]) for g in plain["groups"]
    ]
    return Results(plain["machine"], plain["notes"], groups)


def _rows(plain: Iterable[dict[str, Any]]) -> list[Row]:
    return [Row(**one) for one in plain]
