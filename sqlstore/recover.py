"""What a crash leaves behind, and how the next one to come puts it right.

A commit exists from the moment its trailer is durable. A crash after that and before SQLite's
COMMIT leaves an index that lacks it; it is rolled forward along the chain. A crash inside the
COMMIT leaves a hot journal, which SQLite rolls back itself, on a connection that may write.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sqlstore.errors import (
    CorruptChunkError,
    IndexBehindLogError,
    ReadOnlyError,
    StorageError,
    StoreTooNewError,
    TruncatedChunkError,
)
from sqlstore.index import records
from sqlstore.index.engine import INDEX_NAME, HotJournalError, Index
from sqlstore.log import chain, files
from sqlstore.log.chain import Link
from sqlstore.log.lock import WriterLock, text_of
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, TRAILER_SIZE
from sqlstore.replay import insert_from_log
from sqlstore.schema import Schema


def open_index_to_read(root: Path, *, mapped: bool = False) -> Index:
    """Open the index for reading; an interrupted transaction is rolled back first.

    Parameters
    ----------
    mapped
        As in `Index`.

    Raises
    ------
    ReadOnlyError
        One has to be rolled back, and the folder cannot be written.
    """
    path = root / INDEX_NAME
    try:
        index = _probed(path, mapped=mapped)
    except HotJournalError:
        _roll_back_journal(root)
        index = _probed(path, mapped=mapped)
    index.roll_back = lambda: _roll_back_journal(root)
    return index


def _probed(path: Path, *, mapped: bool) -> Index:
    index = Index(path, mapped=mapped)
    try:
        index.rows("SELECT 1 FROM sqlite_schema LIMIT 1")
    except BaseException:
        index.close()
        raise
    return index


def _roll_back_journal(root: Path) -> None:
    try:
        lock = WriterLock(root)
        try:
            with lock.held(), contextlib.ExitStack() as stack:
                index = Index(root / INDEX_NAME, write=True)
                stack.callback(index.close)
                stack.enter_context(index.transaction())  # beginning one rolls the journal back
        finally:
            lock.close()
    except (StorageError, ReadOnlyError, HotJournalError) as error:
        if isinstance(error, StorageError) and os.access(root, os.W_OK):
            raise  # the disk fails or is full
        raise ReadOnlyError(
            f"{root} holds an interrupted transaction, and rolling it back needs write permission; "
            "open the store once from where it can be written"
        ) from error


def end_wal(root: Path) -> None:
    """Give the index its rollback journal again, if another tool has put it into WAL mode.

    To be called before anything is opened for writing: no commit could happen while the same
    process reads the index by another connection.

    Raises
    ------
    StoreBusyError
        Somebody has the index open.
    """
    with contextlib.closing(open_index_to_read(root)) as index:
        has_wal = index.has_wal()
    if has_wal:
        with contextlib.closing(WriterLock(root)) as lock, lock.held():
            Index(root / INDEX_NAME, write=True).close()  # opening it so does all


def refuse_behind(index: Index, reader: ChunkReader) -> None:
    """Raise if the index is an older copy than the chunks; a single commit may be under way.

    Raises
    ------
    IndexBehindLogError
        The chunks hold two commits or more that the index lacks.
    """
    complete = text_of(reader.root).last
    if index.is_replaced():
        index.reopen()
    grown = (_last_number(reader, name) for name in _grown_chunks(index, reader.root))
    newest = max(complete, max(grown, default=0))
    known = records.last_commit(index).number
    if newest > known + 1:
        raise IndexBehindLogError(
            f"index.sqlite ends at commit {known}, the chunks hold commit {newest}: it is an older "
            f"copy; run `sqlstore rebuild {reader.root}`"
        )


def _last_number(reader: ChunkReader, name: str) -> int:
    """Return the number of the commit that a chunk ends with, or 0 if it does not end with one."""
    with contextlib.suppress(CorruptChunkError, StoreTooNewError):
        end = reader.size(name)
        trailer = reader.trailer(name, end - TRAILER_SIZE, reader.header(name).chunk)
        return trailer.number if trailer is not None else 0
    return 0


def settle(
    index: Index,
    schema: Schema,
    reader: ChunkReader,
    lock: WriterLock,
    *,
    thorough: bool,
    own: str | None,
) -> None:
    """Bring the index up to the log. The writer lock must be held.

    Parameters
    ----------
    thorough
        Look at every chunk that may hold more than the index knows, not only at the one that the
        lock file names: the lock file is not synced, so a power failure may have emptied it, and
        the index may be an older copy.
    own
        A chunk that need not be looked at, since the caller knows what it has written to it.

    Raises
    ------
    IndexBehindLogError
        The log holds commits that do not connect to the index.
    """
    text = lock.text()
    pending = text.pending
    names: set[str] = set()
    if thorough or text.last > records.last_commit(index).number:
        names = set(_grown_chunks(index, reader.root)) - {own}
    if pending is not None:
        names.add(pending.chunk)
    missing, unconnected = _missing_links(index, reader, sorted(names))
    if unconnected:
        link = unconnected[0]
        raise IndexBehindLogError(
            f"commit {link.trailer.number} is in the log, but the index ends at "
            f"{records.last_commit(index).number} and the commits between are not to be found; "
            f"run `sqlstore rebuild {reader.root}`",
            chunk=link.chunk,
            offset=link.trailer.table_end,
        )
    for link in missing:
        schema = _roll_forward(index, schema, reader, link)
    known = records.last_commit(index).number
    if known < text.last:
        raise IndexBehindLogError(
            f"the index ends at commit {known}, the last was {text.last}, and the commits between "
            f"are not to be found; run `sqlstore verify {reader.root}`"
        )
    if pending is not None:
        with index.transaction():
            records.seal_chunk(index, pending.chunk)
            index.commit()
        lock.clear_pending(records.last_commit(index).number)


def _grown_chunks(index: Index, root: Path) -> list[str]:
    """Return the chunks that are not as the index knows them."""
    sizes = records.chunk_sizes(index)
    return [
        name
        for name in files.chunk_names(root)
        if (size := sizes.get(name, -1)) is not None and files.chunk_size(root, name) != size
    ]


def _missing_links(
    index: Index, reader: ChunkReader, names: list[str]
) -> tuple[list[Link], list[Link]]:
    links: list[Link] = []
    for name in names:
        row = records.chunk_named(index, name)
        if files.chunk_size(reader.root, name) is None:
            continue
        try:
            header = reader.header(name)
        except (CorruptChunkError, StoreTooNewError):
            if row is not None:
                raise
            continue  # begun and never committed to
        start = row.size if row else HEADER_SIZE
        try:
            walk = chain.walk(reader, name, header.chunk, start)
        except TruncatedChunkError:  # its writer, who is alive, took back what it had begun
            walk = chain.walk(reader, name, header.chunk, start)
        links += walk.links
    last = records.last_commit(index)
    commit = records.parsed_uuid(last.uuid, index.path)
    return chain.follow(links, last.number, commit, last.first_record + last.records)


def _roll_forward(index: Index, schema: Schema, reader: ChunkReader, link: Link) -> Schema:
    """Do what the writer of a commit could not do any more; return the schema after it."""
    path = files.chunk_path(reader.root, link.chunk)
    descriptor = files.open_to_append(path)
    try:
        files.sync_file(descriptor, path)
    finally:
        files.close(descriptor)
    files.sync_folder(path.parent)
    with index.transaction():
        schema = insert_from_log(index, schema, reader, link.chunk, link.trailer, sealed=True)
        index.commit()
    return schema
