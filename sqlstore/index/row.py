"""Rows of the index that are what their classes declare."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from sqlstore.errors import CorruptIndexError

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "str": (str,),
    "str | None": (str, type(None)),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is what its class declares: a damaged page may hold anything."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, _KINDS[str(field.type)]):
                raise CorruptIndexError(
                    f"index.sqlite has {value!r:.100} as {field.name} in {type(self).__name__}; "
                    "run `sqlstore rebuild`"
                )
