"""Interleaved rounds for systems of which some need a thousand times as long as others."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from benchmarks.reading.results import Row

Run: TypeAlias = Callable[[int], dict[str, float]]
"""Measures a system once and returns its figures; told the number of the round."""


def interleave(
    what: str, rows: Mapping[str, Row], runs: Mapping[str, Run], rounds: int, patience: float
) -> None:
    """Run all systems in turn, again and again, and add the figures to their rows.

    As in `benchmarks.measure.interleaved`, a round that does not count comes first, and each round
    begins with another system. But a system that has taken a long time is not run again: if that
    was its warm-up already, then the warm-up counts.

    Parameters
    ----------
    patience
        The seconds after which a system is not run again.
    """
    names = list(runs)
    spent = dict.fromkeys(names, 0.0)
    for number in range(rounds + 1):
        shift = number % max(1, len(names))
        for name in names[shift:] + names[:shift]:
            if spent[name] > patience:
                continue
            _say(f"{what}, round {number} of {rounds}: {name}")
            gc.collect()
            start = time.perf_counter()
            figures = runs[name](number)
            spent[name] += time.perf_counter() - start
            if number or spent[name] > patience:
                rows[name].add(figures)
    _say("")


def _say(text: str) -> None:
    """Show what goes on, on one line, where somebody may be looking."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
