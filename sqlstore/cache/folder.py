"""Where the cache of a store lies: in the store if it is ours, else in a place of our own."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from sqlstore import limits
from sqlstore.cache.manifest import EDITION, Manifest
from sqlstore.errors import StorageError
from sqlstore.log import carriers, files

CACHE_NAME: Final = "cache"
SNAPSHOTS_NAME: Final = "snapshots"
_HALF_WRITTEN: Final = re.compile(r"manifest\.json\.[0-9a-f]{8}\.new")
_LOCK: Final = "lock"
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made there
"""Not on a disk, which may be full; used unless ``$TMPDIR`` names another place."""
_TEMPORARY: Final = "sqlstore-"
_IN_USE: Final = "in-use"


def shared(root: Path) -> Path:
    """Return the cache folder inside a store, which all who may write there keep up."""
    return root / CACHE_NAME


def of_snapshot(cache: Path, commit: uuid.UUID | None) -> Path:
    """Return the folder, inside that of the store, for the snapshot that shows a commit.

    Named by that, because a name may be given to another snapshot; without one, that of the store.
    """
    return cache if commit is None else cache / SNAPSHOTS_NAME / str(commit)


def leads_out(root: Path, place: Path) -> bool:
    """Return whether there is a link on the way from a store to a place in it.

    Who made the store may have put it there; what is written below it would be written elsewhere.
    """
    inside = place.relative_to(root).parts
    return any(root.joinpath(*inside[:n]).is_symlink() for n in range(1, len(inside) + 1))


def is_ours(root: Path) -> bool:
    """Return whether this process should write into a store's folder.

    Not if somebody else owns it, although we may: what we left there, he might not be able to
    change.
    """
    with contextlib.suppress(OSError):
        return root.stat().st_uid == os.geteuid() and os.access(root, os.W_OK)
    return False


def own(root: Path, store: uuid.UUID) -> list[Path]:
    """Return this user's own cache folder, in ``$XDG_CACHE_HOME`` or ``~/.cache``, if any."""
    home = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # no home is known
        home = home or str(Path("~/.cache").expanduser())
    return [Path(home) / "sqlstore" / _name(root, store)] if home else []


def temporary(root: Path, store: uuid.UUID) -> Path:
    """Return a cache folder that lasts as long as this process; made when first asked for.

    Raises
    ------
    StorageError
        It cannot be made.
    """
    return _temporary(os.getpid()) / _name(root, store)


def _name(root: Path, store: uuid.UUID) -> str:
    return f"{store}-{hashlib.blake2b(os.fsencode(root.resolve()), digest_size=8).hexdigest()}"


@cache
def _temporary(process: int) -> Path:
    """Return a folder that this process, and not a forked child, removes when it ends."""
    from multiprocessing.util import Finalize  # pool workers do not run what `atexit` knows

    chosen = "TMPDIR" in os.environ or not _MEMORY.is_dir()
    with files.storage_errors("create", "a temporary folder"):
        parent = Path(tempfile.gettempdir()) if chosen else _MEMORY
        _remove_left_behind(parent)
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
    _mark_in_use(folder)

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    Finalize(None, remove, exitpriority=0)
    return folder


def _mark_in_use(folder: Path) -> None:
    """Hold a lock in a temporary folder for as long as this process runs."""
    path = folder / f"{_IN_USE}.new"
    descriptor = files.open_or_create(path)
    carriers.carries_lock(descriptor)
    files.try_lock(descriptor, path)
    with files.storage_errors("rename", path):
        path.rename(folder / _IN_USE)


def _remove_left_behind(parent: Path) -> None:
    """Remove temporary folders of processes that were killed."""
    for path in parent.glob(f"{_TEMPORARY}*/{_IN_USE}"):
        with contextlib.suppress(StorageError):  # somebody else's
            descriptor = files.open_or_create(path)
            try:
                if files.try_lock(descriptor, path):
                    shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                files.close(descriptor)


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a cache folder inside the block, which is made if need be.

    Parameters
    ----------
    wait
        Whether to wait for whoever holds it; if not, the block is told that it is not held.

    Raises
    ------
    StorageError
        The folder cannot be made or written.
    """
    with files.storage_errors("create", folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOCK
    descriptor = files.open_or_create(path)
    carriers.carries_lock(descriptor)
    try:
        if wait:
            files.lock(descriptor, path, limits.LOCK_SECONDS)
            yield True
        else:
            yield files.try_lock(descriptor, path)
    finally:
        carriers.close_carrier(descriptor)


def remove_others(folder: Path, manifest: Manifest) -> None:
    """Remove the files of former editions, and those that others have taken the place of.

    Who still has one of them mapped keeps what he has. The lock must be held. What cannot be
    removed now is removed another time.
    """
    named = {part.file for part in manifest.parts}
    named |= {manifest.deleted.file} if manifest.deleted else set()
    fields = {field for field, _ in manifest.replaced}
    named |= {manifest.locations_of(field) for field in fields}
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_symlink():
                continue  # it may lead anywhere
            if EDITION.fullmatch(entry.name) and entry.name != manifest.edition:
                shutil.rmtree(entry, ignore_errors=True)
            elif _HALF_WRITTEN.fullmatch(entry.name):
                entry.unlink()
        former = (f"locations-{field}-*" for field in fields)
        for kind in ("metadata-*", "deleted-*", *former):
            for file in (folder / manifest.edition).glob(kind):
                if file.name not in named:
                    file.unlink()
