"""How a store comes to be: in a temporary folder beside its place, then renamed into it."""

from __future__ import annotations

import errno
import secrets
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from sqlstore import replay
from sqlstore.errors import StorageError, StoreExistsError
from sqlstore.identity import Identity
from sqlstore.index.engine import INDEX_NAME
from sqlstore.log import files
from sqlstore.log.chain import Link
from sqlstore.log.lock import WriterLock
from sqlstore.log.segment import NO_COMMIT, CommitKind, Trailer, align
from sqlstore.log.table import build_schema
from sqlstore.log.writer import ChunkWriter
from sqlstore.schema import Schema
from sqlstore.version import __version__


@contextmanager
def founded(target: Path, schema: Schema, chunk_size: int) -> Iterator[Path]:
    """Give the folder of a store without records, which takes its place when the block is left.

    Whatever is written to it in between is there together with it, or not at all.

    Raises
    ------
    StoreExistsError
        Something lies at its place.
    """
    folder = target.parent / f".{target.name}.{secrets.token_hex(4)}.creating"
    new_parents = [parent for parent in target.parents if not parent.exists()]
    with files.storage_errors("create", folder):
        (folder / files.CHUNKS_FOLDER).mkdir(parents=True)
    for parent in new_parents:
        files.sync_folder(parent.parent)
    try:
        _begin(folder, schema, chunk_size)
        yield folder
        _rename(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def check_free(target: Path) -> None:
    """Raise if something lies where a store is to be."""
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise _exists(target)


def _exists(target: Path) -> StoreExistsError:
    return StoreExistsError(
        f'something lies at {target} already; to append to a store, open it with mode="a"'
    )


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
