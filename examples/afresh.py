"""Let an example be run again: remove the store that it made before, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

MARK = ".made-by-an-example"


def clear(store: Path, *files: Path) -> None:
    """Make way for a new store, and for the files that belong to it.

    Parameters
    ----------
    store
        Where the store will be made. An earlier one is removed if it carries the mark.
    *files
        What the example will write beside it; removed with it.

    Raises
    ------
    SystemExit
        Something lies there that no example made. Nothing was touched.
    """
    there = [path for path in (store, *files) if path.exists() or path.is_symlink()]
    if not there:
        return
    if store.is_symlink() or not (store / MARK).is_file():
        raise SystemExit(
            f"{there[0]} exists, and this example did not make it: nothing was touched. "
            "Move it away, or name another folder."
        )
    print(f"Removing what this example made before: {', '.join(map(str, there))}")
    for file in files:
        file.unlink(missing_ok=True)
    shutil.rmtree(store)


def mark(store: Path) -> None:
    """Say in a hidden file that an example made this store and may remove it."""
    (store / MARK).write_text("An example of sqlstore made this store; it may be removed.\n")
