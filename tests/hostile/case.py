"""What a hostile store is: its name, how it is made, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")

Make: TypeAlias = Callable[[Path, Path], object]
"""Changes a plain store; the second path is a folder outside of it, with files to be harmed."""

HARMLESS: Final = ""
"""Instead of an error: everything is as in a plain store."""


@dataclass(frozen=True, slots=True)
class Case:
    """A hostile store.

    Attributes
    ----------
    name
        What it tries.
    make
        Makes it of a plain store.
    gets
        A regular expression for what one step at least must say, as in ``open: CorruptIndexError:
        index.sqlite is a link``; `HARMLESS` if every step must give what a plain store gives.
    """

    name: str
    make: Make
    gets: str


CASES: Final[dict[str, Case]] = {}


def hostile(name: str, gets: str) -> Callable[[Make], Make]:
    """Declare a function to be the maker of a case."""

    def declared(make: Make) -> Make:
        if name in CASES:
            raise ValueError(f"two cases are named {name!r}")
        CASES[name] = Case(name, make, gets)
        return make

    return declared


def hostile_each(
    group: str, variants: Mapping[str, tuple[T, str]], make: Callable[[T, Path, Path], object]
) -> None:
    """Declare a case for each variant: what the maker is given first, and what must come of it."""
    for what, (variant, gets) in variants.items():
        hostile(f"{group}: {what}", gets)(partial(make, variant))
