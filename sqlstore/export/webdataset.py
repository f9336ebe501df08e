"""Tar files as WebDataset reads them: a sample is the files that have a name up to the first dot.

They are the same, byte for byte, whenever the same records are written.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sqlstore.errors import ExportError
from sqlstore.export.beside import Beside, check_free, place_of
from sqlstore.export.report import Exported
from sqlstore.portions import portions
from sqlstore.positions import as_array, has_repeats
from sqlstore.progress import counted
from sqlstore.reading.decode import decoded_bytes
from sqlstore.schema import Column, Field
from sqlstore.source import Source
from sqlstore.text import plain
from sqlstore.types import Buffer, Ids

_SUFFIXES: Final = {"bytes": "bin", "utf8": "txt"}
"""By encoding; of the others it is their name."""

_KEY: Final = r"^([^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*/)*[^./\x00-\x1f\x7f]+$"
_END: Final = bytes(2 * tarfile.BLOCKSIZE)

_Member: TypeAlias = tuple[str, Buffer]
"""The name of a file behind that of its sample, and what is in it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How records are spread over files.

    Attributes
    ----------
    pattern
        The path, with a place for the number of the file, such as ``%06d``.
    key
        The column that names samples; None for the record id.
    maxcount, maxsize
        How many samples and bytes a file has at most.
    """

    pattern: str
    key: str | None
    maxcount: int
    maxsize: int

    def path(self, number: int) -> str:
        """Return the path of a file."""
        return self.pattern % number

    def check(self) -> None:
        """Raise if nothing can be laid out so.

        Raises
        ------
        ExportError
            The pattern has no place for a number, or a limit is none.
        """
        if re.fullmatch(r"(?:[^%]|%%)*%0?\d*d(?:[^%]|%%)*", self.pattern) is None:
            raise ExportError(
                f"{self.pattern!r} has no place for the number of a file: write out-%06d.tar"
            )
        if self.maxcount < 1 or self.maxsize < 1:
            raise ExportError("a file holds at least one sample, and one byte")


def write(
    source: Source,
    ids: range | Ids,
    fields: Sequence[Field],
    columns: Sequence[Column],
    layout: Layout,
    *,
    overwrite: bool,
) -> Exported:
    """Write records to tar files; see `Tables.export_webdataset`."""
    layout.check()
    for field in fields:
        if "/" in field.name:
            raise ExportError("its name would be a folder in a tar file", field=field.name)
    keys = _keys(source, ids, layout.key)
    before = _there(layout, source.root)
    for target in before:
        check_free(target, overwrite=overwrite)
    with Beside(overwrite=overwrite) as beside:
        shards = _Shards(layout, source.root, beside)
        with shards, counted(len(ids), "exporting", "samples") as advance:
            start = 0
            for some in portions(source, ids, fields, most_records=1024):
                names = keys(start, some)
                for name, members in zip(
                    names, _samples(source, some, fields, columns), strict=True
                ):
                    shards.add(name, members)
                start += len(some)
                advance(len(some))
    for target in before - set(shards.targets):  # of an earlier export that had more
        target.unlink()
    return Exported(len(ids), len(shards.targets), beside.n_bytes)


def _there(layout: Layout, store: Path) -> set[Path]:
    """Return the files that are there already, of as many as follow each other."""
    found: set[Path] = set()
    while (target := place_of(layout.path(len(found)), store)).exists():
        found.add(target)
    return found


_Keys: TypeAlias = Callable[[int, "range | Ids"], list[str]]


def _keys(source: Source, ids: range | Ids, key: str | None) -> _Keys:
    """Return what names samples, given the position of the first and their ids."""
    if key is None:
        if has_repeats(ids):
            raise ExportError("the view has a record twice, and its id is to name one sample")
        return lambda _, some: [f"{record:09d}" for record in as_array(some).tolist()]
    column = source.schema.columns.get(key)
    if column is None:
        raise source.schema.unknown([key])
    if not (pa.types.is_string(column.kind.arrow) or pa.types.is_integer(column.kind.arrow)):
        raise ExportError("only text and integers name samples", column=key)
    (pieces,) = source.metadata(ids, [column])
    names = pa.chunked_array(pieces, column.kind.arrow).cast(pa.large_string())
    _check_keys(names, key)
    return lambda start, some: names.slice(start, len(some)).to_pylist()


def _check_keys(names: pa.ChunkedArray, column: str) -> None:
    if names.null_count:
        raise ExportError("a record has no value to name its sample", column=column)
    fits = pc.match_substring_regex(names, _KEY)
    wrong = names.filter(pc.invert(fits))
    if len(wrong):
        raise ExportError(
            f"{wrong[0].as_py()!r} cannot name a sample: no dots but in folders, and no path that "
            "leads out of the tar file",
            column=column,
        )
    if pc.count_distinct(names).as_py() < len(names):
        raise ExportError("two records have the same value to name their sample", column=column)


class _Shards(AbstractContextManager["_Shards"]):
    """Tar files, one after the other."""

    def __init__(self, layout: Layout, store: Path, beside: Beside) -> None:
        self._layout = layout
        self._store = store
        self._beside = beside
        self._count = 0
        self._file: IO[bytes] | None = None
        self._opened = ExitStack()
        self.targets: list[Path] = []

    def add(self, name: str, members: Iterable[_Member]) -> None:
        """Write a sample, into a new file if the last one is full."""
        data = b"".join(_tarred(f"{name}.{end}", content) for end, content in members)
        file = self._file_for(len(data))
        file.write(data)
        self._count += 1

    def _file_for(self, n_bytes: int) -> IO[bytes]:
        if self._file is not None:
            size = self._file.tell() + n_bytes + len(_END)
            if self._count < self._layout.maxcount and size <= self._layout.maxsize:
                return self._file
            self._finish()
        target = place_of(self._layout.path(len(self.targets)), self._store)
        self._file = self._opened.enter_context(self._beside.file(target))
        self.targets.append(target)
        return self._file

    def _finish(self) -> None:
        if self._file is not None:
            self._file.write(_END)
        self._file, self._count = None, 0
        self._opened.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._opened:
            if error is not None:
                raise error  # in the block of the file, which is not complete then
            self._finish()


def _tarred(name: str, content: Buffer) -> bytes:
    """Return a file as it is in a tar file.

    By hand, as `tarfile` remembers every file that it has written.
    """
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o444
    header = info.tobuf(tarfile.PAX_FORMAT)
    return b"".join((header, content, bytes(-len(content) % tarfile.BLOCKSIZE)))


def _samples(
    source: Source, ids: range | Ids, fields: Sequence[Field], columns: Sequence[Column]
) -> Iterator[list[_Member]]:
    """Return the files of every record."""
    documents = _documents(source, ids, columns)
    payload = [_files(source, ids, field) for field in fields]
    for document, *found in zip(documents, *payload, strict=True):
        yield [("json", document), *(member for members in found for member in members)]


def _documents(source: Source, ids: range | Ids, columns: Sequence[Column]) -> Iterator[bytes]:
    """Return the metadata of every record as JSON."""
    values: list[Sequence[object]] = [as_array(ids).tolist()]
    for column, arrays in zip(columns, source.metadata(ids, columns), strict=True):
        values.append([one for array in arrays for one in column.kind.to_python(array)])
    names = ["id", *(column.name for column in columns)]
    for row in zip(*values, strict=True):
        document = plain(dict(zip(names, row, strict=True)))
        yield json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _files(source: Source, ids: range | Ids, field: Field) -> Iterator[list[_Member]]:
    """Return the files of a field for every record: one for a value, or for each item."""
    as_file, suffix = _form(source, field)
    if not field.is_sequence:
        bodies = source.bodies(as_array(ids), field).each()
        for record, body in zip(as_array(ids).tolist(), bodies, strict=True):
            name = f"{field.name}.{suffix}"
            yield [] if body is None else [(name, as_file(body, record))]
        return
    for record in as_array(ids).tolist():
        items = source.items(record, field) or []
        yield [
            (f"{field.name}.{number:06d}.{suffix}", as_file(item, record))
            for number, item in enumerate(items)
        ]


def _form(source: Source, field: Field) -> tuple[Callable[[Buffer, int], Buffer], str]:
    """Return how the bytes of a field become a file that others can read, and its suffix."""
    encoding = field.item_encoding
    if encoding not in _MADE_READABLE:
        return lambda data, _: data, _SUFFIXES.get(encoding, encoding)
    make, suffix = _MADE_READABLE[encoding]
    found = source.encoding(field)
    return lambda data, record: make(decoded_bytes(found, field, data, record, None)), suffix


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return file.getvalue()


def _digits(number: Any) -> bytes:
    return b"%d" % number


_MADE_READABLE: Final[dict[str, tuple[Callable[[Any], bytes], str]]] = {
    "array": (_npy, "npy"),
    "int": (_digits, "cls"),
    "i64": (_digits, "cls"),
    "u64": (_digits, "cls"),
}
"""What only this library reads, as something that others do."""
