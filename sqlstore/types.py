"""Aliases for types that many modules name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

StrPath: TypeAlias = str | os.PathLike[str]
Buffer: TypeAlias = bytes | bytearray | memoryview
Record: TypeAlias = Mapping[str, object]
"""What is written: field and metadata column names with their values."""

Ids: TypeAlias = NDArray[np.int64]
SqlValue: TypeAlias = int | float | str | bytes | None
"""What SQLite stores."""
