"""What may be done to a call instead of letting it happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tests.tracing.calls import Call


@dataclass(frozen=True)
class Kill:
    """SIGKILL for the process and its children, before the call happens or right after."""

    after: bool = False


@dataclass(frozen=True)
class Fail:
    """The call does not happen and returns this error."""

    errno: int


@dataclass(frozen=True)
class Shorten:
    """A read or write does no more than so many bytes."""

    count: int


Action: TypeAlias = Kill | Fail | Shorten

Decide: TypeAlias = Callable[[Call], Action | None]
"""Called before each call happens; None lets it happen."""


def at(number: int, action: Action) -> Decide:
    """Do something to the call with this number, counted from 0."""
    return lambda call: action if call.number == number else None


def since(number: int, action: Action) -> Decide:
    """Do something to the call with this number and all after it."""
    return lambda call: action if call.number >= number else None
