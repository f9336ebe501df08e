"""Create a store: in a temporary folder beside its place, then renamed into it."""

from __future__ import annotations

import errno
import secrets
import shutil
import time
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sqlstore import inference, limits, replay
from sqlstore.encodings import Encodings, OwnEncoding
from sqlstore.errors import DuplicateKeyError, SchemaError, StorageError, StoreExistsError
from sqlstore.identity import Identity
from sqlstore.index.engine import INDEX_NAME
from sqlstore.log import files
from sqlstore.log.chain import Link
from sqlstore.log.lock import WriterLock
from sqlstore.log.segment import NO_COMMIT, CommitKind, Trailer, align
from sqlstore.log.table import build_schema
from sqlstore.log.writer import ChunkWriter
from sqlstore.schema import Column, Field, Schema, declare
from sqlstore.store import Store, opened
from sqlstore.types import StrPath
from sqlstore.version import __version__
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
    _check_free(target)
    fields, metadata = fields or {}, metadata or {}
    if records is not None:
        sample, records = inference.peeked(records, inference.FIRST)
        fields, metadata = inference.completed(sample, fields, metadata)
    schema = declare(fields, metadata, key, compression, own)
    if not schema.names:
        raise SchemaError("a store needs at least one field or metadata column")
    folder = target.parent / f".{target.name}.{secrets.token_hex(4)}.creating"
    new_parents = [parent for parent in target.parents if not parent.exists()]
    with files.storage_errors("create", folder):
        (folder / files.CHUNKS_FOLDER).mkdir(parents=True)
    for parent in new_parents:
        files.sync_folder(parent.parent)
    try:
        _begin(folder, schema, chunk_size)
        if records is not None:
            _extend(folder, records, own)
        _rename(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return opened(target, "a", own)


def _check_free(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise _exists(target)


def _exists(target: Path) -> StoreExistsError:
    return StoreExistsError(
        f'something lies at {target} already; to append to a store, open it with mode="a"'
    )


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


def _begin(folder: Path, schema: Schema, chunk_size: int) -> None:
    """Write the first commit of the log, and the index that follows from it."""
    store = uuid.uuid4()
    settings = {"chunk_size": chunk_size, "library_version": __version__}
    table = build_schema(schema, settings)
    chunk = ChunkWriter.create(folder, store, 0)
    try:
        trailer = _first_trailer(chunk.size, table)
        chunk.write([], chunk.size, table)
        chunk.write_trailer(trailer)
        chunk.committed(trailer)
    finally:
        chunk.close()
    link = Link(chunk.name, trailer)
    identity = Identity(store, schema, chunk_size, __version__, trailer.committed_at)
    replay.create_index(folder / INDEX_NAME, identity, link, chunk.chunk).close()
    WriterLock(folder).close()
    files.sync_folder(folder)


def _first_trailer(start: int, table: pa.Buffer) -> Trailer:
    return Trailer(
        kind=CommitKind.CREATE,
        skippable=False,
        schema_version=0,
        number=1,
        commit=uuid.uuid4(),
        previous=NO_COMMIT,
        first_record=0,
        records=0,
        committed_at=time.time_ns() // 1000,
        chunk=0,
        bodies_start=start,
        bodies_end=start,
        table_start=align(start),
        table_end=align(start) + table.size,
        table_crc=zlib.crc32(table),
    )


def _rename(folder: Path, target: Path) -> None:
    try:
        with files.storage_errors("create", target):
            folder.rename(target)  # onto an empty folder or nothing, else it fails
    except StorageError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _exists(target) from error
        raise
    files.sync_folder(target.parent)
