"""Keep Ctrl-C and its like out of the few lines that must not be cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Held = list[tuple[int, FrameType | None]]


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Hold back the signals that people end programs with, and deliver them at the end.

    Only those that a Python function handles: that function may raise, as Ctrl-C does. Python runs
    it in the main thread only, so in other threads there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: Held = []
    with ExitStack() as stack:  # whatever a handler raises, the other callbacks run too
        functions = [
            (number, function)
            for number in _SIGNALS
            if callable(function := signal.getsignal(number))
        ]
        for number, function in functions:
            stack.callback(_deliver, number, function, held)
        for number, function in functions:
            stack.callback(signal.signal, number, function)
            signal.signal(number, lambda *arrived: held.append(arrived))
        yield


def _deliver(number: int, function: Callable[[int, FrameType | None], Any], held: Held) -> None:
    for arrived, frame in held:
        if arrived == number:
            function(arrived, frame)
