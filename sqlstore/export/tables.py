"""Parquet, CSV and Arrow files, written batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from sqlstore.arrow import presence, validity
from sqlstore.errors import ExportError
from sqlstore.export.beside import Beside, check_free, place_of
from sqlstore.export.report import Exported
from sqlstore.progress import counted
from sqlstore.types import StrPath


class _Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...


_Open: TypeAlias = Callable[[IO[bytes], pa.Schema], AbstractContextManager[_Writer]]


def write(
    store: Path,
    batches: pa.RecordBatchReader,
    total: int,
    path: StrPath,
    name: str | None,
    *,
    overwrite: bool,
) -> Exported:
    """Write record batches to a file; see `Tables.export`.

    Parameters
    ----------
    store
        The folder of the store, which is no place for it.
    total
        How many rows there will be.
    name
        One of `FORMATS`; None if the suffix of the path tells.
    """
    begin = _opener(format_of(path) if name is None else name)
    target = place_of(path, store)
    check_free(target, overwrite=overwrite)
    _refuse_payload(batches.schema, begin)
    records = 0
    with (
        Beside(overwrite=overwrite) as beside,
        beside.file(target) as file,
        counted(total, "exporting", "records") as advance,
        begin(file, batches.schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
            records += batch.num_rows
            advance(batch.num_rows)
    return Exported(records, 1, beside.n_bytes)


def format_of(path: StrPath) -> str:
    """Return the format that the suffix of a path tells.

    Raises
    ------
    ExportError
        It tells none.
    """
    try:
        return SUFFIXES[Path(path).suffix.lower()]
    except KeyError:
        raise ExportError(
            f"the suffix of {path} tells no format; use one of {', '.join(SUFFIXES)}, or name the "
            "format"
        ) from None


def _opener(name: str) -> _Open:
    try:
        return FORMATS[name]
    except KeyError:
        raise ExportError(f"the formats are {', '.join(FORMATS)}, not {name!r}") from None


def _refuse_payload(schema: pa.Schema, begin: _Open) -> None:
    if begin is not _csv:
        return
    for field in schema:
        if pa.types.is_large_binary(field.type) or pa.types.is_nested(field.type):
            raise ExportError("CSV is text: export fields to Parquet or Arrow", field=field.name)


def _parquet(file: IO[bytes], schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq  # slow to import, and only used here

    return pq.ParquetWriter(file, schema)


def _arrow(file: IO[bytes], schema: pa.Schema) -> Any:
    return pa.ipc.new_file(file, schema)


def _csv(file: IO[bytes], schema: pa.Schema) -> Any:
    return _CsvWriter(file, schema)


class _CsvWriter:
    """Writes CSV, with bytes as hex digits: a text file cannot hold them as they are."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        from pyarrow import csv

        self._binary = [i for i, one in enumerate(schema) if pa.types.is_binary(one.type)]
        for position in self._binary:
            schema = schema.set(position, pa.field(schema.field(position).name, pa.large_string()))
        self._schema = schema
        self._writer = csv.CSVWriter(file, schema)

    def __enter__(self) -> _CsvWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Write rows."""
        columns = list(batch.columns)
        for position in self._binary:
            columns[position] = _hex(columns[position])
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))


def _hex(array: pa.Array) -> pa.LargeStringArray:
    """Return bytes as hex digits, all at once: what takes one byte takes two characters."""
    wide = array.cast(pa.large_binary())
    _, offsets, data = wide.buffers()
    ends = np.frombuffer(offsets, np.int64)[wide.offset : wide.offset + len(wide) + 1]
    digits = memoryview(data or b"")[ends[0] : ends[-1]].hex().encode()
    buffers = [validity(presence(wide)), pa.py_buffer((ends - ends[0]) * 2), pa.py_buffer(digits)]
    return pa.Array.from_buffers(pa.large_string(), len(wide), buffers)


FORMATS: Final[dict[str, _Open]] = {"parquet": _parquet, "csv": _csv, "arrow": _arrow}
SUFFIXES: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
