"""Some damage of every kind; `python -m tests.fuzz` tries all of it."""

from __future__ import annotations

import dataclasses
import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from sqlstore.maintenance.report import Report
from tests.fuzz import check, run, small
from tests.fuzz.cases import KINDS

SEED: Final = int(os.environ.get("SQLSTORE_SEED", str(random.SystemRandom().getrandbits(32))))
OF_EACH: Final = 2


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz") / "store"
    small.make(root)
    return root


def test_damage_of_every_kind_gives_the_right_bytes_or_an_error(
    template: Path, tmp_path: Path
) -> None:
    by_kind: dict[str, list[str]] = {}
    for case in run.all_cases(template, 2000, SEED):
        by_kind.setdefault(":".join(case.split(":")[:2]), []).append(case)
    assert {kind.partition(":")[2] for kind in by_kind} == set(KINDS)
    choice = random.Random(SEED)
    chosen = [
        case for each in by_kind.values() for case in choice.sample(each, min(OF_EACH, len(each)))
    ]
    seen = run.run(template, tmp_path, chosen, processes=1)
    assert sum(seen.values()) == len(chosen)
    assert not [what for what in seen if what[1] == "violation"], f"SQLSTORE_SEED={SEED}"


def test_wrong_bytes_are_a_violation(template: Path, tmp_path: Path) -> None:
    bench = check.Bench(template, tmp_path / "work")
    assert bench.run("index:gone") == "open"
    right = bench._expected
    bench._expected = dataclasses.replace(right, raws={**right.raws, (0, "blob"): b"other"})
    with pytest.raises(check.ViolationError, match="wrong bytes"):
        bench.run("index:longer:1:0")


def test_a_misled_filter_that_verify_does_not_find_is_a_violation(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = check.Bench(template, tmp_path / "work")
    condition, ids = next(iter(bench._expected.found.items()))
    bench._expected.found[condition] = ids[:-1]
    monkeypatch.setattr(check, "verify", lambda _: Report())
    with pytest.raises(check.ViolationError, match="misled"):
        bench.run("index:longer:1:0")


def die(connection: Connection, template: Path, folder: Path) -> None:
    connection.recv()
    os.abort()


def hang(connection: Connection, template: Path, folder: Path) -> None:
    connection.recv()
    connection.send(("nothing", ""))
    connection.recv()
    time.sleep(600)


def test_a_dead_interpreter_is_a_violation(template: Path, tmp_path: Path) -> None:
    worker = run.Worker(template, tmp_path / "work", die)
    assert worker.run("index:gone", 60) == ("violation", "the interpreter died")


def test_a_hang_is_a_violation_and_the_next_case_is_run(template: Path, tmp_path: Path) -> None:
    worker = run.Worker(template, tmp_path / "work", hang)
    for _ in range(2):
        assert worker.run("index:gone", 60) == ("nothing", "")
        what, violation = worker.run("index:gone", 0.1)
        assert (what, violation[:8]) == ("violation", "not done")
    worker.end()
