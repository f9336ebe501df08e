"""Make a damaged store whole again, of all that can still be proven right.

The index, the cache and the snapshots' copies are made anew from the log. Where the log itself is
damaged, it is not changed: a checkpoint says what is still there, values that lie in damaged chunks
are copied out of them, and those chunks are moved to the folder ``quarantine``.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from pathlib import Path
from typing import Final

from sqlstore import copies, recover
from sqlstore.errors import CorruptStoreError, SqlstoreError, StorageError, StoreBusyError
from sqlstore.index import records, versions
from sqlstore.index.engine import INDEX_NAME, Index
from sqlstore.log import files
from sqlstore.log.lock import WriterLock
from sqlstore.log.writer import ChunkWriter
from sqlstore.maintenance import check_index
from sqlstore.maintenance.rebuild import rebuilt
from sqlstore.maintenance.repair import from_cache, from_index
from sqlstore.maintenance.repair.mended import MendedReader, damaged_chunks
from sqlstore.maintenance.repair.remains import Remains
from sqlstore.maintenance.repair.repaired import Repaired
from sqlstore.maintenance.repair.restoring import Restoring
from sqlstore.maintenance.repair.salvage import MOST_GONE, Salvage
from sqlstore.maintenance.report import Report
from sqlstore.maintenance.verify import verify
from sqlstore.types import StrPath

QUARANTINE: Final = "quarantine"


def repair(
    path: StrPath,
    *,
    dry_run: bool = False,
    drop_snapshots: bool = False,
    accept_lost_edits: bool = False,
) -> Repaired:
    """Make a damaged store whole again, and say what is lost.

    What is damaged in the log is taken from the cache or the index as far as these still have it,
    and is gone otherwise: of a lost value the record has none from then on, and a record of which
    nothing is left is deleted. All others keep their ids. No damaged byte is thrown away: chunk
    files with damage are moved to the folder ``quarantine`` in the store.

    Parameters
    ----------
    path
        The folder of the store.
    dry_run
        Change nothing, and return what would be done.
    drop_snapshots
        Whether snapshots may be dropped that need a damaged chunk file.
    accept_lost_edits
        Whether to go on where an update, a replacement or a delete is lost that neither cache nor
        index know of any more: its records are as they were before it.

    Raises
    ------
    CorruptStoreError
        There is something to decide that no program can, as the message says; or too little is
        left. Nothing is changed.
    StoreNotFoundError, NotAStoreError
        There is no store at the path.
    """
    root = Path(path).absolute()
    files.check_has_chunks(root)
    if verify(root):
        return Repaired()
    found = Repaired(rebuilt=True)
    with contextlib.ExitStack() as stack:
        index, known = _sound_index(root)
        if index is not None:
            stack.callback(index.close)
        lock = stack.enter_context(contextlib.closing(WriterLock(root)))
        stack.enter_context(lock.held())
        reader = stack.enter_context(contextlib.closing(MendedReader(root)))
        with files.storage_errors("make", "a temporary folder"):
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sqlstore-")))
        cached = from_cache.cached(root)
        salvage = Salvage(reader, index, cached)
        found.lost_edits = _gone_at_the_end(max(known, lock.text().last), salvage)
        if index is not None and records.last_commit(index).number < salvage.end.number:
            index = from_index.brought_up(index, scratch / INDEX_NAME, reader, salvage)
            if index is None:
                older = "the index is older than the chunks, so nothing is taken from it"
                found.notes.append(older)
            else:
                stack.callback(index.close)
        remains = Remains(root, scratch, reader, index, salvage, cached)
        salvage.damaged |= damaged_chunks(reader, remains.is_of.schema, salvage)
        restoring = None
        if not salvage.is_whole():
            restoring = Restoring(root, scratch, reader, index, salvage, remains, found)
            _refuse_to_decide(found, remains, index, drop_snapshots, accept_lost_edits)
        found.quarantined = _to_quarantine(root, salvage)
        if dry_run:
            return found
        # What is lost is said even if no file of it is left: one who is killed cannot return it.
        kept = _put_into_quarantine(root, found) if found.quarantined or not found else None
        _put_right(root, lock, salvage, restoring)
    found.done = True
    found.still_wrong = verify(root).faults
    if kept is not None:
        _put_report(kept, found)
    return found


def _sound_index(root: Path) -> tuple[Index | None, int]:
    """Return the index if SQLite finds no damage in it, and it is as sqlstore made it.

    The number is that of the last commit that it has, be it damaged or not.
    """
    known = 0
    with contextlib.suppress(SqlstoreError):
        index = recover.open_index_to_read(root)
        with contextlib.ExitStack() as stack:
            stack.callback(index.close)
            known = records.last_commit(index).number
            versions.check(index)
            report = Report()
            check_index.check_sqlite(index, records.schema(index), report)
            if report:
                stack.pop_all()
                return index, known
    return None, known


def _gone_at_the_end(last: int, salvage: Salvage) -> list[int]:
    """Return the numbers of commits up to one, behind the last of which anything is known."""
    end = salvage.end.number
    return list(range(end + 1, min(last, end + MOST_GONE) + 1))


def _refuse_to_decide(
    found: Repaired,
    remains: Remains,
    index: Index | None,
    drop_snapshots: bool,
    accept_lost_edits: bool,
) -> None:
    """Raise if there is something to decide that no program can."""
    if found.lost_snapshots and not drop_snapshots:
        raise CorruptStoreError(
            f"the snapshots {', '.join(map(repr, found.lost_snapshots))} need chunks that are "
            "damaged: put those back from a copy, or give the snapshots up by drop_snapshots=True"
        )
    if remains.lost_edits and index is None and not accept_lost_edits:
        known = remains.lost_edits[0]
        raise CorruptStoreError(
            f"commit {known.row.number} edits records, perhaps, and is damaged, and neither the "
            "cache nor an index knows what it did: put index.sqlite or the chunk back from a copy, "
            "or go on without it by accept_lost_edits=True",
            chunk=known.chunk.name,
        )


def _to_quarantine(root: Path, salvage: Salvage) -> list[str]:
    """Return what goes to the quarantine, by its path in the store.

    Raises
    ------
    StoreBusyError
        A writer is about to append to one of the chunks.
    StorageError
        The quarantine would lie outside of the store.
    """
    for name in files.chunk_names(root):
        if name in salvage.damaged and not ChunkWriter.is_free(root, name):
            raise StoreBusyError(f"a writer has the damaged chunk {name}; end it and try again")
    if (root / QUARANTINE).is_symlink():
        raise StorageError(
            f"{root / QUARANTINE} is a link; it must be a folder of the store itself"
        )
    chunks = [root / files.CHUNKS_FOLDER / name for name in sorted(salvage.damaged)]
    kept = [path for path in (*chunks, root / INDEX_NAME, *copies.paths(root)) if _is_there(path)]
    return [str(path.relative_to(root)) for path in kept]


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _put_right(root: Path, lock: WriterLock, salvage: Salvage, restoring: Restoring | None) -> None:
    if restoring is not None:
        restoring.commit()
        files.remove_chunks(root, salvage.damaged)
    rebuilt(root, lock, may_lose=True)


def _put_into_quarantine(root: Path, found: Repaired) -> Path:
    """Keep files in a folder of their own, with the report, before anything is changed."""
    folder = root / QUARANTINE / secrets.token_hex(4)
    with files.storage_errors("create", folder):
        folder.mkdir(parents=True)
    for path in found.quarantined:
        place, to = root / path, folder / path
        with files.storage_errors("create", to.parent):
            to.parent.mkdir(parents=True, exist_ok=True)
        if place.is_file() and not place.is_symlink():
            files.link_or_copy(place, to)
        else:
            with files.storage_errors("move", place):
                place.rename(to)
    kept = "what was moved or replaced" if found.quarantined else "the report"
    found.notes.append(f"{kept} lies in {folder.relative_to(root)}")
    _put_report(folder, found)
    for one in (*filter(Path.is_dir, folder.iterdir()), folder, folder.parent, root):
        files.sync_folder(one)
    return folder


def _put_report(folder: Path, found: Repaired) -> None:
    files.put(folder / "report.json", json.dumps(found.as_dict(), indent=1).encode())
