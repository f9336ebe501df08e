"""Take over chunk files of other stores, of which nothing else is left or at hand."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from sqlstore.errors import CorruptChunkError, MergeError
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
    with _gathered(target, [Path(chunk) for chunk in chunks]) as stores, ExitStack() as opened:
        for folder in stores:
            rebuild(folder)
        parts = [part_of(folder, f"store {folder.name}", opened) for folder in stores]
        return append(target, parts, choices)


@contextmanager
def _gathered(target: Source, chunks: Sequence[Path]) -> Iterator[list[Path]]:
    """Give a temporary folder for each store that some chunks are of, named by its uuid.

    The chunks are hard links where the file system allows it: nothing is written to them.
    """
    folder = target.root.parent / f".{target.root.name}.{secrets.token_hex(4)}.adopting"
    with files.storage_errors("create", folder):
        (folder / files.CHUNKS_FOLDER).mkdir(parents=True)
    try:
        yield _sorted(target, folder, chunks)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sorted(target: Source, folder: Path, chunks: Sequence[Path]) -> list[Path]:
    stores: dict[Path, None] = {}
    taken: set[str] = set()
    with closing(ChunkReader(folder)) as reader:
        for number, chunk in enumerate(chunks):
            name = chunk.name
            if name in taken or not files.CHUNK_NAME.fullmatch(name):
                name = f"{number:06d}-{secrets.token_hex(4)}.chunk"
            taken.add(name)
            linked = files.chunk_path(folder, name)
            files.link_or_copy(Path(os.path.realpath(chunk)), linked)
            try:
                store = reader.header(name).store
            except CorruptChunkError:
                if chain.mentions_commit(reader, name):
                    raise
                continue  # begun and never committed to
            if store == target.store:
                raise MergeError(f"{chunk} is a chunk of the target itself, {target.root}")
            into = folder / str(store)
            stores[into] = None
            with files.storage_errors("create", into):
                (into / files.CHUNKS_FOLDER).mkdir(parents=True, exist_ok=True)
                linked.rename(files.chunk_path(into, name))
    if not stores:
        raise MergeError("none of these files was ever committed to")
    return list(stores)
