"""What keeps other people's SQL from doing harm: it may only read, and it can be interrupted."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterator
from typing import Final

from sqlstore import limits

_ALLOWED: Final = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_ALLOWED_PRAGMAS: Final = {
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "function_list",
    "read_uncommitted",
}
_REFUSED_FUNCTIONS: Final = {
    "load_extension",
    "fts3_tokenizer",  # gives away an address in memory
}
_STEPS: Final = 100_000
"""Of SQLite's virtual machine, between two looks at what has been signalled: about 2 ms."""


def restrict(connection: sqlite3.Connection) -> None:
    """Let a connection only read, until `unrestricted`."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.MAX_SQL_VALUE_BYTES)
    connection.set_authorizer(_authorize)


@contextlib.contextmanager
def unrestricted(connection: sqlite3.Connection) -> Iterator[None]:
    """Let a connection do anything inside the block, which runs no SQL of other people."""
    connection.set_authorizer(None)
    try:
        yield
    finally:
        connection.set_authorizer(_authorize)


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Allow reading and nothing else; SQLite calls this while it compiles a statement."""
    if action in _ALLOWED:
        allowed = action != sqlite3.SQLITE_FUNCTION or second not in _REFUSED_FUNCTIONS
    else:
        allowed = action == sqlite3.SQLITE_PRAGMA and first in _ALLOWED_PRAGMAS
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


@contextlib.contextmanager
def interruptible(connection: sqlite3.Connection) -> Iterator[None]:
    """Let Ctrl-C, and whatever else the handler of a signal raises, end a statement in the block.

    Python runs such handlers between two of its own instructions, and there is none while SQLite
    works. So SQLite calls Python now and then; what is raised there ends the statement, and is
    raised here.
    """
    raised: list[BaseException] = []
    ticks = _ticks(raised)
    next(ticks)
    connection.set_progress_handler(ticks.__next__, _STEPS)
    try:
        yield
    except Exception:  # what SQLite says of it, or what others have made of that
        if raised:
            raise raised[0] from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
        ticks.close()


def _ticks(raised: list[BaseException]) -> Generator[int, None, None]:
    """Return 0 forever, and 1 when a signal handler has raised something, which is kept.

    A generator, because where it goes on is inside its `try`; a function would be interrupted
    before it comes to one, and the driver throws away what a function raises.
    """
    stop = 0
    while True:
        try:
            yield stop
            stop = 0
        except GeneratorExit:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by `interruptible`
            raised.append(error)
            stop = 1
