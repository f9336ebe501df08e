"""What is merged: some records of a store, and what a merge has done with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sqlstore.schema import Column, Field, Schema
from sqlstore.source import Source
from sqlstore.text import counted
from sqlstore.types import Ids

OnDuplicate: TypeAlias = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class Part:
    """Some records of a store, to be merged in this order.

    Attributes
    ----------
    source
        Where they are read.
    ids
        Which they are.
    fields, columns
        What is taken of them, by name.
    name
        What errors call it.
    is_ours
        Whether the source was opened for this, so that nobody else reads from it.
    """

    source: Source
    ids: range | Ids
    fields: Mapping[str, Field]
    columns: Mapping[str, Column]
    name: str
    is_ours: bool = False

    def fields_of(self, schema: Schema) -> list[Field | None]:
        """Return which of its fields each field of a schema is, None for one that it lacks."""
        return [self.fields.get(name) for name in schema.fields]

    def columns_of(self, schema: Schema) -> list[Column | None]:
        """Return which of its columns each column of a schema is, None for one that it lacks."""
        return [self.columns.get(name) for name in schema.columns]


@dataclass(frozen=True, slots=True)
class Choices:
    """What `merge` describes: how stores are merged."""

    add_missing: bool
    on_duplicate: OnDuplicate
    in_parts: bool

    def __post_init__(self) -> None:
        if self.on_duplicate not in ("raise", "skip"):
            raise ValueError(f'on_duplicate is "raise" or "skip", not {self.on_duplicate!r}')


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """What a merge has appended; printed, it says how many records.

    Attributes
    ----------
    ids
        The ids that the records have in the target (int64), in the order of the sources and, within
        each, of its ids or of the view.
    counts
        How many records each source has given, in the order of the sources.
    skipped
        How many were left out because their keys were there already.
    """

    ids: Ids
    counts: tuple[int, ...]
    skipped: int

    def __str__(self) -> str:
        """Return it in words."""
        skipped = f", {self.skipped:,} skipped" if self.skipped else ""
        return f"{counted(len(self.ids), 'record')} appended{skipped}"
