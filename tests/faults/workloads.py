"""The short programs, and what a store must hold after each of their commits."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import sqlstore
from sqlstore.cache.folder import CACHE_NAME
from sqlstore.index.engine import INDEX_NAME
from tests.compacted import compact
from tests.processes import Batch, append, is_free, new_store, records_of
from tests.tracing import Call, Kill, Template

Contents: TypeAlias = dict[str, dict[str, Any]]
"""Records by their names."""

Done: TypeAlias = Callable[[], None]
"""Called by a program when a commit has returned."""

STORE: Final = "store"
SNAPSHOT: Final = "v1"
_CHUNK: Final = 16 * sqlstore.KiB
_SIZE: Final = 2500  # so that a few batches fill a chunk
_OLD: Final = [(0, 0), (0, 1)]
_NEW: Final = [(1, 0), (1, 1), (1, 2), (1, 3)]


@dataclass(frozen=True)
class Workload:
    """A program whose calls are disturbed.

    Attributes
    ----------
    prepare
        Makes what it finds, at a path that is free.
    run
        Works on the store at that path.
    states
        What there must be before it, and after each of its commits; None is no store.
    pending
        What is durable before it, but not in the index yet.
    snapshot
        Which of its commits takes a snapshot, counted from 1.
    errors
        What it may raise.
    mend
        What a person has to do when it was cut short; nothing, but for a rebuild.
    """

    prepare: Callable[[Path, Template], None]
    run: Callable[[Path, Done], None]
    states: Sequence[Contents | None]
    pending: Contents = field(default_factory=dict)
    snapshot: int | None = None
    errors: tuple[type[Exception], ...] = (sqlstore.StorageError,)
    mend: Callable[[Path], object] = lambda _: None


def contents(path: Path) -> Contents | None:
    """Return what a store holds, or None if there is no store."""
    try:
        with sqlstore.open(path) as store:
            return {record["name"]: record for record in store}
    except sqlstore.StoreNotFoundError:
        return None


def snapshot_contents(path: Path) -> Contents | None:
    """Return what the snapshot shows, or None if there is none."""
    try:
        with sqlstore.open(path, snapshot=SNAPSHOT) as store:
            return {record["name"]: record for record in store}
    except sqlstore.SnapshotNotFoundError:
        return None


def of(*batches: Batch, size: int = _SIZE) -> Contents:
    """Return what batches consist of."""
    return {r["name"]: r for batch in batches for r in records_of(batch, 2, size)}


def prepare(path: Path, *batches: Batch) -> None:
    """Make a store with chunks that are soon full."""
    new_store(path, _CHUNK)
    if batches:
        append(path, *batches, count=2, size=_SIZE)


@contextmanager
def _last(writer: sqlstore.Writer, path: Path) -> Iterator[None]:
    """Check that a writer that meets a failing disk goes no further, and holds nobody up."""
    try:
        yield
    except sqlstore.StorageError:
        for go_on in (writer.commit, lambda: writer.append({})):
            with contextlib.suppress(sqlstore.StoreClosedError):
                go_on()
                raise AssertionError("the writer goes on after an error of the disk") from None
        with contextlib.suppress(OSError):  # which may be met here as well
            assert is_free(path / "writer.lock"), "the lock is held after an error of the disk"
        raise


def _commit(path: Path, done: Done, batches: Sequence[Batch]) -> None:
    with sqlstore.open(path, "a") as store, contextlib.closing(store.writer()) as writer:
        for batch in batches:
            with _last(writer, path):
                writer.extend(records_of(batch, 2, _SIZE))
                writer.commit()
            done()


# The first commits of a store, of which one goes into a new chunk

_append = Workload(
    lambda path, _: prepare(path),
    lambda path, done: _commit(path, done, _NEW),
    [of(*_NEW[:count]) for count in range(len(_NEW) + 1)],
)


# Edits, and a snapshot of them


def _edit(path: Path, done: Done) -> None:
    with sqlstore.open(path, "a") as store:
        store.where("batch = 0").update(position=7)
        done()
        store.where("batch = 1 AND position = 0").replace("payload", [b"new"])
        done()
        store.where("batch = 1 AND position = 1").delete()
        done()
        store.snapshot(SNAPSHOT)
        done()


def _edited() -> list[Contents]:
    before = of(*_OLD)
    moved = {name: r | {"position": 7} if r["batch"] == 0 else r for name, r in before.items()}
    replaced = moved | {"0/1/0": moved["0/1/0"] | {"payload": b"new"}}
    deleted = {name: record for name, record in replaced.items() if name != "0/1/1"}
    return [before, moved, replaced, deleted, deleted]


_edit_all = Workload(lambda path, _: prepare(path, *_OLD), _edit, _edited(), snapshot=4)


# A writer that comes after one that was killed inside SQLite's COMMIT: a journal that is hot, and a
# commit that is in the log and not in the index


def _prepare_crash(path: Path, template: Template) -> None:
    prepare(path, *_OLD)

    def decide(call: Call) -> Kill | None:
        is_end = call.name == "unlink" and call.path.endswith("-journal")
        return Kill() if is_end else None

    killed = template.trace(_commit, path, _nothing, [(1, 0)], root=path, decide=decide)
    assert killed.exit_code < 0, killed.error
    assert (path / "index.sqlite-journal").stat().st_size


def _nothing() -> None:
    """Do what there is to do when a commit has returned: nothing."""


def _read_and_commit(path: Path, done: Done) -> None:
    with sqlstore.open(path) as store:
        assert len(store) == len(of(*_OLD))
    _commit(path, done, [(2, 0)])


_recover = Workload(
    _prepare_crash, _read_and_commit, [of(*_OLD), of(*_OLD, (1, 0), (2, 0))], of((1, 0))
)


# A store that is made


def _create_and_commit(path: Path, done: Done) -> None:
    new_store(path, _CHUNK)
    done()
    _commit(path, done, [(1, 0)])


_create = Workload(lambda *_: None, _create_and_commit, [None, {}, of((1, 0))])


# Reading, from a cache that has to be made first; and what a rebuild makes


def _read(path: Path, _: Done) -> None:
    with sqlstore.open(path) as store:
        assert {record["name"]: record for record in store} == of(*_OLD, *_NEW)
        assert (
            store.blobs("payload").to_pylist()
            == store.to_arrow(fields=["payload"])["payload"].to_pylist()
        )
        assert len(store.where("batch = 0")) == 4
        store.verify()


def _prepare_without_cache(path: Path, _: Template) -> None:
    prepare(path, *_OLD, *_NEW)
    shutil.rmtree(path / CACHE_NAME)


_read_all = Workload(
    _prepare_without_cache,
    _read,
    [of(*_OLD, *_NEW)],
    errors=(sqlstore.SqlstoreError,),
)


def _rebuild(path: Path, _: Done) -> None:
    assert sqlstore.rebuild(path) == len(of(*_OLD))


def _rebuild_if_needed(path: Path) -> None:
    if not (path / INDEX_NAME).exists():
        sqlstore.rebuild(path)


_rebuild_all = Workload(
    lambda path, _: prepare(path, *_OLD), _rebuild, [of(*_OLD)], mend=_rebuild_if_needed
)


# Compaction: values in another place, a checkpoint, chunks that go


def _prepare_garbage(path: Path, _: Template) -> None:
    prepare(path, *_OLD, *_NEW)
    with sqlstore.open(path, "a") as store:
        store.where("writer = 0 AND batch = 1").delete()
        store.where("position = 1").delete()


def _compact(path: Path, done: Done) -> None:
    with sqlstore.open(path, "a") as store:
        compact(store)
    done()
    _commit(path, done, [(2, 0)])


_LIVE: Final = {
    name: record for name, record in of((0, 0), *_NEW).items() if record["position"] == 0
}
_compact_all = Workload(
    _prepare_garbage,
    _compact,
    [_LIVE, _LIVE, _LIVE | of((2, 0))],
    errors=(sqlstore.SqlstoreError,),
)


WORKLOADS: Final = {
    "append": _append,
    "edit": _edit_all,
    "recover": _recover,
    "create": _create,
    "read": _read_all,
    "rebuild": _rebuild_all,
    "compact": _compact_all,
}
