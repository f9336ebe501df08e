"""What is in a field, from where its values lie."""

from __future__ import annotations

from typing import Final

import numpy as np

from sqlstore.cache import locations
from sqlstore.describe.columns import histogram, sizes
from sqlstore.describe.summaries import FieldSummary
from sqlstore.schema import Field
from sqlstore.source import Source
from sqlstore.types import Ids

_AT_ONCE: Final = 1 << 18
_KEPT: Final = [locations.LENGTH, locations.RAW_LENGTH, locations.ITEMS]


def summary(source: Source, ids: range | Ids, field: Field) -> FieldSummary:
    """Return what is in a field of some records."""
    found = [np.empty((0, len(_KEPT)), np.uint32)]
    for start in range(0, len(ids), _AT_ONCE):
        rows = source.rows(ids[start : start + _AT_ONCE], field)
        found.append(rows[rows[:, locations.COMPRESSION] != locations.ABSENT][:, _KEPT])
    length, raw_length, items = np.concatenate(found).T
    stored, raw = sizes(length), sizes(raw_length)
    return FieldSummary(
        name=field.name,
        encoding=field.encoding,
        compression=field.compression,
        count=len(length),
        missing=len(ids) - len(length),
        stored=stored,
        raw=raw,
        ratio=raw.total / stored.total if raw and stored and stored.total else None,
        items=sizes(items) if field.is_sequence else None,
        histogram=histogram(raw_length),
    )
