"""All hostile stores, in the order in which they are tried."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Final

from tests.hostile import folders, indexes, schemas, tables, values
from tests.hostile.case import CASES

__all__ = ["CASES", "chosen"]

_GROUPS: Final = (folders, values, tables, schemas, indexes)  # imported for what they declare
_FEW: Final = 110


def chosen() -> Sequence[str]:
    """Return names of cases: ``SQLSTORE_CASES`` of them, as ``SQLSTORE_SEED`` draws them."""
    count = min(int(os.environ.get("SQLSTORE_CASES", _FEW)), len(CASES))
    drawn = random.Random(int(os.environ.get("SQLSTORE_SEED", 0))).sample(list(CASES), count)
    return sorted(drawn, key=list(CASES).index)
