"""`import_folder`: a folder of files becomes a store, or completes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from sqlstore import limits
from sqlstore.create import create
from sqlstore.encodings import Encodings
from sqlstore.errors import SchemaError
from sqlstore.ingest.build import (
    OnError,
    check_made_alike,
    check_way,
    open_or_make,
    run,
)
from sqlstore.ingest.files import FIELD, KEY, ReadFile, modified
from sqlstore.ingest.report import FolderReport
from sqlstore.ingest.table import MetadataTable, merged
from sqlstore.ingest.tasks import Entry, found_keys
from sqlstore.ingest.walk import FolderItem, Walk, key_of
from sqlstore.ingest.work import Job
from sqlstore.processes import StartMethod
from sqlstore.schema import DEFAULT, Field, declare
from sqlstore.store import Store
from sqlstore.store import open as open_store
from sqlstore.types import StrPath

ENCODINGS = ("bytes", "jpg", "npy", "png")
"""Those that keep the bytes of a file exactly."""

_BY_SUFFIX = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg"}


def import_folder(  # noqa: PLR0913 - all but two are options
    folder: StrPath,
    store: StrPath,
    *,
    workers: int = 1,
    on_error: OnError = "raise",
    metadata: StrPath | None = None,
    pattern: str | None = None,
    exclude: Sequence[str] = (),
    hidden: bool = False,
    encoding: str | None = None,
    compression: str | None = DEFAULT,
    chunk_size: int = limits.DEFAULT_CHUNK_SIZE,
    start_method: StartMethod = "spawn",
) -> FolderReport:
    """Store every file of a folder and of those below it; go on where an earlier run ended.

    A record has the bytes of its file, exactly, in the field ``file``, and the columns ``path``
    (relative, the key), ``size``, ``modified``, ``suffix`` (in lower case), ``label`` (the first
    folder of the path) and, of images, ``width`` and ``height``. Links are not followed. Files that
    are in the store already are not read again.

    Parameters
    ----------
    folder
        What to import.
    store
        The folder of the store, outside of the other; made if there is none.
    workers, on_error, start_method, chunk_size
        As in `build`.
    metadata
        A CSV or Parquet file with a column ``path`` or ``file_name``, relative to the folder; its
        other columns become metadata columns. It may have a ``label`` of its own.
    pattern, exclude
        Only files that match, such as ``"*.jpg"``; and nothing that matches one of these, folders
        with all that is in them. A pattern with a slash is for the path, another for the name.
    hidden
        Take also what has a name that begins with a dot.
    encoding
        ``"bytes"``, ``"png"``, ``"jpg"`` or ``"npy"``. By default, ``"png"`` or ``"jpg"`` if all
        files have such a suffix, so that reading gives images, and else ``"bytes"``.
    compression
        Of the files; by default ``"lz4"``, and None for images, which are compressed already.

    Returns
    -------
    FolderReport
        What was stored, skipped, left out, and failed.

    Raises
    ------
    ItemError
        Names the file that could not be read or stored.
    SchemaError
        The store was made otherwise, or the table of metadata does not fit.
    """
    root, target = Path(folder), Path(store)
    if encoding not in (None, *ENCODINGS):
        raise ValueError(f"encoding is one of {', '.join(ENCODINGS)}, not {encoding!r}")
    if isinstance(exclude, str):
        raise TypeError(f"exclude is a list of patterns, such as [{exclude!r}]")
    check_way(workers, on_error, start_method)
    _check_apart(root, target)
    table = None if metadata is None else MetadataTable(Path(metadata))
    never = frozenset() if metadata is None else _inside(Path(metadata), root)
    walk = Walk(str(root), pattern, tuple(exclude), hidden, never)
    opened = _opened(target, walk, table, encoding, compression, chunk_size)
    with opened as there:
        read = ReadFile(str(root.absolute()))
        job = Job(str(there.path), read, on_error == "skip", len(there), None, False)
        report = FolderReport(left_out=walk.left_out)
        changed = _changed(there, read, report)
        items = walk if table is None else _described(walk, table, report)
        run(
            job,
            there,
            items,
            key_of,
            report,
            workers,
            start_method,
            total=walk.count,
            on_skipped=changed,
        )
        if table is not None:
            report.unmatched = list(table.unmatched())
    return report


def _check_apart(root: Path, target: Path) -> None:
    if not root.is_dir():
        kind = NotADirectoryError if root.exists() else FileNotFoundError
        raise kind(f"there is no folder at {root}")
    inner, outer = target.resolve(), root.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise SchemaError(f"the store {target} and the folder {root} must not lie in each other")


def _inside(metadata: Path, root: Path) -> frozenset[str]:
    """Return the path of the table within the folder, if it lies there: it is no file of it."""
    place = metadata.resolve()
    inside = place.is_relative_to(root.resolve())
    return frozenset([place.relative_to(root.resolve()).as_posix()] if inside else [])


def _opened(
    target: Path,
    walk: Walk,
    table: MetadataTable | None,
    encoding: str | None,
    compression: str | None,
    chunk_size: int,
) -> Store:
    """Return the store, made if there is none; what is not asked for is as it is there."""
    columns = merged({} if table is None else table.columns)

    def made() -> Store:
        chosen = encoding or _common(walk)
        packed = compression
        if packed == DEFAULT:
            packed = None if chosen in ("jpg", "png") else "lz4"
        fields = {FIELD: Field(chosen, packed)}
        return create(target, fields=fields, metadata=columns, key=KEY, chunk_size=chunk_size)

    opened = open_or_make(target, lambda: open_store(target, "a"), made)
    try:
        field = opened.schema.fields.get(FIELD)
        there = (field.encoding, field.compression) if field else ("bytes", None)
        asked = Field(encoding or there[0], there[1] if compression == DEFAULT else compression)
        expected = declare({FIELD: asked}, columns, KEY, None, Encodings())
        check_made_alike(opened, expected, KEY)
    except BaseException:
        opened.close()
        raise
    return opened


def _common(walk: Walk) -> str:
    """Return the encoding that fits all files."""
    found: set[str] = set()
    for item in walk:
        found.add(_BY_SUFFIX.get(PurePosixPath(item.path).suffix.lower(), "bytes"))
        if len(found) > 1 or "bytes" in found:
            return "bytes"
    return found.pop() if found else "bytes"


def _described(walk: Walk, table: MetadataTable, report: FolderReport) -> Iterator[FolderItem]:
    nothing = dict.fromkeys(table.columns)  # where the table has labels, folders are none
    for item in walk:
        row = table.row(item.path)
        report.without_row += row is None and item.problem is None
        yield item._replace(row=row or nothing)


def _changed(store: Store, read: ReadFile, report: FolderReport) -> Callable[[list[Entry]], None]:
    """Return what looks at files that are skipped, whether they are still what is stored."""

    def look(entries: list[Entry]) -> None:
        known = found_keys(store, [entry.key for entry in entries], "size", "modified")
        for path, row in known.items():
            try:
                status = Path(read.root, path).stat(follow_symlinks=False)
                same = (status.st_size, modified(status)) == (row["size"], row["modified"])
            except OSError:
                continue  # it is gone meanwhile, which is no change
            if not same:
                report.changed.append(path)

    return look
