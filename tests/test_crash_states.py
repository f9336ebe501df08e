"""A small run of `tests.crash_states`, and of what it is made of."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash_states.__main__ import main
from tests.crash_states.cases import by_chance, hash_of, listed, parsed, text_of
from tests.crash_states.disk import Choice, Disk, File, Image, UnknownCallError, Write
from tests.crash_states.mutants import MUTANTS
from tests.crash_states.recording import Recording, record, template_modules
from tests.crash_states.suite import Checker, caught_after, scratch_folder, search
from tests.crash_states.workloads import WORKLOADS
from tests.tracing import Call, Template, unavailable

traced = pytest.mark.skipif(bool(unavailable()), reason=unavailable())

IMAGES = 60
WORKLOADS_RUN = 6  # others each time
FOUND_SOON = ["trailer not synced", "index: synchronous FULL", "nothing rolled forward"]


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with Template(template_modules()) as template:
        yield template


@pytest.fixture
def seed() -> int:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")  # shown when the test fails
    return seed


@pytest.fixture(scope="module")
def appended(template: Template, scratch: Path) -> Recording:
    return record(template, "append", scratch / "recording")


@traced
def test_no_power_failure_loses_or_invents_anything(
    template: Template, scratch: Path, seed: int
) -> None:
    names = random.Random(seed).sample(list(WORKLOADS), WORKLOADS_RUN)
    recordings = [record(template, name, scratch / "recording") for name in names]
    states = {recording.name: recording.states for recording in recordings}
    with Checker(states, scratch) as checker:
        outcome = search(recordings, checker, seed, IMAGES)
    assert not outcome.violations, "\n".join(map(str, outcome.violations))
    assert len(outcome.digests) == IMAGES
    assert all(outcome.images[name] > 5 for name in names)


@traced
@pytest.mark.parametrize("mutant", FOUND_SOON)
def test_a_bug_in_the_protocol_is_found(
    template: Template, scratch: Path, seed: int, mutant: str
) -> None:
    broken = record(template, MUTANTS[mutant].workload, scratch / "recording", mutant)
    with Checker({broken.name: broken.states}, scratch) as checker:
        assert caught_after(broken, mutant, checker, seed, most=400) is not None


@traced
def test_a_case_is_run_again_by_its_text(
    appended: Recording, seed: int, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    call = 30
    case = by_chance(call, appended.moments[call].disk, random.Random(seed))
    assert parsed(text_of(case)) == case
    arguments = ["--workload", "append", "--case", text_of(case), "--keep", str(tmp_path / "kept")]
    monkeypatch.setattr(sys, "argv", ["crash", *arguments])
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["XDG_CACHE_HOME"])
    assert main() == 0
    assert "nothing is wrong with it" in capsys.readouterr().out
    kept = {str(path.relative_to(tmp_path / "kept")) for path in (tmp_path / "kept").rglob("*")}
    assert "store/chunks" in kept


# The disk


def call(name: str, path: str, **more: object) -> Call:
    given: dict[str, object] = {
        "number": 0, "new": "", "data": b"", "offset": None, "size": 0, "flags": 0, "result": 0,
        "thread": 1, **more,
    }  # fmt: skip
    return Call(name=name, path=f"/d/{path}" if path else "/d", **given)  # type: ignore[arg-type]


def disk_after(*calls: Call) -> Disk:
    disk = Disk()
    for one in calls:
        disk.apply(one, "/d")
    return disk


def images_of(disk: Disk) -> set[tuple[tuple[str, bytes | None], ...]]:
    return {tuple(disk.image(case).items()) for case in listed(1, disk)}


CREATED = call("openat", "a", flags=os.O_CREAT, result=3)


def written(data: bytes, offset: int) -> Call:
    return call("pwrite64", "a", data=data, offset=offset, result=len(data))


def test_a_file_without_a_synced_name_may_be_gone() -> None:
    disk = disk_after(CREATED, written(b"1", 0), call("fsync", "a"))
    assert images_of(disk) == {(), (("a", b"1"),)}
    named = disk_after(CREATED, call("fsync", ""), written(b"1", 0), call("fdatasync", "a"))
    assert images_of(named) == {(("a", b"1"),)}


def test_bytes_that_were_not_synced_may_be_there_in_any_order() -> None:
    disk = disk_after(CREATED, call("fsync", ""), written(b"12", 0), written(b"3", 2))
    contents = {dict(image)["a"] for image in images_of(disk)}
    assert contents == {b"", b"12", b"123", b"\0\0\0", b"12\0", b"\0\x003"}


def test_a_write_may_be_torn() -> None:
    disk = disk_after(CREATED, call("fsync", ""), written(b"x" * 1100, 0))
    lengths = {len(dict(image)["a"] or b"") for image in images_of(disk)}
    assert lengths == {0, 1, 512, 550, 1024, 1099, 1100}


def test_names_in_one_folder_change_in_order() -> None:
    moved = call("rename", "a", new="/d/b")
    disk = disk_after(CREATED, call("fsync", ""), moved, call("unlink", "b"))
    assert images_of(disk) == {(("a", b""),), (("b", b""),), ()}


def test_a_call_that_failed_changes_nothing() -> None:
    disk = disk_after(CREATED, call("fsync", ""), call("unlink", "a", result=-5))
    assert images_of(disk) == {(("a", b""),)}


def test_a_call_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnknownCallError, match="fallocate"):
        disk_after(CREATED, call("fallocate", "a"))
    with pytest.raises(UnknownCallError, match="mmap"):
        disk_after(CREATED, call("mmap", "a", flags=3))


def test_a_choice_keeps_some_writes() -> None:
    file = File(b"....", (Write(0, b"ab"), Write(6, b"cd"), Write(3, None), Write(1, b"z")))
    assert file.content() == b"azb"[:1] + b"z."
    assert file.content(Choice((1,))) == b"....\0\0cd"
    assert file.content(Choice((0, 1), cut=1)) == b"ab..\0\0c"
    assert file.content(Choice((0,), grown=True)) == b"ab.."


def test_images_are_the_same_only_if_names_kinds_and_bytes_are() -> None:
    images: list[Image] = [{"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": None}, {"a": b""}, {}]
    assert len({hash_of(image) for image in images}) == len(images)
