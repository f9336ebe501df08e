"""All hostile stores, in the order in which they are tried."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Final

from tests.hostile import (
    checkpoints,
    compactions,
    folders,
    indexes,
    pieces,
    schemas,
    sources,
    tables,
    values,
)
from tests.hostile.case import CASES

__all__ = ["CASES", "chosen"]

_GROUPS: Final = (
    folders, values, tables, compactions, checkpoints, pieces, schemas, sources, indexes,
)  # fmt: skip
"""Imported for what they declare."""
_FEW: Final = 30
_ALWAYS: Final = (
    "chunk name: 300 characters",
    "checkpoint state: 1099511627775 commits that never were",
    "checkpoint part: a column twice",
    "checkpoint part: appends records",
    "checkpoint part: records without a key",
    "checkpoint commits: 2**63 - 1 records",
    "checkpoint chunks: number 4 billion",
    "checkpoint chunks: a live one that is retired",
    "checkpoint snapshots: in the year 292,277",
    "checkpoint subset: one name twice",
    "checkpoint dictionary: one number twice",
    "checkpoint: appends records",
    "adopt: a link to a chunk of somebody else",
    "merge keys: none",
    "merge keys: one of 10 MB twice",
)
"""Those that have done harm once."""


def chosen() -> Sequence[str]:
    """Return names of cases: ``SQLSTORE_CASES`` of them, as ``SQLSTORE_SEED`` draws them.

    Those that have done harm once are always among them.
    """
    count = min(int(os.environ.get("SQLSTORE_CASES", _FEW)), len(CASES))
    drawn = random.Random(int(os.environ.get("SQLSTORE_SEED", 0))).sample(list(CASES), count)
    return sorted({*drawn, *_ALWAYS}, key=list(CASES).index)
