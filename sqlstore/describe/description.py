"""What `describe` finds, to be read by people and programs, and to be looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlstore.describe.picture import draw
from sqlstore.describe.summaries import ColumnSummary, FieldSummary
from sqlstore.describe.told import told
from sqlstore.text import plain
from sqlstore.types import StrPath


@dataclass(frozen=True, slots=True)
class Description:
    """What is in some records; as text for people by ``str()``.

    Attributes
    ----------
    records
        How many records.
    columns, fields
        What is in each, by name.
    """

    records: int
    columns: Mapping[str, ColumnSummary]
    fields: Mapping[str, FieldSummary]

    def __str__(self) -> str:
        return "\n".join(told(self.records, self.columns.values(), self.fields.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold: times as ISO 8601, bytes as hex, NaN as None."""
        document = asdict(self)
        for column in document["columns"].values():
            quantiles = column["quantiles"]
            column["quantiles"] = quantiles and {f"{q:g}": v for q, v in quantiles.items()}
        found: Any = json.loads(json.dumps(plain(document), allow_nan=False))
        return dict(found)

    def to_json(self) -> str:
        """Return the same as one JSON document."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def plot(self, path: StrPath) -> None:
        """Draw a picture: for every column its distribution, for every field its sizes.

        Parameters
        ----------
        path
            The file, whose suffix tells the format, such as ``.png`` or ``.svg``; one that is there
            is replaced.

        Raises
        ------
        MissingPackageError
            matplotlib is not installed.
        """
        draw(self.columns.values(), self.fields.values(), path)
