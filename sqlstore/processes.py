"""Worker processes: each opens the store, and asks for a task whenever it has done one.

What they do is a `Job`: that of `build` reads items, that of `Store.add_column` computes values.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from ctypes import c_longlong
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from sqlstore.errors import ItemError, SqlstoreError

FIRST: Final = 16
MOST: Final = 4096
"""How many items the first task has, and how many a task has at most."""
_SHORT, _LONG = 0.5, 2.0  # seconds that a task should take: that much is lost when it is killed

StartMethod = Literal["spawn", "forkserver"]
START_METHODS: Final = ("spawn", "forkserver")
"""Not ``fork``: a child would share threads, locks and open files with whoever calls."""

_PATIENCE: Final = 30.0  # seconds in which workers may finish their item and commit
_IMPORTABLE: Final = (
    "worker processes import what they call: it and encodings are to be functions of a "
    'module, a script guards its main part by `if __name__ == "__main__":`; or use workers=1'
)

Item = TypeVar("Item")
Asked = TypeVar("Asked", contravariant=True)
Given = TypeVar("Given", covariant=True)


class Signals(Protocol):
    """Between a worker and who waits for it: where it is, and whether it shall stop."""

    at: int
    stop: bool


@dataclass
class NoSignals:
    """For a worker that nobody waits for."""

    at: int = 0
    stop: bool = False


class Outcome(Protocol):
    """What became of a task, and how long it took."""

    seconds: float


Done = TypeVar("Done", bound=Outcome)
Told = TypeVar("Told", bound=Outcome, covariant=True)


class Job(Protocol[Asked, Told]):
    """What every worker is told at first; it pickles."""

    def working(
        self, signals: Signals
    ) -> AbstractContextManager[Callable[[Sequence[Asked]], Told]]:
        """Open the store, and give what does one task."""

    def where(self, item: Asked) -> dict[str, object]:
        """Return what an error says of the item at which a worker died."""


class Tasks(Protocol[Given]):
    """What is to be done."""

    def take(self, count: int) -> Sequence[Given]:
        """Return up to so many items; none if there are no more."""


class Pace:
    """How many items the next task has: about a second's work."""

    def __init__(self) -> None:
        self.count = FIRST

    def took(self, count: int, seconds: float) -> None:
        """Learn how long a task took."""
        if seconds < _SHORT and count == self.count:
            self.count = min(2 * count, MOST)
        elif seconds > _LONG:
            self.count = max(min(count, self.count) // 2, 1)


def check_workers(workers: int, start_method: str) -> None:
    """Raise ValueError where there is no such way to go about it."""
    if start_method not in START_METHODS:
        raise ValueError(f"start_method is one of {', '.join(START_METHODS)}, not {start_method!r}")
    if workers < 1:
        raise ValueError(f"{workers} workers; there is at least one")


def check_travels(function: object) -> None:
    """Raise TypeError for what worker processes cannot be given."""
    try:
        ForkingPickler.dumps(function)
    except Exception as error:  # pickling runs the code of whatever is pickled
        raise TypeError(f"{error}; {_IMPORTABLE}") from error


def trace_of(error: BaseException) -> str:
    """Return a traceback as text, which can travel."""
    return "".join(traceback.format_exception(error))


class _Shared:
    """What a worker and its owner see of each other without a message."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers

    @property
    def at(self) -> int:
        """Return which item of its task the worker is at."""
        return int(self.numbers[0])

    @at.setter
    def at(self, position: int) -> None:
        self.numbers[0] = position

    @property
    def stop(self) -> bool:
        """Return whether the worker shall commit what it has and end."""
        return bool(self.numbers[1])

    @stop.setter
    def stop(self, value: bool) -> None:
        self.numbers[1] = value


def work(connection: Connection, numbers: Any) -> None:
    """Do tasks until nobody hands out any more; this is what a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the owner
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        job: Job[Any, Any] = connection.recv()
        with job.working(_Shared(numbers)) as run:
            connection.send(None)
            while True:
                connection.send(run(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the owner is done, or gone
    except Exception as error:  # noqa: BLE001 - whatever it is, the owner raises it
        _tell(connection, error)


def _tell(connection: Connection, error: Exception) -> None:
    if not isinstance(error, SqlstoreError):  # others need not pickle
        told = SqlstoreError(f"a worker process failed: {type(error).__name__}: {error}")
        told.add_note(trace_of(error))
        error = told
    try:
        connection.send(error)
    except OSError:
        return


@contextmanager
def _blocked_interrupts(method: str) -> Iterator[None]:
    """Have a spawned process begin deaf to Ctrl-C: it would show a traceback of its imports.

    Not the fork server: it stays, and serves others too.
    """
    if method != "spawn":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Process(Generic[Item, Done]):
    """One worker, as its owner sees it."""

    def __init__(self, job: Job[Item, Done], method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        self.connection, theirs = context.Pipe()
        self.shared = _Shared(context.RawArray(c_longlong, 2))
        self.task: Sequence[Item] = ()
        self.started = False
        self._where = job.where
        self._process = context.Process(
            target=work, args=(theirs, self.shared.numbers), daemon=True
        )
        with _blocked_interrupts(method):
            self._process.start()
        theirs.close()
        self._send(job)

    def _send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has died, or is about to say why: that is heard
        except Exception as error:  # pickling runs the code of whatever is pickled
            raise TypeError(f"{error}; {_IMPORTABLE}") from error

    def give(self, task: Sequence[Item]) -> None:
        """Hand out a task."""
        self.task = task
        self.shared.at = 0
        self._send(task)

    def hear(self) -> Done | None:
        """Return what became of the task; None if the worker has only now begun.

        Raises
        ------
        SqlstoreError
            The worker cannot go on.
        ItemError
            Its process has died.
        """
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._died() from None
        if isinstance(message, Exception):
            raise message
        if message is None:
            self.started = True
            return None
        self.task = ()
        outcome: Done = message
        return outcome

    def _died(self) -> SqlstoreError:
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"killed by signal {-code}, {signal.strsignal(-code)}"
        if not self.started:
            return SqlstoreError(f"a worker process did not start ({how}); {_IMPORTABLE}")
        at = min(self.shared.at, len(self.task) - 1)
        return ItemError(
            f"a worker process died ({how}), perhaps because of the item it was at; what was "
            "committed stays, and the same call goes on from there",
            **self._where(self.task[at]),
        )

    def end(self) -> None:
        """Let the worker commit what it has read, and end."""
        self.shared.stop = True
        self.connection.close()

    def join(self, deadline: float) -> None:
        """Wait for the end, and bring it about at the deadline: a killed writer does no harm."""
        self._process.join(max(deadline - time.monotonic(), 0))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


class Processes(Generic[Item, Done]):
    """Up to so many workers; each is started when there is a task for it.

    A context manager: at the end of the block, whatever ends it, workers commit what they have
    read and are gone.
    """

    def __init__(self, job: Job[Item, Done], count: int, method: str) -> None:
        self._job = job
        self._count = count
        self._method = method
        self._workers: list[_Process[Item, Done]] = []

    def __enter__(self) -> Processes[Item, Done]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.end()
        deadline = time.monotonic() + _PATIENCE
        for worker in self._workers:
            worker.join(deadline)

    def run(self, tasks: Tasks[Item], done: Callable[[Done], object]) -> None:
        """Hand out all tasks; ``done`` is called with the outcome of each, as they come."""
        pace = Pace()
        idle: list[_Process[Item, Done]] = []
        while True:
            while idle or len(self._workers) < self._count:
                task = tasks.take(pace.count)
                if not len(task):
                    break
                (idle.pop() if idle else self._start()).give(task)
            busy = {worker.connection: worker for worker in self._workers if len(worker.task)}
            if not busy:
                return
            for connection in wait(list(busy)):
                worker = busy[connection]
                count = len(worker.task)
                outcome = worker.hear()
                if outcome is not None:
                    done(outcome)
                    pace.took(count, outcome.seconds)
                    idle.append(worker)

    def _start(self) -> _Process[Item, Done]:
        worker = _Process(self._job, self._method)
        self._workers.append(worker)
        return worker
