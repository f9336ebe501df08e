"""The benchmark beside an earlier commit: which library runs, what is written, and the interval."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import since
from benchmarks.since import Workload

ROOT = Path(__file__).resolve().parents[1]


SMALL = Workload("rows", 20, 100, 7)


def test_what_was_written_is_removed(tmp_path: Path) -> None:
    found = since.once(tmp_path, [SMALL, SMALL])
    assert Path(found.library).parents[1] == ROOT
    assert len(found.seconds) == 2
    assert min(found.seconds) > 0
    assert not list(tmp_path.iterdir())


def test_the_earlier_library_is_the_one_that_runs(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("there is no history here")
    since.unpack("HEAD", tmp_path)
    (seconds,) = since.in_new_process(tmp_path, tmp_path, [SMALL])
    assert seconds > 0


def test_another_library_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="was measured, which is not in"):
        since.in_new_process(tmp_path, tmp_path, [SMALL])


@pytest.mark.parametrize(
    ("n_values", "left_out"),
    # From tables of the binomial distribution: how many values at each end lie outside.
    [(6, 0), (8, 0), (9, 1), (15, 3), (25, 7), (31, 9)],
)
def test_an_interval_leaves_out_as_many_values_as_it_may(n_values: int, left_out: int) -> None:
    values = list(range(n_values))
    assert since.interval(values[::-1]) == (left_out, n_values - 1 - left_out)


def test_too_few_values_give_no_interval() -> None:
    with pytest.raises(ValueError, match="6 values, not 5"):
        since.interval(range(5))


def test_ratios_are_taken_within_rounds() -> None:
    rounds = [{"before": [2.0 * n], "now": [1.0 * n]} for n in range(1, 8)]
    title, before, now, ratio, interval = since.line(SMALL, rounds, 0)
    assert title == SMALL.title
    assert (before, now, ratio, interval) == ("2", "5", "2.00", "2.00 - 2.00")
