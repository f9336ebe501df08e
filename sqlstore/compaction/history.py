"""What a checkpoint says beside the records: commits, chunks, subsets, snapshots."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlstore import copies, identity, replay, restore
from sqlstore.copies import Snapshot
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.index.records import ChunkRow, CommitRow
from sqlstore.log import subsets
from sqlstore.log.checkpoint import Checkpoint
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.log.subsets import Described
from sqlstore.types import Ids

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A snapshot, and the numbers of the chunks that it needs."""

    snapshot: Snapshot
    chunks: frozenset[int]


class History:
    """All commits up to one, as the log says, and what is not about records in them.

    Parameters
    ----------
    chunks
        All chunks that there have been.
    last
        The checkpoint to begin with; None to begin with the first commit.
    """

    def __init__(self, chunks: Iterable[ChunkRow], last: Checkpoint | None) -> None:
        self.commits: list[CommitRow] = []
        self._chunks = {row.chunk: row for row in chunks}
        self._sizes: dict[int, int] = {}
        self._live: set[int] = set()
        self._subsets: dict[str, tuple[int, Described, Ids]] = {}
        self._snapshots: dict[str, _Taken] = {}
        if last is not None:
            self._begin_with(last)

    @classmethod
    def of_index(cls, index: Index, reader: ChunkReader, as_of: int) -> History:
        """Return the commits up to a number; the index says where they lie, the log what they are.

        Parameters
        ----------
        as_of
            The number of the last one.
        """
        found = cls(records.chunks(index), identity.checkpoint_of_index(index, reader))
        for row in records.commits(index, after=len(found.commits)):
            if row.number <= as_of:
                found.add(reader, *identity.trailer_of(index, reader, row))
        return found

    def _begin_with(self, last: Checkpoint) -> None:
        self.commits = restore.commits(last)
        for row in last.rows("chunks"):
            self._sizes[row["chunk"]] = row["size"]
            if row["live"]:
                self._live.add(row["chunk"])
        for saved, batch in last.subsets():
            described, ids = subsets.parse(batch, last.trailer, last.name)
            self._subsets[described.name] = saved, described, ids
        needed = {row["name"]: frozenset(row["chunks"]) for row in last.rows("snapshots")}
        for snapshot in copies.of_checkpoint(last):
            self._snapshots[snapshot.name] = _Taken(snapshot, needed[snapshot.name])

    def add(self, reader: ChunkReader, name: str, trailer: Trailer) -> None:
        """Add the next commit, which lies in a chunk.

        Raises
        ------
        CorruptChunkError
            It is about a subset or a snapshot, and is damaged.
        """
        if trailer.kind in (CommitKind.SAVE_SUBSET, CommitKind.DROP_SUBSET):
            described, ids = subsets.parse(reader.table(name, trailer), trailer, name)
            self._subsets.pop(described.name, None)
            if trailer.kind == CommitKind.SAVE_SUBSET:
                self._subsets[described.name] = trailer.number, described, ids
        elif trailer.kind in copies.KINDS:
            before = [taken.snapshot for taken in self._snapshots.values()]
            then = copies.following(reader, [(name, trailer)], before)
            # What it shows needs what was live at the checkpoint before it, and what came since.
            needed = frozenset(self._live)
            self._snapshots = {
                one: self._snapshots.get(one, _Taken(snapshot, needed))
                for one, snapshot in then.items()
            }
        self.add_row(replay.commit_row(trailer), trailer.end)

    def add_row(self, row: CommitRow, end: int) -> None:
        """Add the next commit by its row alone, and say where it ends in its chunk."""
        self.commits.append(row)
        self._sizes[row.chunk] = max(self._sizes.get(row.chunk, 0), end)
        self._live.add(row.chunk)

    def put_chunks(self, rows: Iterable[ChunkRow]) -> None:
        """Take chunks that were begun since."""
        self._chunks |= {row.chunk: row for row in rows}

    def present(self) -> list[ChunkRow]:
        """Return the chunks that are not retired, by number."""
        return [row for number, row in sorted(self._chunks.items()) if not row.retired]

    def needs(self) -> dict[str, frozenset[int]]:
        """Return the numbers of the chunks that each snapshot needs."""
        return {name: taken.chunks for name, taken in self._snapshots.items()}

    def commit_rows(self) -> list[dict[str, Any]]:
        """Return the commits as a checkpoint has them."""
        return [
            {**{name: getattr(row, name) for name in CommitRow.__slots__}, "uuid": _bytes(row.uuid)}
            for row in self.commits
        ]

    def chunk_rows(self, live: set[int], retired: Sequence[int]) -> list[dict[str, Any]]:
        """Return the chunks as a checkpoint has them.

        Parameters
        ----------
        live
            The numbers of those that values of records lie in.
        retired
            The numbers of those that nobody needs any more.
        """
        return [
            {
                "chunk": number,
                "name": row.name,
                "uuid": _bytes(row.uuid),
                "size": self._sizes[number],
                "live": number in live,
                "retired": bool(row.retired) or number in retired,
            }
            for number, row in sorted(self._chunks.items())
            if number in self._sizes
        ]

    def snapshot_rows(self) -> list[dict[str, Any]]:
        """Return the snapshots as a checkpoint has them."""
        return [
            {
                "name": one.snapshot.name,
                "note": one.snapshot.note,
                "commit": one.snapshot.commit,
                "uuid": one.snapshot.commit_uuid.bytes,
                "taken_at": (one.snapshot.taken_at - _EPOCH) // _MICROSECOND,
                "chunks": sorted(one.chunks),
            }
            for one in self._snapshots.values()
        ]

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Take a snapshot of what there was after the last commit that was added."""
        self._snapshots[snapshot.name] = _Taken(snapshot, frozenset(self._live))

    def drop_snapshots(self, names: Iterable[str]) -> None:
        """Forget some snapshots."""
        for name in names:
            del self._snapshots[name]

    def put_subsets(self, saved: Iterable[tuple[int, Described, Ids]]) -> None:
        """Take these subsets in the place of all that are known."""
        self._subsets = {one[1].name: one for one in saved}

    def saved(self) -> list[tuple[int, Described, Ids]]:
        """Return the subsets: number of the commit that saved it, what was said, and members."""
        return sorted(self._subsets.values(), key=lambda saved: saved[0])


def _bytes(text: str) -> bytes:
    return uuid.UUID(text).bytes
