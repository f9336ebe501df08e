"""`export_folder`: the files of a store, back in a folder."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sqlstore.errors import SchemaError
from sqlstore.export.report import Exported
from sqlstore.ingest.files import FIELD, KEY
from sqlstore.progress import counted
from sqlstore.types import StrPath
from sqlstore.view import View

_AT_ONCE = 1024
_LONGEST_NAME = 255  # bytes, of nearly every file system


def export_folder(view: View, folder: StrPath, *, overwrite: bool = False) -> Exported:
    """Write the files of an imported folder, with their content and modified times.

    Every path is checked before the first file is written, and every file appears under its name
    only when it is complete.

    Parameters
    ----------
    view
        Records of a store that `import_folder` made, or of any with a field ``file``, a column
        ``path`` and perhaps a column ``modified``.
    folder
        Where to; made if it is not there.
    overwrite
        Replace files that are there.

    Returns
    -------
    Exported
        How much was written.

    Raises
    ------
    FileExistsError
        A file is there already.
    SchemaError
        A path leads out of the folder, is there twice, or cannot be a path.
    """
    root = Path(os.path.abspath(folder))  # noqa: PTH100 - links on the way to it may be followed
    rows = view.to_arrow()
    if KEY not in rows.column_names:
        raise SchemaError(f"the view has no column {KEY!r}; it is not of an imported folder")
    paths = rows[KEY]
    if not pa.types.is_string(paths.type):
        raise SchemaError(f"the column {KEY!r} has {paths.type} values and no paths")
    _check(paths, root, overwrite=overwrite)
    times: Any = None
    if "modified" in rows.column_names and pa.types.is_timestamp(rows["modified"].type):
        times = rows["modified"].cast(pa.int64())
    root.mkdir(parents=True, exist_ok=True)
    made = {root}
    n_bytes = 0
    with counted(len(view), "exporting", "files") as advance:
        for position in range(len(view)):
            data = view.raw(position, FIELD)
            path = root / paths[position].as_py()
            if data is None:
                raise SchemaError("the record has no file", record=int(view.ids[position]))
            _make_folders(path.parent, root, made)
            time = None if times is None else times[position].as_py()
            _write(path, data, time, overwrite=overwrite)
            n_bytes += len(data)
            advance(1)
    return Exported(len(view), len(view), n_bytes)


def _check(paths: pa.ChunkedArray, root: Path, *, overwrite: bool) -> None:
    seen: set[str] = set()
    for start in range(0, len(paths), _AT_ONCE):
        for path in paths.slice(start, _AT_ONCE).to_pylist():
            _check_path(path)
            if path in seen:
                raise SchemaError(f"the path {path!r} is there twice")
            seen.add(path)
            if not overwrite and os.path.lexists(root / path):
                raise FileExistsError(f"{root / path} is there already")
    for path in seen:
        for folder in _folders(path):
            if folder in seen:
                raise SchemaError(f"the path {folder!r} is a file, and a folder for {path!r}")


def _folders(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _check_path(path: str | None) -> None:
    """Refuse what is not the plain path of a file below the folder."""
    parts = path.split("/") if path else [""]
    if any(part in ("", ".", "..") for part in parts) or "\0" in str(path):
        raise SchemaError(f"the path {path!r} leads out of the folder, or is none of a file")
    if longest := [part for part in parts if len(os.fsencode(part)) > _LONGEST_NAME]:
        raise SchemaError(f"{longest[0][:20]!r}... in a path is longer than file names can be")


def _make_folders(folder: Path, root: Path, made: set[Path]) -> None:
    """Make the folders on the way to a file; a link among them could lead anywhere."""
    if folder in made:
        return
    _make_folders(folder.parent, root, made)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    if folder.is_symlink() or not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a link or a file, where a folder should be")
    made.add(folder)


def _write(path: Path, data: bytes, time: int | None, *, overwrite: bool) -> None:
    partial = path.with_name(f".export-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
        if time is not None:
            os.utime(partial, ns=(time * 1000, time * 1000))
        if not overwrite and os.path.lexists(path):  # somebody may have been faster
            raise FileExistsError(f"{path} is there already")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
