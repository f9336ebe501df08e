"""Some records as tables: metadata, and the payload of fields where asked for."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa

from sqlstore import limits
from sqlstore.arrow import int64_array
from sqlstore.contents import Contents
from sqlstore.describe.description import Description
from sqlstore.describe.records import described
from sqlstore.errors import MissingPackageError
from sqlstore.export import stores, tables, webdataset
from sqlstore.export.report import Exported
from sqlstore.portions import portions
from sqlstore.positions import as_array
from sqlstore.schema import Field
from sqlstore.selection import S_co
from sqlstore.types import Ids, StrPath

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_ENCODING: Final = b"sqlstore:encoding"
"""Under this name the Arrow schema says how the bytes of a field are encoded."""


class Tables(Contents[S_co]):
    """Some records of a store, to be taken out as tables.

    A table has the column ``id`` and the metadata columns that the view selects. Fields are in it
    if they are named, as their encoding made them, decompressed and not decoded: a JPEG file is a
    value of ``large_binary``, a sequence a list of them. Nothing else reads payload.
    """

    @property
    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema of `to_arrow`."""
        return self._schema_with([])

    def _schema_with(self, fields: Sequence[Field]) -> pa.Schema:
        schema = self._source.schema.arrow
        columns = [schema.field("id"), *(schema.field(c.name) for c in self._columns)]
        return pa.schema([*columns, *map(_arrow_field, fields)])

    def to_arrow(self, fields: Iterable[str] = ()) -> pa.Table:
        """Return the record ids and the metadata as an Arrow table of the declared types.

        Parameters
        ----------
        fields
            Fields to take along, in this order, behind the metadata; all of it is in memory then.

        Raises
        ------
        UnknownNameError
            There is no such field.
        ChecksumError
            The bytes of a field are not what was written.
        """
        return self._table(self._record_ids(), self._named(fields))

    def to_batches(
        self, rows: int = limits.BATCH_ROWS, fields: Iterable[str] = ()
    ) -> pa.RecordBatchReader:
        """Return the same as `to_arrow` in pieces, of which one is in memory at a time.

        Parameters
        ----------
        rows
            How many records a piece has at most. It has fewer where the payload of that many would
            be more than 64 MiB; a single record may be larger.
        fields
            As in `to_arrow`.

        Returns
        -------
        pyarrow.RecordBatchReader
            An iterator of record batches, to be read once.
        """
        if operator.index(rows) < 1:
            raise ValueError(f"batches of {rows} rows")
        chosen = self._named(fields)
        batches = self._each_batch(self._record_ids(), rows, chosen)
        return pa.RecordBatchReader.from_batches(self._schema_with(chosen), batches)

    def _each_batch(
        self, ids: range | Ids, rows: int, fields: Sequence[Field]
    ) -> Iterator[pa.RecordBatch]:
        for some in portions(self._source, ids, fields, rows):
            yield from self._table(some, fields).to_batches()

    def _named(self, fields: Iterable[str]) -> list[Field]:
        if isinstance(fields, str):
            raise TypeError(f"give the fields as a list: [{fields!r}]")
        return [self._source.schema.field(name) for name in dict.fromkeys(fields)]

    def _table(self, ids: range | Ids, fields: Sequence[Field]) -> pa.Table:
        metadata = self._source.metadata(ids, self._columns)
        columns = [
            pa.chunked_array(arrays, column.kind.arrow)
            for column, arrays in zip(self._columns, metadata, strict=True)
        ]
        payload = [self._payload(ids, field) for field in fields]
        return pa.Table.from_arrays(
            [int64_array(as_array(ids)), *columns, *payload], schema=self._schema_with(fields)
        )

    def _payload(self, ids: range | Ids, field: Field) -> pa.Array:
        if not field.is_sequence:
            return self._source.bodies(as_array(ids), field).copied()
        items = [self._source.items(int(record), field) for record in ids]
        return pa.array(items, _arrow_field(field).type)

    def to_pandas(
        self, fields: Iterable[str] = (), *, dtype_backend: Literal["pyarrow"] | None = None
    ) -> pd.DataFrame:
        """Return the record ids and the metadata as a pandas DataFrame.

        Parameters
        ----------
        fields
            As in `to_arrow`.
        dtype_backend
            ``"pyarrow"`` for columns of the declared Arrow types, as in pandas' own readers; NaN
            and missing values stay apart then, and integers with missing values stay integers. By
            default NumPy's types.

        Raises
        ------
        MissingPackageError
            pandas is not installed.
        """
        if dtype_backend not in (None, "pyarrow"):
            raise ValueError(f'dtype_backend is "pyarrow" or None, not {dtype_backend!r}')
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingPackageError(
                "this needs pandas: pip install 'sqlstore[pandas]'"
            ) from error
        mapper = None if dtype_backend is None else pd.ArrowDtype
        frame: pd.DataFrame = self.to_arrow(fields).to_pandas(types_mapper=mapper)
        return frame

    def to_polars(self, fields: Iterable[str] = ()) -> pl.DataFrame:
        """Return the record ids and the metadata as a polars DataFrame.

        Parameters
        ----------
        fields
            As in `to_arrow`.

        Raises
        ------
        MissingPackageError
            polars is not installed.
        """
        try:
            import polars as pl
        except ImportError as error:
            raise MissingPackageError(
                "this needs polars: pip install 'sqlstore[polars]'"
            ) from error
        return pl.DataFrame(self.to_arrow(fields))

    def export(
        self,
        path: StrPath,
        *,
        format: str | None = None,  # noqa: A002 - the word that people look for
        fields: Iterable[str] = (),
        overwrite: bool = False,
    ) -> Exported:
        """Write the record ids and the metadata to a Parquet, CSV or Arrow file, piece by piece.

        The file appears under its name when it is complete.

        Parameters
        ----------
        path
            The file.
        format
            ``"parquet"``, ``"csv"`` or ``"arrow"``; by default the suffix tells.
        fields
            As in `to_arrow`; not for CSV.
        overwrite
            Replace a file that is there.

        Returns
        -------
        Exported
            How much was written.

        Raises
        ------
        FileExistsError
            There is a file.
        ExportError
            The suffix tells no format, or the place is inside the store.
        """
        batches = self.to_batches(fields=fields)
        root = self._source.root
        return tables.write(root, batches, len(self), path, format, overwrite=overwrite)

    def export_webdataset(
        self,
        pattern: str,
        *,
        key: str | None = None,
        maxcount: int = 100_000,
        maxsize: int = 3 * limits.GiB,
        overwrite: bool = False,
    ) -> Exported:
        """Write tar files for WebDataset, with a sample for each record.

        A sample has the metadata as ``KEY.json``, and a file such as ``KEY.image.jpg`` for each
        field that the view selects and that has a value; for each item of a sequence, one such as
        ``KEY.frames.000032.jpg``. Arrays become ``.npy`` files and integers text; all else is
        written as its encoding made it. The files appear under their names when all are complete.

        Parameters
        ----------
        pattern
            The path, with a place for the number of the file, such as ``"birds-%06d.tar"``.
        key
            The column that names samples: text without dots, or integers, without repeats. By
            default the record id.
        maxcount, maxsize
            How many samples and bytes a file has at most; a single sample may be larger.
        overwrite
            Replace files that are there, and remove those behind the last one.

        Raises
        ------
        FileExistsError
            There is a file already.
        ExportError
            A value of ``key`` cannot name a sample, or the pattern no files.
        """
        layout = webdataset.Layout(pattern, key, maxcount, maxsize)
        chosen = self._record_ids(), self._fields, self._columns
        return webdataset.write(self._source, *chosen, layout, overwrite=overwrite)

    def export_store(self, path: StrPath) -> Exported:
        """Write the records to a new store, in this order, with only what the view selects.

        Values are copied as they are stored, compressed and encoded, once their checksums are
        right. Record ids count from 0. The store is there when it is complete.

        Parameters
        ----------
        path
            The folder of the new store; an empty one may be there.

        Raises
        ------
        StoreExistsError
            Something lies at the path.
        DuplicateKeyError
            The view has a record twice, and selects the key.
        ChecksumError
            A value is not what was written.
        """
        chosen = self._record_ids(), self._fields, self._columns
        return stores.copy(self._source, *chosen, path)

    def describe(self) -> Description:
        """Return what is in the columns and fields: counts, distributions and sizes.

        Records that the view has twice count twice. No payload is read.

        Returns
        -------
        Description
            As text by ``str()``, as JSON by `Description.to_json`, and as a picture by
            `Description.plot`.
        """
        return described(self._source, self._record_ids(), self._fields, self._columns)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the metadata as an Arrow stream, read piece by piece.

        So ``pyarrow.table(view)``, ``polars.DataFrame(view)`` and ``duckdb.sql("FROM view")`` work.
        """
        return self.to_batches().__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> Any:
        """Return the schema of that stream, so that ``pyarrow.schema(view)`` works."""
        return self.arrow_schema.__arrow_c_schema__()


def _arrow_field(field: Field) -> pa.Field:
    kind = pa.large_list(pa.large_binary()) if field.is_sequence else pa.large_binary()
    return pa.field(field.name, kind, metadata={_ENCODING: field.encoding})
