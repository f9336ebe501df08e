"""Take over chunk files of other stores, of which nothing else is left or at hand."""

from __future__ import annotations

import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from sqlstore import limits
from sqlstore.errors import CorruptChunkError, MergeError, SqlstoreError, StorageError
from sqlstore.log import chain, files
from sqlstore.log.reader import ChunkReader
from sqlstore.maintenance.rebuild import rebuild
from sqlstore.merging.merge import append, part_of
from sqlstore.merging.parts import Choices, Merged
from sqlstore.source import Source
from sqlstore.types import StrPath


def adopt(target: Source, chunks: Sequence[StrPath], choices: Choices) -> Merged:
    """Append the records of stores of which there are all chunk files; see `Store.adopt`."""
    target.check_open()
    target.check_writable()
    if not chunks:
        raise TypeError("adopt() takes at least one chunk file")
    given: dict[str, Path] = {}
    with (
        _named_as_given(given),
        _gathered(target, [Path(chunk) for chunk in chunks], given) as stores,
        ExitStack() as opened,
    ):
        for folder, name in stores.items():
            with _named(name):
                rebuild(folder)
        parts = [part_of(folder, name, opened) for folder, name in stores.items()]
        return append(target, parts, choices)


@contextmanager
def _named_as_given(given: Mapping[str, Path]) -> Iterator[None]:
    """Let errors call a chunk what the caller calls it."""
    try:
        yield
    except SqlstoreError as error:
        chunk = given.get(str(error.where.get("chunk")))
        if chunk is not None:
            error.where["chunk"] = str(chunk)
        raise


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Let errors that name no chunk say which store they are about."""
    try:
        yield
    except SqlstoreError as error:
        if "chunk" not in error.where:
            error.where["source"] = name
        raise


@contextmanager
def _gathered(
    target: Source, chunks: Sequence[Path], given: dict[str, Path]
) -> Iterator[dict[Path, str]]:
    """Give a temporary folder for each store that some chunks are of, with what errors call it.

    The chunks are hard links where the file system allows it: nothing is written to them.
    """
    folder = target.root.parent / f".{target.root.name}.{secrets.token_hex(4)}.adopting"
    with files.storage_errors("create", folder):
        (folder / files.CHUNKS_FOLDER).mkdir(parents=True)
    try:
        yield _sorted(target, folder, chunks, given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sorted(
    target: Source, folder: Path, chunks: Sequence[Path], given: dict[str, Path]
) -> dict[Path, str]:
    stores: dict[Path, str] = {}
    with closing(ChunkReader(folder)) as reader:
        for number, chunk in enumerate(chunks):
            name = chunk.name
            if name in given or not files.CHUNK_NAME.fullmatch(name):
                name = f"{number:06d}-{secrets.token_hex(4)}.chunk"
            given[name] = chunk
            if chunk.is_dir():
                raise MergeError(f"{chunk} is a folder; give the chunk files that are in it")
            linked = files.chunk_path(folder, name)
            _refuse_no_chunk(chunk)
            files.link_or_copy(chunk, linked)
            try:
                store = reader.header(name).store
            except CorruptChunkError:
                if chain.mentions_commit(reader, name):
                    raise
                continue  # begun and never committed to
            if store == target.store:
                raise MergeError(f"{chunk} is a chunk of the target itself, {target.root}")
            into = folder / str(store)
            stores.setdefault(into, f"the store of {chunk}")
            with files.storage_errors("create", into):
                (into / files.CHUNKS_FOLDER).mkdir(parents=True, exist_ok=True)
                linked.rename(files.chunk_path(into, name))
    if not stores:
        raise MergeError(
            "none of these files holds a commit; chunk files are those in the folder "
            f"{files.CHUNKS_FOLDER} of a store"
        )
    return stores


def _refuse_no_chunk(path: Path) -> None:
    """Raise if a file cannot be a chunk: what it leads to may be none of its sender's."""
    with files.storage_errors("open", path):
        status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise StorageError(f"{path} is a link; name the file that it leads to")
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(f"{path} is no file")
    if status.st_size > limits.MAX_CHUNK_BYTES:
        raise StorageError(f"{path} has {status.st_size} bytes, which no chunk has")
