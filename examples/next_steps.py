"""Show shell commands that carry on where an example ends."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import sqlstore

LOCATIONS = "SELECT record, field, file, offset, length FROM record_locations LIMIT 5"


def show(store: sqlstore.Store, sql: str) -> None:
    """Print commands to run in a shell, for the folder that the user is in.

    Parameters
    ----------
    store
        A store whose first field holds PNG files, uncompressed.
    sql
        A query that is worth a look.
    """
    folder = _short(store.path)
    quoted = shlex.quote(str(folder))
    tool = shlex.quote(_sqlstore())
    index = shlex.quote(str(folder / "index.sqlite"))
    first = store.sql("SELECT file, offset, length FROM record_locations LIMIT 1").to_pylist()[0]
    chunk = shlex.quote(str(folder / first["file"]))
    print("The index is a plain SQLite file, and says where every byte lies:")
    print(f'  sqlite3 -box {index} "{LOCATIONS}"')
    print("What lies there is the PNG file itself; no library is needed to get it out:")
    print(f"  tail -c +{first['offset'] + 1} {chunk} | head -c {first['length']} > first.png")
    print("Any SQL, as a table, and every checksum once more:")
    print(f'  {tool} sql {quoted} "{sql}"')
    print(f"  {tool} verify {quoted}")


def _sqlstore() -> str:
    """Return how to call the command-line tool of this very installation."""
    beside = Path(sys.executable).parent / "sqlstore"
    on_path = shutil.which("sqlstore")
    if on_path is not None and Path(on_path) == beside:
        return "sqlstore"
    return str(_short(beside))


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
