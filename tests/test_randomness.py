"""Random keys and orders: the same for ever, and random enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sqlstore.randomness import random_keys, random_order
from tests.model import keys_of, shuffled

# What must never change: it was written down once, from the algorithm and not from this library.
SPLITMIX = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
"""The published first outputs of SplitMix64 that starts at 1234567."""


def test_keys_are_the_outputs_of_splitmix64() -> None:
    keys = random_keys(1234567, np.arange(5))

    assert keys.dtype == np.uint64
    assert keys.tolist() == SPLITMIX
    assert random_keys(1234567, np.array([4, 0, 4])).tolist() == [SPLITMIX[i] for i in (4, 0, 4)]


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_keys_are_those_of_a_plain_program(seed: int) -> None:
    values = [0, 1, 2, 1000, 2**40, 2**63 - 1, -1, -(2**63)]

    assert random_keys(seed, np.array(values)).tolist() == keys_of(seed, values)
    assert random_keys(np.uint64(seed), np.array(values)).tolist() == keys_of(seed, values)


def test_an_order_never_changes() -> None:
    assert random_order(0, 12).tolist() == [2, 4, 6, 8, 5, 10, 1, 11, 7, 0, 9, 3]
    assert random_order(42, 12).tolist() == [4, 1, 10, 6, 2, 8, 3, 11, 9, 0, 7, 5]
    assert random_order(2**64 - 1, 12).tolist() == [9, 10, 2, 7, 3, 4, 8, 11, 5, 0, 1, 6]


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 70_000])
def test_an_order_has_every_position_once_and_may_be_cut_short(count: int) -> None:
    for seed in (0, 1, 2**64 - 1):
        order = random_order(seed, count)
        assert order.dtype == np.int64
        assert order.tolist() == shuffled(range(count), seed)
        for first in {0, min(1, count), count // 3, count}:
            assert random_order(seed, count, first).tolist() == order[:first].tolist()


def test_the_order_of_what_was_there_does_not_change_when_more_is_added() -> None:
    longer = random_order(7, 1000)
    assert longer[longer < 900].tolist() == random_order(7, 900).tolist()


def test_every_position_is_equally_often_first_and_seeds_have_nothing_in_common() -> None:
    count, seeds = 16, 8000
    orders = np.array([random_order(seed, count) for seed in range(seeds)])
    expected = seeds / count

    for place in range(count):  # at each place every position; chi square of 15 degrees, p > 1e-6
        seen = np.bincount(orders[:, place], minlength=count)
        assert ((seen - expected) ** 2 / expected).sum() < 55
    for step in (1, 2, 3):  # and neither does the seed before tell what comes first
        pairs = np.bincount(orders[step:, 0] * count + orders[:-step, 0], minlength=count * count)
        expected_pairs = (seeds - step) / count**2
        assert ((pairs - expected_pairs) ** 2 / expected_pairs).sum() < 380  # 255 degrees, as above


@pytest.mark.parametrize("seed", [-1, 2**64, 10**30])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(ValueError, match=r"from 0 to 2\*\*64 - 1"):
        random_keys(seed, np.arange(3))


@pytest.mark.parametrize("seed", [None, 1.0, "1", True, np.True_])
def test_a_seed_is_an_integer(seed: Any) -> None:
    with pytest.raises(TypeError, match="a seed is an integer"):
        random_keys(seed, np.arange(3))
