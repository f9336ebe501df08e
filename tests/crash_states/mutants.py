"""Bugs in the protocol, put in on purpose: each must be found by the suite, or it is too weak.

They are patches in the process that is recorded; the library has no options for them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from unittest import mock

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from sqlstore import recover
from sqlstore.compaction import compacting
from sqlstore.index import engine
from sqlstore.index.engine import Index
from sqlstore.log import files
from sqlstore.log.writer import ChunkWriter
from sqlstore.maintenance import migrate
from sqlstore.source import Source

Acknowledge: TypeAlias = Callable[[], None]
Patch: TypeAlias = AbstractContextManager[object]


@dataclass(frozen=True)
class Mutant:
    """What is broken, and the workload that shows it.

    Attributes
    ----------
    broken
        Given what acknowledges the next state: the patch.
    """

    workload: str
    broken: Callable[[Acknowledge], Patch]


def applied(name: str | None, acknowledge: Acknowledge) -> Patch:
    """Break the library inside the block, if a mutant is named."""
    return contextlib.nullcontext() if name is None else MUTANTS[name].broken(acknowledge)


def _without(*names: str) -> Callable[[Acknowledge], Patch]:
    """Let functions of `files` do nothing."""

    def broken(_: Acknowledge) -> Patch:
        stack = ExitStack()
        for name in names:
            stack.enter_context(mock.patch.object(files, name, return_value=None))
        return stack

    return broken


def _with_setting(name: str, value: str) -> Callable[[Acknowledge], Patch]:
    """Let connections that write have another setting."""
    kept = [one for one in engine._WRITE_SETTINGS if not one.startswith(f"{name} ")]
    settings = (*kept, f"{name} = {value}")
    return lambda _: mock.patch.object(engine, "_WRITE_SETTINGS", settings)


@contextmanager
def _acknowledged_early(acknowledge: Acknowledge) -> Iterator[None]:
    real = ChunkWriter.write_trailer

    def write_trailer(self: ChunkWriter, trailer: Any) -> None:
        acknowledge()
        real(self, trailer)

    with mock.patch.object(ChunkWriter, "write_trailer", write_trailer):
        yield


@contextmanager
def _trailer_before_table(_: Acknowledge) -> Iterator[None]:
    """Write the rest of the segment when the trailer is there already."""
    real_write, real_trailer = ChunkWriter.write, ChunkWriter.write_trailer
    late: list[tuple[Any, ...]] = []

    def keep(_: ChunkWriter, *given: Any) -> None:
        late.append(given)

    def write_trailer(self: ChunkWriter, trailer: Any) -> None:
        real_trailer(self, trailer)
        real_write(self, *late.pop())

    with (
        mock.patch.object(ChunkWriter, "write", keep),
        mock.patch.object(ChunkWriter, "write_trailer", write_trailer),
        mock.patch.object(files, "sync_data", return_value=None),
    ):
        yield


@contextmanager
def _index_before_trailer(_: Acknowledge) -> Iterator[None]:
    real_trailer, real_commit = ChunkWriter.write_trailer, Index.commit
    late: list[tuple[ChunkWriter, Any]] = []

    def commit(self: Index) -> None:
        real_commit(self)
        while late:
            real_trailer(*late.pop())

    with (
        mock.patch.object(ChunkWriter, "write_trailer", lambda *given: late.append(given)),
        mock.patch.object(Index, "commit", commit),
    ):
        yield


@contextmanager
def _roll_forward_without(*names: str) -> Iterator[None]:
    real = recover._roll_forward

    def roll_forward(*given: Any) -> Any:
        with _without(*names)(lambda: None):
            return real(*given)

    with mock.patch.object(recover, "_roll_forward", roll_forward):
        yield


def _copy_unsynced(self: Index, path: Path) -> None:
    with self.mutex, contextlib.closing(sqlite3.connect(path)) as copy:
        copy.execute("PRAGMA synchronous = OFF")
        self.connection.backup(copy, pages=-1)


@contextmanager
def _removed_before_the_checkpoint(_: Acknowledge) -> Iterator[None]:
    real = compacting._commit_checkpoint

    def commit(source: Source, *given: Any) -> None:
        names = {row.chunk: row.name for row in given[2].present()}
        files.remove_chunks(source.root, [names[number] for number in given[4]])
        real(source, *given)

    with mock.patch.object(compacting, "_commit_checkpoint", commit):
        yield


@contextmanager
def _each_statement_by_itself(index: Index) -> Iterator[Connection]:
    driver = index.connection
    engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool)
    with engine.connect() as connection:
        yield connection


def _nothing_settled(_: Acknowledge) -> Patch:
    return mock.patch.object(recover, "settle", return_value=None)


MUTANTS: Final = {
    "bodies and table not synced": Mutant("append", _without("sync_data")),
    "trailer not synced": Mutant("append", _without("sync_file")),
    "name of a new chunk not synced": Mutant("roll-over", _without("sync_folder")),
    "trailer before table": Mutant("append", _trailer_before_table),
    "index before trailer": Mutant("append", _index_before_trailer),
    "acknowledged early": Mutant("append", _acknowledged_early),
    "index: synchronous FULL": Mutant("append", _with_setting("synchronous", "FULL")),
    "index: synchronous NORMAL": Mutant("append", _with_setting("synchronous", "NORMAL")),
    "index: synchronous OFF": Mutant("update", _with_setting("synchronous", "OFF")),
    "index: no journal": Mutant("delete", _with_setting("journal_mode", "OFF")),
    "index: journal in memory": Mutant("columns", _with_setting("journal_mode", "MEMORY")),
    "nothing rolled forward": Mutant("roll-forward", _nothing_settled),
    "rolled forward unsynced": Mutant("roll-forward", lambda _: _roll_forward_without("sync_file")),
    "new store: log not synced": Mutant("create", _without("sync_data", "sync_file")),
    "new store: names not synced": Mutant("create", _without("sync_folder")),
    "new store: index not synced": Mutant("create", _with_setting("synchronous", "OFF")),
    "rebuilt index not synced": Mutant("rebuild", _with_setting("synchronous", "OFF")),
    "copy of a snapshot not synced": Mutant(
        "names", lambda _: mock.patch.object(Index, "copy_to", _copy_unsynced)
    ),
    "name of a snapshot not synced": Mutant("names", _without("sync_folder")),
    "migration: no transaction": Mutant(
        "migrate", lambda _: mock.patch.object(migrate, "_transaction", _each_statement_by_itself)
    ),
    "migration: synchronous OFF": Mutant("migrate", _with_setting("synchronous", "OFF")),
    "compaction: chunks removed first": Mutant("compact", _removed_before_the_checkpoint),
    "compaction: copies not synced": Mutant("compact", _without("sync_data")),
}
