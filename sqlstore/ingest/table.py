"""The table of metadata beside a folder: a CSV or Parquet file with a row per file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sqlstore.columns import column_type
from sqlstore.columns.base import is_bytes, is_text
from sqlstore.errors import SchemaError
from sqlstore.ingest.files import FIELD, KEY, METADATA

_JOINED_BY: Final = (KEY, "file_name")
_MAY_BE_GIVEN: Final = {"label"}
"""What is only a guess for want of better knowledge."""


class MetadataTable:
    """Rows by the path of the file that they describe.

    Attributes
    ----------
    columns
        Types by name, as `create` takes them; without the one that holds the paths.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        table = _read(path)
        names = table.column_names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SchemaError(f"{path} has two columns named {twice[0]!r}")
        joined_by = next((name for name in _JOINED_BY if name in names), None)
        if joined_by is None:
            raise SchemaError(
                f"{path} has neither a column `path` nor `file_name`, relative to the folder; its "
                f"columns are {', '.join(names)}"
            )
        self._rows = self._by_path(table[joined_by])
        self._matched = bytearray(len(table))
        table = table.drop_columns([joined_by])
        self._check_names(table.column_names)
        try:
            self._table = table.cast(pa.schema([self._simplified(one) for one in table.schema]))
        except pa.ArrowException as error:
            raise SchemaError(f"a column of {path} cannot be kept exactly: {error}") from error
        self.columns = {one.name: _declared(one.type) for one in self._table.schema}

    def _by_path(self, paths: pa.ChunkedArray) -> dict[str, int]:
        rows: dict[str, int] = {}
        for number, path in enumerate(paths.to_pylist()):
            if not isinstance(path, str) or not path:
                raise SchemaError(f"row {number} of {self._path} names no file: {path!r}")
            name = path.removeprefix("./")
            if name in rows:
                raise SchemaError(f"{self._path} has two rows for {name}")
            rows[name] = number
        return rows

    def _check_names(self, names: list[str]) -> None:
        ours = {name.casefold() for name in (FIELD, *METADATA)} - _MAY_BE_GIVEN
        if taken := [name for name in names if name.casefold() in ours]:
            raise SchemaError(
                f"the column {taken[0]!r} of {self._path} is called as one that the files "
                "themselves give; rename or remove it"
            )

    def _simplified(self, declared: pa.Field) -> pa.Field:
        kind = declared.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", kind.tz)
        elif pa.types.is_null(kind) or pa.types.is_time(kind) or _is_any_text(kind):
            kind = pa.string()
        elif is_bytes(kind) or pa.types.is_binary_view(kind):
            kind = pa.binary()
        elif pa.types.is_float16(kind):
            kind = pa.float32()
        elif pa.types.is_date64(kind):
            kind = pa.date32()
        if not pa.types.is_nested(kind):
            try:
                kind = column_type(kind).arrow
            except SchemaError as error:
                message = f"a column of {self._path}: {error.message}"
                raise SchemaError(message, column=declared.name) from error
        return pa.field(declared.name, kind)

    def row(self, path: str) -> dict[str, Any] | None:
        """Return what the table says of a file, or None."""
        number = self._rows.get(path)
        if number is None:
            return None
        self._matched[number] = True
        try:
            return {
                name: self._table[name][number].as_py(maps_as_pydicts="strict")
                for name in self.columns
            }
        except KeyError as error:
            raise SchemaError(f"a map in row {number} of {self._path} has a key twice") from error

    def unmatched(self) -> Iterator[str]:
        """Return the paths for which `row` was never called."""
        return (path for path, number in self._rows.items() if not self._matched[number])


def _is_any_text(kind: pa.DataType) -> bool:
    return is_text(kind) or bool(pa.types.is_string_view(kind))


def _read(path: Path) -> pa.Table:
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            from pyarrow import parquet  # slow to import, as is the other

            return parquet.read_table(path)
        if suffix in (".csv", ".tsv"):
            from pyarrow import csv

            parse = csv.ParseOptions(delimiter="\t" if suffix == ".tsv" else ",")
            convert = csv.ConvertOptions(  # as `sqlstore export` writes: "" is empty text
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                column_types=dict.fromkeys(_JOINED_BY, pa.string()),
            )
            table = csv.read_csv(path, parse_options=parse, convert_options=convert)
            _ = table.column_names  # which is where Arrow decodes them
            return table
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise SchemaError(f"{path} cannot be read: {error}") from error
    raise SchemaError(f"the suffix of {path} is neither .csv, .tsv nor .parquet")


def _declared(kind: pa.DataType) -> str:
    return "json" if pa.types.is_nested(kind) else column_type(kind).name


def merged(given: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata columns of a store: those of files, then those of a table."""
    return {**METADATA, **given}
