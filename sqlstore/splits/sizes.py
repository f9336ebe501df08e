"""How many records each split gets: ratios or counts as people give them, made whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Real
from typing import Final, SupportsIndex, TypeAlias

from sqlstore.errors import SplitError

Sizes: TypeAlias = "Mapping[str, float | SupportsIndex | None]"
"""Split names with ratios or counts; one may be None, which is the rest."""

_ROUNDING: Final = Fraction(1, 10**6)


def exact_sizes(sizes: Sizes, count: int) -> list[int]:
    """Return how many of ``count`` records each split is to have.

    Raises
    ------
    SplitError
        These are no ratios that sum to 1, nor counts that sum to ``count``.
    """
    given = _checked(sizes)
    if not _are_counts(sizes):
        return largest_remainder(count, _ratios(given))
    counts = _with_rest(given, count)
    if sum(counts) != count or min(counts) < 0:
        raise SplitError(
            f"the counts {shown(sizes)} are not the {count} records of this view; give one of them "
            "as None for the rest, or write ratios as 1.0 and 0.0"
        )
    return [int(one) for one in counts]


def exact_ratios(sizes: Sizes) -> list[Fraction]:
    """Return ratios.

    Raises
    ------
    SplitError
        These are no ratios that sum to 1.
    """
    given = _checked(sizes)
    if _are_counts(sizes):
        raise SplitError(
            f"{shown(sizes)} are counts, which no split by key can keep; give ratios such as 0.9"
        )
    return _ratios(given)


def largest_remainder(total: int, weights: Sequence[Fraction | int]) -> list[int]:
    """Return whole numbers in proportion to weights, of this sum, each exact to within one.

    What is left after rounding down goes to those that lost most by it, the first of equal ones.
    """
    whole = sum(weights)
    quotas = [Fraction(total) * weight / whole for weight in weights]
    found = [int(quota) for quota in quotas]
    losses = sorted(range(len(found)), key=lambda i: found[i] - quotas[i])
    for i in losses[: total - sum(found)]:
        found[i] += 1
    return found


def shown(sizes: Sizes) -> str:
    """Return sizes as text for the message of an error."""
    return "{" + ", ".join(f"{name!r}: {size}" for name, size in sizes.items()) + "}"


def _checked(sizes: Sizes) -> list[Fraction | None]:
    if not isinstance(sizes, Mapping):
        raise TypeError(f'splits are a mapping such as {{"train": 0.9, "val": 0.1}}, not {sizes!r}')
    if not sizes:
        raise SplitError("there are no splits; name one at least")
    if list(sizes.values()).count(None) > 1:
        raise SplitError(f"two splits of {shown(sizes)} are the rest; only one may be None")
    return [_exact(name, size) for name, size in sizes.items()]


def _exact(name: object, size: object) -> Fraction | None:
    """Return the number that is written: 0.1 is a tenth."""
    if not isinstance(name, str):
        raise TypeError(f"a split has a name, not {name!r}")
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, Real):
        raise TypeError(f"the split {name!r} has a ratio or a count, not {size!r}")
    try:
        exact = Fraction(int(size)) if isinstance(size, Integral) else Fraction(repr(float(size)))
    except ValueError:  # infinite, or not a number
        exact = Fraction(-1)
    if exact < 0:
        raise SplitError(f"the split {name!r} cannot have the size {size!r}")
    return exact


def _are_counts(sizes: Sizes) -> bool:
    numbers = [size for size in sizes.values() if size is not None]
    return bool(numbers) and all(isinstance(size, Integral) for size in numbers)


def _ratios(given: list[Fraction | None]) -> list[Fraction]:
    found = _with_rest(given, 1)
    if abs(_sum(found) - 1) > _ROUNDING or min(found) < 0:
        raise SplitError(
            f"the ratios sum to {float(_sum(given)):.9g}, not to "
            "1; give one of them as None for the rest"
        )
    return found


def _with_rest(given: list[Fraction | None], total: int) -> list[Fraction]:
    rest = total - _sum(given)
    return [rest if one is None else one for one in given]


def _sum(given: Sequence[Fraction | None]) -> Fraction:
    return sum((one for one in given if one is not None), Fraction())
