"""Check that the chunks hold the whole chain of commits, and that the index knows it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlstore import replay, restore
from sqlstore.errors import CorruptStoreError, MissingChunkError, SqlstoreError
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.index.records import CommitRow
from sqlstore.log import chain, checkpoint, files
from sqlstore.log.chain import Link
from sqlstore.log.checkpoint import Checkpoint
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, NO_COMMIT, span
from sqlstore.maintenance.report import Report


@dataclass(frozen=True, slots=True)
class Found:
    """The commits that there are.

    Attributes
    ----------
    index
        None if it cannot be read.
    is_known
        Whether it is to be known what belongs to them; not if the last checkpoint is damaged. All
        are in ``kept`` then.
    last
        The last checkpoint; None if there is none.
    history
        The commits up to its state, as it says.
    kept
        Those of them that are still there.
    ordered
        All later commits, in order.
    """

    index: Index | None
    is_known: bool
    last: Checkpoint | None
    history: list[CommitRow]
    kept: list[Link]
    ordered: list[Link]

    def rows(self) -> list[CommitRow]:
        """Return the rows that all commits become, in order."""
        return [*self.history, *(replay.commit_row(link.trailer) for link in self.ordered)]


def check_chain(root: Path, reader: ChunkReader, index: Index | None, report: Report) -> Found:
    """Return the commits that there are."""
    return _Check(root, reader, index, report).run()


class _Check:
    def __init__(
        self, root: Path, reader: ChunkReader, index: Index | None, report: Report
    ) -> None:
        self._root = root
        self._reader = reader
        self._index = index
        self._report = report
        self._commits: list[CommitRow] = []
        self._chunks: dict[str, records.ChunkRow] = {}
        self._checkpoint = 0

    def run(self) -> Found:
        if self._index is not None:
            try:
                with self._index.as_of_now():
                    self._commits = records.commits(self._index)
                    self._chunks = {row.name: row for row in records.chunks(self._index)}
                    self._checkpoint = records.store(self._index).checkpoint
            except SqlstoreError as error:
                self._report.add(error.message)
                self._index = None
        links = list(self._links())
        last, history = None, list[CommitRow]()
        try:
            last = checkpoint.newest(self._reader, links, self._last_number())
            if last is not None:
                history = restore.commits(last)
        except CorruptStoreError as error:
            self._report.add(error.message, **error.where)
            return self._without_checkpoint(links)
        if last is None and self._checkpoint:
            self._report.add(f"the checkpoint in commit {self._checkpoint} is damaged or gone")
            return self._without_checkpoint(links)
        after = (0, NO_COMMIT, 0) if last is None else (last.as_of, last.commit, last.next_record)
        behind = [link for link in links if link.trailer.number > after[0]]
        follow = self._followed if self._index is None else self._known
        kept = [link for link in links if link.trailer.number <= after[0]]
        self._check_kept(kept, history)
        return Found(self._index, True, last, history, kept, follow(behind, after))

    def _without_checkpoint(self, links: list[Link]) -> Found:
        kept = sorted(links, key=lambda link: link.trailer.number)
        return Found(self._index, False, None, [], kept, [])

    def _last_number(self) -> int | None:
        """Return the number of the last commit that is looked at, or None for all."""
        return self._commits[-1].number if self._commits else None

    def _check_kept(self, links: list[Link], history: list[CommitRow]) -> None:
        """Check that commits from before the last checkpoint are those that it knows."""
        rows = {row.number: row for row in history}
        for link in links:
            if rows.get(link.trailer.number) != replay.commit_row(link.trailer):
                where = {"chunk": link.chunk, "offset": link.trailer.table_end}
                message = f"commit {link.trailer.number} is of another history"
                self._report.add(message, **where)

    def _links(self) -> Iterator[Link]:
        """Walk every chunk, and say what is missing, foreign or left over."""
        names = files.chunk_names(self._root)
        retired = {name for name, row in self._chunks.items() if row.retired}
        for name in sorted(set(self._chunks) - retired - set(names)):
            with self._report.catching(chunk=name):  # which the index may call anything
                raise files.missing(files.chunk_path(self._root, name))
        for name in sorted(retired.intersection(names)):
            self._report.notes.append(f"{name} is not needed any more; `compact` removes it")
        for name in names:
            if name in retired:
                continue
            with self._report.catching(chunk=name):
                yield from self._walk(name)

    def _walk(self, name: str) -> list[Link]:
        chunk = self._uuid_of(name)
        if chunk is None:
            return []
        self._report.chunks += 1
        walk = chain.walk(self._reader, name, chunk)
        for fault in walk.faults:
            self._report.add(fault.message, chunk=name, offset=fault.where.get("offset"))
        if name in self._chunks:
            self._check_size(self._chunks[name], walk)
        left_over = self._reader.size(name) - walk.end
        if left_over > 0:
            self._report.notes.append(f"{name} ends with {left_over} bytes of no commit")
        return walk.links

    def _uuid_of(self, name: str) -> uuid.UUID | None:
        """Return the uuid of a chunk, or None if it holds no commits."""
        row = self._chunks.get(name)
        try:
            header = self._reader.header(name)
        except MissingChunkError:
            if row is None:
                return None  # begun by somebody who has taken it back since it was listed
            raise
        except CorruptStoreError as error:
            if row is None and not chain.mentions_commit(self._reader, name):
                self._report.notes.append(f"{name} was begun and never committed to")
                return None
            self._report.add(error.message, chunk=name, offset=0)
            return None if row is None else records.parsed_uuid(row.uuid, self._root)
        if row is not None and str(header.chunk) != row.uuid:
            message = f"the index says uuid {row.uuid}, the header {header.chunk}"
            self._report.add(message, chunk=name, offset=0)
        return header.chunk

    def _check_size(self, row: records.ChunkRow, walk: chain.Walk) -> None:
        """Compare the size that the index has as committed with the commits that it knows."""
        last = self._commits[-1].number if self._commits else 0
        ends = [link.trailer.end for link in walk.links if link.trailer.number <= last]
        committed = max(ends, default=HEADER_SIZE)
        if (size := self._reader.size(row.name)) < row.size:
            message = f"the file has {size} bytes, {row.size} were committed"
            self._report.add(message, chunk=row.name, offset=size)
        elif row.size != committed:
            message = f"the index has {row.size} bytes as committed, the log {committed}"
            self._report.add(message, chunk=row.name, offset=min(row.size, committed))

    def _known(self, links: list[Link], after: tuple[int, uuid.UUID, int]) -> list[Link]:
        """Return the commits that the index knows and the log has, and say what differs."""
        by_place = {(link.chunk, link.trailer.table_end): link for link in links}
        names = {row.chunk: name for name, row in self._chunks.items()}
        ordered: list[Link] = []
        before, previous, record = after[0], str(after[1]), after[2]
        rows = [row for row in self._commits if row.number > before]
        for number, row in enumerate(rows, start=before + 1):
            name = names.get(row.chunk)
            link = by_place.pop((name or "", row.offset), None)
            where = {"chunk": name, "offset": row.offset}
            which = f"commit {row.number} ({span(row.first_record, row.records)})"
            if link is None:
                self._report.add(f"the trailer of {which} is damaged or gone", **where)
            elif replay.commit_row(link.trailer) != row or row.number != number:
                message = f"{which} differs between index and log; run `sqlstore rebuild`"
                self._report.add(message, **where)
            elif str(link.trailer.previous) != previous or row.first_record != record:
                self._report.add(f"{which} does not follow the one before", **where)
            if link is not None:
                ordered.append(link)
            previous, record = row.uuid, row.first_record + row.records
        self._only_in_log(list(by_place.values()), {link.trailer.commit for link in ordered})
        return ordered

    def _only_in_log(self, links: list[Link], found: set[uuid.UUID]) -> None:
        """Say of commits that are not where the index has one whether that is a fault."""
        last = self._commits[-1].number if self._commits else 0
        now, is_whole = last, True
        if self._index is not None and links:
            with self._report.catching():
                row = records.last_commit(self._index)
                now = row.number
                expected = row.first_record + row.records
                is_whole = records.store(self._index).next_record_id == expected
        for link in links:
            number = link.trailer.number
            if last < number <= now:
                continue  # committed since this check began
            if link.trailer.commit in found:
                self._report.note(f"{link.chunk} holds commits that another chunk has, too")
                continue
            message = f"commit {number} is in the log and not in the index"
            if number == now + 1 and is_whole:
                self._report.notes.append(f"{message} yet; the next writer settles it")
            else:
                where = {"chunk": link.chunk, "offset": link.trailer.table_end}
                self._report.add(f"{message}; run `sqlstore rebuild`", **where)

    def _followed(self, links: list[Link], after: tuple[int, uuid.UUID, int]) -> list[Link]:
        """Return the commits along the chain; used when there is no index."""
        ordered: list[Link] = []
        with self._report.catching():
            ordered, unconnected = chain.follow(links, *after)
            for link in unconnected:
                message = f"commit {link.trailer.number} has no predecessor"
                self._report.add(message, chunk=link.chunk, offset=link.trailer.table_end)
        return ordered
