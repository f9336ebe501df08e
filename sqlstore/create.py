"""Create a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sqlstore import inference, limits
from sqlstore.encodings import Encodings, OwnEncoding
from sqlstore.errors import DuplicateKeyError, SchemaError
from sqlstore.founding import check_free, founded
from sqlstore.schema import Column, Field, declare
from sqlstore.store import Store, opened
from sqlstore.types import StrPath
from sqlstore.writer import Writer


def create(  # noqa: PLR0913 - all that a store is made of, by name
    path: StrPath,
    records: Any = None,
    *,
    fields: Mapping[str, str | Field] | None = None,
    metadata: Mapping[str, str | pa.DataType | Column] | None = None,
    key: str | None = None,
    compression: str | None = "lz4",
    chunk_size: int = limits.DEFAULT_CHUNK_SIZE,
    encodings: Mapping[str, OwnEncoding] | None = None,
    allow_pickle: bool = False,
) -> Store:
    """Create a store and open it for appending.

    Parameters
    ----------
    path
        The folder to create; an empty one may be there.
    records
        What to store, as `Store.extend` takes it. What is not declared for it is inferred from the
        first 1,000, or 64 MiB, as by `infer`. The store is there when all of them are in it, and
        not before.
    fields
        Encoding by field name, or a `Field`: what lies in chunks.
    metadata
        Type by column name, or a `Column`: what lies in SQLite and can be queried.
    key
        A metadata column whose values are unique, or None.
    compression
        ``"lz4"``, ``"zstd"``, ``"gzip"``, ``"dictionary"`` or None, for fields that do not say
        otherwise. A value that does not get smaller is kept as it is.
    chunk_size
        Bytes, below 2 GiB: where the next chunk file begins.
    encodings, allow_pickle
        As in `open`.

    Raises
    ------
    StoreExistsError
        Something lies at the path.
    SchemaError
        A name, type, encoding or compression is not valid, or a record does not fit.
    """
    if not limits.MIN_CHUNK_SIZE <= chunk_size <= limits.MAX_CHUNK_SIZE:
        raise SchemaError(
            f"a chunk_size of {chunk_size} bytes; it is between {limits.MIN_CHUNK_SIZE} and "
            f"{limits.MAX_CHUNK_SIZE}"
        )
    own = Encodings(encodings, allow_pickle=allow_pickle)
    target = Path(path).absolute()
    check_free(target)
    fields, metadata = fields or {}, metadata or {}
    if records is not None:
        sample, records = inference.peeked(records, inference.FIRST)
        fields, metadata = inference.completed(sample, fields, metadata)
    schema = declare(fields, metadata, key, compression, own)
    if not schema.names:
        raise SchemaError("a store needs at least one field or metadata column")
    with founded(target, schema, chunk_size) as folder:
        if records is not None:
            _extend(folder, records, own)
    return opened(target, "a", own)


def _extend(folder: Path, records: Any, encodings: Encodings) -> None:
    try:
        with Writer(folder, lambda _: None, encodings) as writer:
            writer.extend(records)
    except DuplicateKeyError:
        raise
    except SchemaError as error:
        error.add_note(
            "What is not declared was inferred from the first 1,000 records, or 64 MiB of them; "
            "what others need is declared by `fields` and `metadata`."
        )
        raise
