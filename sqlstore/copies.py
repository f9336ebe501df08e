"""The files of snapshots: copies of the index, and which of them the log has commits for.

A copy is complete and under its name before the commit that makes it a snapshot, and is removed
after the commit that drops it. So a crash leaves at most a copy that no commit names, which the
next one to take or drop a snapshot removes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import secrets
import shutil
import unicodedata
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlstore import identity, recover
from sqlstore.cache import folder
from sqlstore.errors import (
    CorruptChunkError,
    CorruptIndexError,
    NotAStoreError,
    SchemaError,
    SnapshotNotFoundError,
    SqlstoreError,
    StorageError,
)
from sqlstore.index import records, versions
from sqlstore.index.engine import Index
from sqlstore.log import files, snapshots
from sqlstore.log.checkpoint import Checkpoint
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.schema import is_name

SNAPSHOTS_FOLDER: Final = "snapshots"
KINDS: Final = (CommitKind.SNAPSHOT, CommitKind.DROP_SNAPSHOT)

_SUFFIX: Final = ".sqlite"
_OURS: Final = re.compile(r".*\.sqlite(\.[0-9a-f]{8}\.new.*)?", re.DOTALL)
_MOST_BYTES: Final = 128  # of a name; file names have at most 255, some file systems allow less
_FORBIDDEN: Final = frozenset('/\\:*?"<>|')
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""What Windows takes for a device, whatever its suffix."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of a snapshot; `open` with its name shows the store as it was.

    Attributes
    ----------
    name
        Of the snapshot.
    note
        What was said of it, or None.
    commit, commit_uuid
        The commit that it shows: everything up to this one.
    taken_at
        When, in UTC.
    """

    name: str
    note: str | None
    commit: int
    commit_uuid: uuid.UUID
    taken_at: dt.datetime


def check_name(name: object) -> None:
    """Raise unless a snapshot can have this name, and a file on every system."""
    if not is_name(name):
        raise SchemaError(f"{name!r} is not a name: printable text without outer spaces")
    if len(name.encode()) > _MOST_BYTES:
        raise SchemaError(f"the name {name[:20]!r}... is longer than {_MOST_BYTES} bytes")
    if bad := sorted(_FORBIDDEN.intersection(name)):
        raise SchemaError(f"the name {name!r} has {bad[0]} in it, which no file name may have")
    if name.startswith(".") or name.endswith("."):
        raise SchemaError(f"the name {name!r} begins or ends with a dot; file names should not")
    if _DEVICES.fullmatch(name):
        raise SchemaError(f"the name {name!r} is that of a device on Windows; take another")


def twin(name: str) -> str:
    """Return what is the same for names that some file systems do not tell apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def path_of(root: Path, name: str) -> Path:
    """Return where the copy of a snapshot lies."""
    return root / SNAPSHOTS_FOLDER / f"{name}{_SUFFIX}"


def paths(root: Path) -> list[Path]:
    """Return where copies lie."""
    return [path for path in _entries(root / SNAPSHOTS_FOLDER) if path.suffix == _SUFFIX]


def _entries(place: Path) -> list[Path]:
    """Return what lies in a folder; nothing if it is a link, which may lead out of the store."""
    return sorted(place.iterdir()) if place.is_dir() and not place.is_symlink() else []


def known(index: Index, reader: ChunkReader) -> dict[str, Snapshot]:
    """Return the snapshots that there are, by name, in the order in which they were taken.

    The index says where their commits lie, the log what they are.
    """
    last = identity.checkpoint_of_index(index, reader)
    rows = records.commits_of_kinds(index, KINDS, after=last.as_of if last is not None else 0)
    before = of_checkpoint(last) if last is not None else ()
    return following(reader, (identity.trailer_of(index, reader, row) for row in rows), before)


def following(
    reader: ChunkReader, commits: Iterable[tuple[str, Trailer]], before: Iterable[Snapshot] = ()
) -> dict[str, Snapshot]:
    """Return the snapshots that there are after some commits, in the order of the chain.

    Parameters
    ----------
    commits
        The chunk and the trailer of each; those of other kinds are skipped.
    before
        Those that there were before the commits.

    Raises
    ------
    CorruptChunkError
        One is damaged.
    """
    found = {snapshot.name: snapshot for snapshot in before}
    for chunk, trailer in commits:
        if trailer.kind in KINDS:
            titled = snapshots.parse(reader.table(chunk, trailer), trailer, chunk)
            apply(found, trailer, titled, chunk)
    return found


def of_checkpoint(last: Checkpoint) -> list[Snapshot]:
    """Return the snapshots that there were as of a checkpoint, in order."""
    found = []
    for row in last.rows("snapshots"):
        _check_said(row["name"], row["commit"], last.name)
        taken_at = dt.datetime.fromtimestamp(row["taken_at"] / 1e6, dt.UTC)
        found.append(Snapshot(row["name"], row["note"], row["commit"], row["uuid"], taken_at))
    return found


def _check_said(name: str, commit: int, chunk: str) -> None:
    """Raise if the log has a name that might lead out of the store."""
    try:
        check_name(name)
    except SchemaError as error:
        raise CorruptChunkError(
            f"commit {commit} is about no snapshot: {error}", chunk=chunk
        ) from error


def apply(
    found: dict[str, Snapshot], trailer: Trailer, titled: snapshots.Titled, chunk: str
) -> None:
    """Add the snapshot that a commit takes, or remove the one that it drops.

    Raises
    ------
    CorruptChunkError
        Its name is none; it might lead out of the store.
    """
    _check_said(titled.name, trailer.number, chunk)
    if trailer.kind == CommitKind.DROP_SNAPSHOT:
        found.pop(titled.name, None)
        return
    taken_at = dt.datetime.fromtimestamp(trailer.committed_at / 1e6, dt.UTC)
    shown = trailer.number - 1, trailer.previous
    found[titled.name] = Snapshot(titled.name, titled.note, *shown, taken_at)


def named(found: dict[str, Snapshot], name: str) -> Snapshot:
    """Return the snapshot of this name.

    Raises
    ------
    SnapshotNotFoundError
        There is none.
    """
    if name not in found:
        there = ", ".join(map(repr, found)) or "none"
        raise SnapshotNotFoundError(f"no snapshot is named {name!r}; there are {there}")
    return found[name]


def find(root: Path, name: str) -> Snapshot:
    """Return the snapshot of this name, as index and log say now.

    Raises
    ------
    SnapshotNotFoundError
        There is none.
    """
    return named(_known_now(root), name)


def _known_now(root: Path) -> dict[str, Snapshot]:
    with (
        contextlib.closing(recover.open_index_to_read(root)) as present,
        contextlib.closing(ChunkReader(root)) as reader,
    ):
        versions.check(present)
        recover.refuse_behind(present, reader)
        return known(present, reader)


def open_to_read(root: Path, snapshot: Snapshot, *, mapped: bool) -> Index:
    """Open the copy of a snapshot.

    Raises
    ------
    SnapshotNotFoundError
        It has been dropped since.
    CorruptIndexError
        The copy is missing or damaged, or shows another commit.
    """
    try:
        index = Index(path_of(root, snapshot.name), root=root, mapped=mapped)
        try:
            check_shows(index, snapshot)
        except BaseException:
            index.close()
            raise
    except (CorruptIndexError, NotAStoreError) as error:
        if snapshot not in _known_now(root).values():
            raise SnapshotNotFoundError(f"snapshot {snapshot.name!r} was dropped") from error
        if isinstance(error, CorruptIndexError):
            raise
        raise CorruptIndexError(f"{error.message}; run `sqlstore rebuild {root}`") from error
    return index


def check_shows(index: Index, snapshot: Snapshot) -> None:
    """Raise unless a copy ends with the commit that its snapshot shows."""
    versions.check(index)
    last = records.last_commit(index)
    if (last.number, last.uuid) != (snapshot.commit, str(snapshot.commit_uuid)):
        raise CorruptIndexError(
            f"{index.path} ends at commit {last.number} ({last.uuid}), but snapshot "
            f"{snapshot.name!r} shows commit {snapshot.commit} ({snapshot.commit_uuid}); "
            f"run `sqlstore rebuild {index.root}`"
        )


def showing(root: Path, commit: int, commit_uuid: str) -> str | None:
    """Return the name of the snapshot whose copy ends with a commit; None if there is none."""
    for path in paths(root):
        with (
            contextlib.suppress(SqlstoreError),
            contextlib.closing(Index(path, root=root)) as index,
        ):
            versions.check(index)
            last = records.last_commit(index)
            if (last.number, last.uuid) == (commit, commit_uuid):
                check_name(path.stem)
                return path.stem
    return None


def put(index: Index, root: Path, name: str) -> None:
    """Copy an index that is in no transaction, as the copy of a snapshot."""
    with replacing(path_of(root, name)) as temporary:
        index.copy_to(temporary)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the place of a new copy, which takes the place of the old one in one step.

    What SQLite has committed to it in the block is durable then.
    """
    with files.storage_errors("create", path.parent):
        path.parent.mkdir(exist_ok=True)
    if path.parent.is_symlink():
        raise StorageError(f"{path.parent} is a link; it must be a folder of the store itself")
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        yield temporary
        with files.storage_errors("replace", path):
            temporary.replace(path)
        files.sync_folder(path.parent)
        files.sync_folder(path.parent.parent)
    finally:
        files.remove_left_over(temporary)


def remove_unknown(index: Index, reader: ChunkReader) -> None:
    """Remove copies that no snapshot needs, and their caches. The writer lock must be held."""
    remove_others(index.root, known(index, reader).values())


def remove_others(root: Path, snapshots: Collection[Snapshot]) -> None:
    """Remove all copies and caches but those of some snapshots.

    Who still has one of them open keeps what he has. What cannot be removed now is removed another
    time.
    """
    kept = {twin(path_of(root, snapshot.name).name) for snapshot in snapshots}
    with contextlib.suppress(OSError):
        for path in _entries(root / SNAPSHOTS_FOLDER):
            if _OURS.fullmatch(path.name) and twin(path.name) not in kept:
                path.unlink(missing_ok=True)
    caches = folder.shared(root)
    kept = {folder.of_snapshot(caches, snapshot.commit_uuid).name for snapshot in snapshots}
    if folder.leads_out(root, caches):
        return
    with contextlib.suppress(OSError):
        for path in _entries(caches / folder.SNAPSHOTS_NAME):
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
