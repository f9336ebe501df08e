"""Keep Ctrl-C and its like out of the few lines that must not be cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Hold back the signals that people end programs with, and deliver them at the end.

    Only those that a Python function handles: that function may raise, as Ctrl-C does. Python runs
    it in the main thread only, so in other threads there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    functions = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in functions:
        signal.signal(number, lambda *arrived: held.append(arrived))
    try:
        yield
    finally:
        for number, function in functions.items():
            signal.signal(number, function)
        for arrived, frame in held:
            functions[signal.Signals(arrived)](arrived, frame)
