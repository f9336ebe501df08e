"""The loop that follows a process and its threads and children from call to call."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.tracing import ptrace
from tests.tracing.actions import Action, Decide, Fail, Kill, Shorten
from tests.tracing.calls import SHAPES, Call, Shape, read_call

_MARKED: Final = signal.SIGTRAP | 0x80  # the stop is one for a system call
_RESTARTS: Final = range(-516, -511)  # what the kernel returns inside, to make the call again


class Tracer:
    """Follows one process, which leads a process group of its own.

    Parameters
    ----------
    process
        Its id. It waits for something that is sent when this object is made.
    root
        Only calls that name something in this folder are seen.
    names
        Only calls with these names are seen.
    decide
        Asked about each of them before it happens.

    Attributes
    ----------
    calls
        What happened so far, in the order in which it ended.
    """

    def __init__(
        self, process: int, root: Path, names: Collection[str], decide: Decide | None
    ) -> None:
        self.calls: list[Call] = []
        self._process = process
        self._root = os.fspath(root)
        self._watched: dict[int, Shape] = {
            ptrace.NUMBERS[name]: SHAPES[name] for name in names if name in ptrace.NUMBERS
        }
        self._decide = decide
        self._number = 0
        self._under_way: dict[int, tuple[Call, Action | None]] = {}
        for task in Path(f"/proc/{process}/task").iterdir():
            ptrace.ptrace(ptrace.SEIZE, int(task.name), None, ptrace.OPTIONS)
            ptrace.ptrace(ptrace.INTERRUPT, int(task.name), None, None)
            os.waitpid(int(task.name), ptrace.ALL)
            self._go_on(int(task.name), 0)

    def run(self) -> int:
        """Follow the process until it and all that it started are gone.

        Returns
        -------
        int
            Its exit code; the negative number of a signal that ended it.
        """
        try:
            return self._follow()
        except BaseException:  # of `decide`, say: nobody would let the process go on
            self._decide = None
            self._kill()
            self._follow()
            raise

    def _follow(self) -> int:
        outcome = 0
        while True:
            try:
                thread, status = os.waitpid(-self._process, ptrace.ALL)
            except ChildProcessError:
                return outcome
            if not os.WIFSTOPPED(status):
                self._under_way.pop(thread, None)
                if thread == self._process:
                    outcome = os.waitstatus_to_exitcode(status)
                continue
            with contextlib.suppress(ProcessLookupError):  # killed meanwhile: the next wait tells
                self._stopped(thread, status)

    def _stopped(self, thread: int, status: int) -> None:
        number = os.WSTOPSIG(status)
        if number == _MARKED:
            self._at_call(thread)
            number = 0
        elif status >> 16:  # a thread or child that is new, a program that is replaced
            number = 0
        self._go_on(thread, number)

    def _go_on(self, thread: int, number: int) -> None:
        ptrace.ptrace(ptrace.SYSCALL, thread, None, number)

    def _at_call(self, thread: int) -> None:
        stop = ptrace.Stop(thread)
        if stop.op == ptrace.ENTRY:
            shape = self._watched.get(stop.number())
            if shape is not None:
                self._before(thread, shape, stop.arguments())
        elif thread in self._under_way:
            self._after(thread, stop.result())

    def _before(self, thread: int, shape: Shape, arguments: list[int]) -> None:
        call = read_call(shape, self._number, thread, arguments)
        if call is None or not (self._sees(call.path) or self._sees(call.new)):
            return
        self._number += 1
        action = None if self._decide is None else self._decide(call)
        if isinstance(action, Shorten):
            call = self._shorten(call, shape, arguments, action.count)
        self._under_way[thread] = call, action
        if isinstance(action, Kill) and not action.after:
            del self._under_way[thread]
            ptrace.skip(thread)
            self._kill()
        elif isinstance(action, Fail):
            ptrace.skip(thread)

    def _sees(self, path: str) -> bool:
        return path == self._root or path.startswith(f"{self._root}/")

    def _shorten(self, call: Call, shape: Shape, arguments: list[int], count: int) -> Call:
        """Let a call be made for fewer bytes; of a vector, whole buffers and part of the last."""
        count = min(count, call.size)
        if shape.data is not None:
            ptrace.set_argument(call.thread, shape.data + 1, count)
        elif shape.vector is not None:
            buffers = arguments[shape.vector + 1]
            _shorten_vector(call.thread, arguments[shape.vector], buffers, count)
        else:
            raise ptrace.TracingError(f"{call.name} reads and writes nothing")
        return replace(call, data=call.data[:count], size=count)

    def _after(self, thread: int, result: int) -> None:
        call, action = self._under_way.pop(thread)
        if isinstance(action, Fail):
            result = -action.errno
            ptrace.set_result(thread, result)
        if result not in _RESTARTS:
            self.calls.append(call.returned(result))
        if isinstance(action, Kill):
            self._kill()

    def _kill(self) -> None:
        os.killpg(self._process, signal.SIGKILL)


def _shorten_vector(thread: int, address: int, buffers: int, count: int) -> None:
    """Cut the buffers of a vector where they are described: in the memory of a stopped thread."""
    with open(f"/proc/{thread}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
        for entry in range(address, address + 16 * buffers, 16):
            length = int.from_bytes(os.pread(memory.fileno(), 8, entry + 8), "little")
            os.pwrite(memory.fileno(), min(count, length).to_bytes(8, "little"), entry + 8)
            count -= min(count, length)
