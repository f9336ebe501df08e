"""A process that has imported everything once, of which every traced process is a forked child.

So a trace costs the fork and its calls, not the start of Python.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.tracing import ptrace
from tests.tracing.actions import Decide
from tests.tracing.calls import WRITES, Call
from tests.tracing.tracer import Tracer


@dataclass(frozen=True)
class Trace:
    """What a traced process did.

    Attributes
    ----------
    calls
        What happened, in order; a call that a kill kept from returning is not among them.
    exit_code
        0, or the negative number of the signal that ended it, or 1 if the function raised.
    result
        What the function returned; None if it did not return.
    error
        The traceback of what it raised, else empty.
    """

    calls: list[Call]
    exit_code: int
    result: Any
    error: str


class Template:
    """Traces functions, each in a child forked from one process.

    Parameters
    ----------
    modules
        Imported before the first child is forked; nothing that these start may be a thread.
    environment
        Added to that of this process.
    """

    def __init__(
        self, modules: Sequence[str] = (), environment: dict[str, str] | None = None
    ) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.tracing", str(theirs.fileno()), *modules],
                pass_fds=[theirs.fileno()],
                env=os.environ | (environment or {}),
                cwd=Path(__file__).parents[2],
            )

    def trace(
        self,
        function: Callable[..., object],
        *arguments: object,
        root: Path,
        names: Collection[str] = WRITES,
        decide: Decide | None = None,
    ) -> Trace:
        """Run a function in a new child and follow it until it ends.

        Parameters
        ----------
        function
            Of a module that can be imported by its name; what it returns must be small.
        arguments
            Its arguments, which are pickled.
        root
            Only calls that name something in this folder are seen.
        names
            Only calls with these names are seen.
        decide
            Asked about each of them before it happens.
        """
        self._connection.send((function, arguments))
        process = self._receive()
        tracer = Tracer(process, root, names, decide)
        self._connection.send("go")
        exit_code = tracer.run()
        result, error = None, ""
        while (message := self._receive()) is not None:
            result, error = message
        return Trace(tracer.calls, exit_code, result, error)

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise ptrace.TracingError("the process that children are forked from is gone") from None

    def close(self) -> None:
        self._connection.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@cache
def unavailable() -> str:
    """Return why nothing can be traced here; empty if it can."""
    if sys.platform != "linux" or not ptrace.NUMBERS:
        return "ptrace is known here on Linux only, on x86-64 and 64-bit ARM"
    try:
        with tempfile.TemporaryDirectory() as folder, Template() as template:
            seen = template.trace(os.mkdir, f"{folder}/made", root=Path(folder))
    except (OSError, ptrace.TracingError) as error:
        return f"ptrace is not allowed here: {error}"
    return "" if len(seen.calls) == 1 else f"ptrace does not see what it should: {seen}"


def serve(connection: Connection, modules: Sequence[str]) -> None:
    """Fork a child for every function that is sent, one after the other."""
    for module in modules:
        importlib.import_module(module)
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            _be_traced(connection, function, arguments)
        os.waitpid(child, 0)
        connection.send(None)


def _be_traced(
    connection: Connection, function: Callable[..., object], arguments: Sequence[object]
) -> None:
    """Run a function in this process, once somebody follows it, and end."""
    os.setpgid(0, 0)
    connection.send(os.getpid())
    code = 1
    try:
        connection.recv()
        connection.send((function(*arguments), ""))
        code = 0
    except BaseException:  # noqa: BLE001 (whatever it is, who traces is told)
        connection.send((None, traceback.format_exc()))
    finally:
        os._exit(code)
