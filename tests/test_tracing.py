"""The tracer of the suites: what it sees, refuses, cuts short and kills."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracing import Call, Fail, Kill, Shorten, Template, Trace, at, since, unavailable

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable())


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with Template([__name__]) as template:
        yield template


def write_and_move(folder: Path) -> int:
    """Do a bit of everything, relative to a folder where that is possible."""
    os.chdir(folder)
    Path("sub").mkdir()
    descriptor = os.open("sub/a", os.O_RDWR | os.O_CREAT)
    written = os.write(descriptor, b"owl")
    written += os.pwritev(descriptor, [b"kes", b"", b"trel"], 3)
    os.fsync(descriptor)
    os.ftruncate(descriptor, 4)
    os.close(descriptor)
    os.rename("sub/a", "b")  # noqa: PTH104 (the call itself is what is traced)
    Path("b").unlink()
    Path("sub").rmdir()
    return written


def names_of(trace: Trace, folder: Path) -> list[tuple[str, str, int | None]]:
    return [
        (call.name, os.path.relpath(call.path, folder), call.result)
        for call in trace.calls
        if call.name != "openat"
    ]


def test_calls_are_seen_with_what_they_write(template: Template, tmp_path: Path) -> None:
    trace = template.trace(write_and_move, tmp_path, root=tmp_path)
    assert (trace.exit_code, trace.result, trace.error) == (0, 10, "")
    calls = {call.name.removesuffix("at").removesuffix("2"): call for call in trace.calls}
    assert (calls["write"].data, calls["write"].offset) == (b"owl", 0)
    assert (calls["pwritev"].data, calls["pwritev"].offset) == (b"kestrel", 3)
    assert calls["ftruncate"].size == 4
    assert calls["rename"].path == str(tmp_path / "sub/a")
    assert calls["rename"].new == str(tmp_path / "b")
    assert calls["unlink"].path == str(tmp_path / "b")
    assert calls["mkdir"].path == calls["rmdir"].path == str(tmp_path / "sub")
    assert [call.number for call in trace.calls] == list(range(len(trace.calls)))


def write_at_ends(folder: Path) -> None:
    (folder / "a").write_bytes(b"1234")
    with (folder / "a").open("ab", buffering=0) as file:
        file.write(b"5")
    with (folder / "a").open("r+b", buffering=0) as file:
        file.seek(2)
        file.write(b"3")


def test_it_is_known_where_a_write_begins(template: Template, tmp_path: Path) -> None:
    trace = template.trace(write_at_ends, tmp_path, root=tmp_path, names=["write"])
    assert [call.offset for call in trace.calls] == [0, 4, 2]


def test_calls_elsewhere_are_not_seen(template: Template, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "inside").mkdir()
    trace = template.trace(write_and_move, tmp_path / "inside", root=tmp_path / "in")
    assert (trace.calls, trace.exit_code) == ([], 0)


def test_a_process_is_killed_before_or_after_a_call(template: Template, tmp_path: Path) -> None:
    for after in (False, True):
        folder = tmp_path / f"{after}"
        folder.mkdir()
        trace = template.trace(write_and_move, folder, root=folder, decide=at(2, Kill(after=after)))
        assert trace.exit_code == -signal.SIGKILL
        assert (folder / "sub/a").read_bytes() == (b"owl" if after else b"")


def test_every_call_can_be_the_last(template: Template, tmp_path: Path) -> None:
    whole = template.trace(write_and_move, tmp_path, root=tmp_path)
    for number in range(len(whole.calls)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        trace = template.trace(write_and_move, folder, root=folder, decide=at(number, Kill()))
        assert trace.exit_code == -signal.SIGKILL
        assert names_of(trace, folder) == names_of(whole, tmp_path)[: len(names_of(trace, folder))]
        assert len(trace.calls) == number


def test_a_call_fails_and_does_not_happen(template: Template, tmp_path: Path) -> None:
    decide = at(2, Fail(errno.ENOSPC))
    trace = template.trace(write_and_move, tmp_path, root=tmp_path, decide=decide)
    assert trace.exit_code == 1
    assert "OSError: [Errno 28]" in trace.error
    assert trace.calls[2].result == -errno.ENOSPC
    assert (tmp_path / "sub/a").read_bytes() == b""


def try_to_sync(folder: Path) -> list[int]:
    results = []
    with (folder / "a").open("wb") as file:
        for _ in range(4):
            try:
                os.fsync(file.fileno())
                results.append(0)
            except OSError as error:
                results.append(error.errno or -1)
    return results


def test_all_calls_from_one_on_fail(template: Template, tmp_path: Path) -> None:
    decide = since(2, Fail(errno.EIO))
    trace = template.trace(
        try_to_sync, tmp_path, root=tmp_path, names=["openat", "fsync"], decide=decide
    )
    assert trace.result == [0, errno.EIO, errno.EIO, errno.EIO]


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_a_write_is_cut_short(template: Template, tmp_path: Path, count: int) -> None:
    trace = template.trace(
        write_and_move, tmp_path, root=tmp_path, names=["pwritev", "pwritev2"],
        decide=at(0, Shorten(count)),
    )  # fmt: skip
    assert trace.calls[0].data == b"kestrel"[:count]
    assert trace.calls[0].result == count
    assert trace.result == 3 + count


def write_in_others(folder: Path) -> None:
    thread = threading.Thread(target=(folder / "thread").write_bytes, args=(b"1",))
    thread.start()
    thread.join()
    program = "import sys; open(sys.argv[1], 'wb').write(b'2')"
    subprocess.run([sys.executable, "-c", program, str(folder / "child")], check=True)


def test_threads_and_children_are_followed(template: Template, tmp_path: Path) -> None:
    trace = template.trace(write_in_others, tmp_path, root=tmp_path, names=["write"])
    assert names_of(trace, tmp_path) == [("write", "thread", 1), ("write", "child", 1)]
    assert len({call.thread for call in trace.calls}) == 2


def test_children_die_with_the_process(template: Template, tmp_path: Path) -> None:
    decide = at(1, Kill())
    trace = template.trace(write_in_others, tmp_path, root=tmp_path, names=["write"], decide=decide)
    assert trace.exit_code == -signal.SIGKILL
    assert (tmp_path / "child").read_bytes() == b""


def divide(call: Call) -> None:
    raise ZeroDivisionError(call.name)


def test_what_the_decision_raises_ends_the_process(tmp_path: Path) -> None:
    with Template([__name__]) as template, pytest.raises(ZeroDivisionError):
        template.trace(write_and_move, tmp_path, root=tmp_path, decide=divide)
    assert not (tmp_path / "sub").exists()


def test_what_a_function_raises_is_told(template: Template, tmp_path: Path) -> None:
    trace = template.trace(os.rmdir, tmp_path / "none", root=tmp_path)
    assert trace.exit_code == 1
    assert "FileNotFoundError" in trace.error
    assert [call.result for call in trace.calls] == [-errno.ENOENT]
