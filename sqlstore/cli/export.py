"""`sqlstore export`: the metadata as a file that other programs read.

The file is written beside its place under another name, and renamed when it is complete and synced:
whatever happens in between leaves what was there before, or nothing.
"""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, TypeAlias

import pyarrow as pa

from sqlstore.cli import output
from sqlstore.cli.output import UsageError
from sqlstore.store import open as open_store

_Write: TypeAlias = Callable[[pa.Table, IO[bytes]], None]


def export(options: argparse.Namespace) -> int:
    """Write the metadata of a store, or of some of its records, to a file."""
    name = options.format or _format_of(options.out)
    target = Path(os.path.realpath(options.out))  # a link stays; what it leads to is written
    with open_store(options.store) as store:
        if target.is_relative_to(os.path.realpath(store.path)):
            raise UsageError(f"{options.out} is inside the store; export to another folder")
        _check_free(target, force=options.force)
        view = store if options.where is None else store.where(options.where)
        rows = view.to_arrow()
    size = _write_and_rename(rows, FORMATS[name], target, force=options.force)
    if options.json:
        output.write_json(
            {"path": str(options.out), "format": name, "records": rows.num_rows, "bytes": size}
        )
    else:
        records = output.counted(rows.num_rows, "record")
        output.say(output.printable(f"wrote {records} to {options.out}: {output.sized(size)}"))
    return 0


def _format_of(path: Path) -> str:
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"the suffix of {path} tells no format; use one of {', '.join(_SUFFIXES)}, or --format"
        ) from None


def _check_free(target: Path, *, force: bool) -> None:
    if not target.exists():
        return
    if not target.is_file():
        raise UsageError(f"{target} is there already, and it is not a file")
    if not force:
        raise UsageError(f"{target} is there already; --force replaces it")


def _write_and_rename(rows: pa.Table, write: _Write, target: Path, *, force: bool) -> int:
    """Write a file that appears under its name only when it is complete; return its size."""
    partial = target.with_name(f".export-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            write(rows, file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        _check_free(target, force=force)  # somebody may have been faster
        partial.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error
    finally:
        partial.unlink(missing_ok=True)
    return size


def _write_parquet(rows: pa.Table, file: IO[bytes]) -> None:
    import pyarrow.parquet as pq  # slow to import, and only used here

    pq.write_table(rows, file)


def _write_csv(rows: pa.Table, file: IO[bytes]) -> None:
    from pyarrow import csv

    for position, column in enumerate(rows.columns):
        if pa.types.is_binary(column.type):  # a text file cannot hold bytes as they are
            texts = [None if value is None else value.hex() for value in column.to_pylist()]
            rows = rows.set_column(
                position, rows.schema.names[position], pa.array(texts, pa.string())
            )
    csv.write_csv(rows, file)


def _write_arrow(rows: pa.Table, file: IO[bytes]) -> None:
    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)


FORMATS: Final[dict[str, _Write]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "arrow": _write_arrow,
}
_SUFFIXES: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
