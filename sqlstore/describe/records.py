"""What is in some records."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from sqlstore.describe import columns as of_column
from sqlstore.describe import fields as of_field
from sqlstore.describe.description import Description
from sqlstore.schema import Column, Field
from sqlstore.source import Source
from sqlstore.types import Ids


def described(
    source: Source, ids: range | Ids, fields: Sequence[Field], columns: Sequence[Column]
) -> Description:
    """Return what is in columns and fields of some records; see `Tables.describe`."""
    found = {}
    for column in columns:  # one by one, as one may take much memory
        (arrays,) = source.metadata(ids, [column])
        values = pa.chunked_array(arrays, column.kind.arrow)
        found[column.name] = of_column.summary(column, values)
    sizes = {field.name: of_field.summary(source, ids, field) for field in fields}
    return Description(len(ids), found, sizes)
