"""Some of the faults of `make faults`, and that it would find what it looks for."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import sqlstore
from tests.faults import check, workloads
from tests.faults.cases import Case, all_of
from tests.faults.check import MODULES, Bench, Met
from tests.faults.workloads import WORKLOADS
from tests.processes import append
from tests.tracing import Call, Template, Trace, unavailable

COUNT = int(os.environ.get("SQLSTORE_CASES", "1"))
needs_tracing = pytest.mark.skipif(bool(unavailable()), reason=unavailable())


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with Template(MODULES) as template:
        yield template


@needs_tracing
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_program_that_is_disturbed(template: Template, tmp_path: Path, name: str) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")  # shown when the test fails
    bench = Bench(tmp_path, template)
    cases = list(all_of(name, *bench.calls(name)))
    kills = [case for case in cases if case.is_kill]
    errors = [case for case in cases if case.errno is not None]
    others = [case for case in cases if not case.is_kill and case.errno is None]
    chance = random.Random(seed)
    found = [
        bench.run(case)
        for case in (
            *chance.sample(kills, COUNT),
            *chance.sample(errors, COUNT),
            *chance.sample(others, COUNT),
        )
    ]
    assert "killed" in found


def met(*chain: BaseException, left_open: tuple[str, ...] = ()) -> Trace:
    numbers = tuple(getattr(error, "errno", None) for error in chain)
    return Trace([], 0, Met(tuple(map(type, chain)), "", numbers, left_open), "")


def full() -> tuple[BaseException, ...]:
    cause = OSError(errno.ENOSPC, "")
    return sqlstore.StoreFullError("full"), cause


ALL = len(WORKLOADS["append"].states) - 1
CASE = Case("append", "ENOSPC", 7)


def call(name: str, result: int, path: str = "x.chunk") -> Call:
    return Call(0, name, path, "", b"", None, 0, 0, result, 0)


def test_a_program_that_says_what_it_has_met_is_right() -> None:
    check.check_met(CASE, met(*full()), 2)
    check.check_met(CASE, met(), ALL)


@pytest.mark.parametrize(
    ("trace", "done", "message"),
    [
        (Trace([], 1, None, "Traceback"), 0, "no error of sqlstore"),
        (met(*full(), left_open=("writer.lock",)), 0, "left open"),
        (met(), ALL - 1, "says nothing"),
        (met(sqlstore.SchemaError("?")), 0, "is none of"),
        (met(sqlstore.StorageError("?"), OSError(errno.EIO, "")), 0, "is not in"),
    ],
)
def test_a_program_that_says_something_else_is_found(trace: Trace, done: int, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check.check_met(CASE, trace, done)


def test_a_sync_that_fails_in_silence_or_is_made_again_is_found() -> None:
    failed, again = call("fsync", -errno.EIO), call("fdatasync", 0)
    silent = Trace([failed], 0, met().result, "")
    with pytest.raises(AssertionError, match="says nothing of"):
        check.check_met(CASE, silent, ALL)
    told = met(*full()).result
    with pytest.raises(AssertionError, match="once more"):
        check.check_met(CASE, Trace([failed, again], 0, told, ""), 1)
    cut = call("ftruncate", 0)
    check.check_met(CASE, Trace([failed, cut, again], 0, told, ""), 1)


def test_a_store_that_lost_or_invented_something_is_found(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "store"
    path.parent.mkdir()
    workloads.prepare(path, (1, 0))
    workload = WORKLOADS["append"]
    with pytest.raises(AssertionError, match="after 2 it has"):
        check.check_store(workload, path, 2, may_go_on=False)
    with pytest.raises(AssertionError, match="after 0 it has"):
        check.check_store(workload, path, 0, may_go_on=False)
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    check.check_store(workload, copy, 0, may_go_on=True)
    append(path, (1, 7))
    with pytest.raises(AssertionError, match="after 1 it has"):
        check.check_store(workload, path, 1, may_go_on=True)
