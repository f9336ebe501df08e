"""Worker processes: each opens the store, and asks for a task whenever it has done one."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_longlong
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Final

from sqlstore.errors import ItemError, SqlstoreError
from sqlstore.ingest.tasks import Entry, Pace, Tasks, trace_of
from sqlstore.ingest.work import Job, Outcome, Worker

START_METHODS: Final = ("spawn", "forkserver")
"""Not ``fork``: a child would share threads, locks and open files with whoever calls."""

_PATIENCE: Final = 30.0  # seconds in which workers may finish their item and commit
_IMPORTABLE: Final = (
    "worker processes import what they call: read_fn and encodings are to be functions of a "
    'module, a script guards its main part by `if __name__ == "__main__":`; or use workers=1'
)


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
        job: Job = connection.recv()
        with job.open() as store, store.writer() as writer:
            worker = Worker(job, store, writer, _Shared(numbers))
            connection.send(None)
            while True:
                connection.send(worker.run(connection.recv()))
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


class _Process:
    """One worker, as its owner sees it."""

    def __init__(self, job: Job, method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        self.connection, theirs = context.Pipe()
        self.shared = _Shared(context.RawArray(c_longlong, 2))
        self.task: list[Entry] = []
        self.started = False
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

    def give(self, task: list[Entry]) -> None:
        """Hand out a task."""
        self.task = task
        self.shared.at = 0
        self._send(task)

    def hear(self) -> Outcome | None:
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
        self.task = []
        outcome: Outcome = message
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
            item=self.task[at].name,
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


class Processes:
    """Up to so many workers; each is started when there is a task for it.

    A context manager: at the end of the block, whatever ends it, workers commit what they have
    read and are gone.
    """

    def __init__(self, job: Job, count: int, method: str) -> None:
        self._job = job
        self._count = count
        self._method = method
        self._workers: list[_Process] = []

    def __enter__(self) -> Processes:
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

    def run(self, tasks: Tasks, done: Callable[[Outcome], object]) -> None:
        """Hand out all tasks; ``done`` is called with the outcome of each, as they come."""
        pace = Pace()
        idle: list[_Process] = []
        while True:
            while idle or len(self._workers) < self._count:
                task = tasks.take(pace.count)
                if not task:
                    break
                (idle.pop() if idle else self._start()).give(task)
            busy = {worker.connection: worker for worker in self._workers if worker.task}
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

    def _start(self) -> _Process:
        worker = _Process(self._job, self._method)
        self._workers.append(worker)
        return worker
