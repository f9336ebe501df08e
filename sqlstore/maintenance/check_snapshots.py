"""Check the copies of the index that snapshots are."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

from sqlstore import copies, identity
from sqlstore.copies import Snapshot
from sqlstore.errors import CorruptStoreError
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.index.records import CommitRow
from sqlstore.log.reader import ChunkReader
from sqlstore.maintenance import check_index
from sqlstore.maintenance.report import Report


def check_snapshots(
    root: Path,
    reader: ChunkReader,
    index: Index | None,
    snapshots: Collection[Snapshot],
    commits: Mapping[int, CommitRow],
    report: Report,
) -> None:
    """Check every copy by itself, and that its commits are those of the log.

    Parameters
    ----------
    index
        That of the present, which says what was dropped meanwhile; None if it is damaged.
    snapshots
        Those that the log has.
    commits
        What the log has, by number.
    """
    for snapshot in snapshots:
        path = copies.path_of(root, snapshot.name)
        if not path.exists() and index is not None and _is_dropped(index, reader, snapshot):
            continue
        with report.catching(), contextlib.closing(Index(path, root=root)) as copy:
            copies.check_shows(copy, snapshot)
            check_index.check_sqlite(copy, identity.of_index(copy, reader).schema, report)
            numbers = set(range(1, snapshot.commit + 1))
            for row in records.commits(copy):
                numbers.discard(row.number)
                if commits.get(row.number, row) != row:
                    numbers.add(row.number)
            if numbers:
                report.add(
                    f"{copy.name} has another commit {min(numbers)} than the log; "
                    "run `sqlstore rebuild`"
                )


def _is_dropped(index: Index, reader: ChunkReader, snapshot: Snapshot) -> bool:
    with contextlib.suppress(CorruptStoreError):
        return snapshot not in copies.known(index, reader).values()
    return False
