"""WAL mode, into which other tools may put an index, and which it is taken out of again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlstore.errors import StoreBusyError


def is_on(connection: sqlite3.Connection) -> bool:
    """Return whether a file is in WAL mode."""
    found: tuple[str] = connection.execute("PRAGMA journal_mode").fetchone()
    return found == ("wal",)


def end(connection: sqlite3.Connection, path: Path) -> None:
    """Give a file a rollback journal again where another tool has put it into WAL mode.

    Raises
    ------
    StoreBusyError
        Somebody else has the file open.
    """
    try:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    except sqlite3.OperationalError as error:
        code: int = getattr(error, "sqlite_errorcode", 0)  # of SQLite, and not of the driver
        if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and is_on(connection):
            raise StoreBusyError(
                f"another tool has put {path} into WAL mode, which cannot be ended while "
                "anybody has it open; close that tool, and stores that read this one"
            ) from error
        raise
