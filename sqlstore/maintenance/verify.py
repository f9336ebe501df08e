"""Check a whole store: bodies, segments, chain and index rows against each other."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sqlstore import copies, identity, recover, replay
from sqlstore.copies import Snapshot
from sqlstore.errors import CorruptStoreError, SqlstoreError
from sqlstore.index import records, versions
from sqlstore.index.engine import Index
from sqlstore.index.subsets import SubsetRow
from sqlstore.log import chain, edits, files, snapshots, subsets
from sqlstore.log.chain import Link
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.edits import EDITS, Edit, Edited
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import (
    HEADER_SIZE,
    NO_COMMIT,
    SCHEMA_KINDS,
    CommitKind,
    check_readable,
    span,
)
from sqlstore.maintenance import check_index, check_log, check_snapshots
from sqlstore.maintenance.report import Report
from sqlstore.progress import progress
from sqlstore.schema import Schema
from sqlstore.types import Ids, StrPath


def verify(path: StrPath) -> Report:
    """Check everything in a store; nothing is changed and nothing is raised for what is wrong.

    The log is checked by itself, then the index against it. Commits that happen meanwhile are not
    looked at, and no record that they edit is compared with the index.

    Parameters
    ----------
    path
        The folder of the store. It need not be one that can be opened.

    Returns
    -------
    Report
        True when nothing is wrong; its faults say what is, and where.

    Raises
    ------
    StoreNotFoundError, NotAStoreError
        There is no store at the path.
    """
    root = Path(path).absolute()
    files.check_has_chunks(root)
    report = Report()
    reader = ChunkReader(root)
    index: Index | None = None
    try:
        with report.catching():
            index = recover.open_index_to_read(root)
            versions.check(index)
        _Check(root, reader, index if report else None, report).run()
    finally:
        reader.close()
        if index is not None:
            index.close()
    return report


class _Check:
    def __init__(
        self, root: Path, reader: ChunkReader, index: Index | None, report: Report
    ) -> None:
        self._root = root
        self._reader = reader
        self._index = index
        self._report = report
        self._of_index = Report()
        self._commits: list[records.CommitRow] = []
        self._chunks: dict[str, records.ChunkRow] = {}
        self._dictionaries = check_log.FoundDictionaries()
        self._places: list[DictionaryPlace] = []
        self._subsets: dict[str, tuple[SubsetRow, Ids]] = {}
        self._snapshots: dict[str, Snapshot] = {}

    def run(self) -> None:
        if self._index is not None:
            try:
                with self._index.as_of_now():
                    self._commits = records.commits(self._index)
                    self._chunks = {row.name: row for row in records.chunks(self._index)}
            except SqlstoreError as error:
                self._report.add(error.message)
                self._index = None
        links = list(self._links())
        ordered = self._followed(links) if self._index is None else self._known(links)
        is_of = self._identity(ordered)
        if is_of is None:
            return
        if self._index is not None:
            check_index.check_sqlite(self._index, is_of.schema, self._of_index)
            check_index.check_description(self._index, is_of, self._of_index)
        edited = self._edited(ordered)
        for link in progress(ordered, "verify", "commits"):
            self._check_commit(link, is_of.schema, edited)
        self._report.records -= len(edited.deleted) if edited is not None else 0
        if self._index is not None:
            last = ordered[-1].trailer.number if ordered else 0
            self._take_over(self._index, last)
            check_index.check_dictionaries(self._index, self._places, last, self._report)
            check_index.check_subsets(self._index, self._subsets, last, self._report)
            check_index.check_no_more(self._index, is_of.schema, self._report)
        check_snapshots.check_snapshots(
            self._root,
            self._reader,
            self._index,
            self._snapshots.values(),
            {link.trailer.number: replay.commit_row(link.trailer) for link in ordered},
            self._report,
        )

    def _links(self) -> Iterator[Link]:
        """Walk every chunk, and say what is missing, foreign or left over."""
        names = files.chunk_names(self._root)
        for name in sorted(set(self._chunks) - set(names)):
            self._report.add("the chunk file is gone", chunk=name)
        for name in names:
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

    def _known(self, links: list[Link]) -> list[Link]:
        """Return the commits that the index knows and the log has, and say what differs."""
        by_place = {(link.chunk, link.trailer.table_end): link for link in links}
        names = {row.chunk: name for name, row in self._chunks.items()}
        ordered: list[Link] = []
        previous = str(NO_COMMIT)
        for number, row in enumerate(self._commits, start=1):
            name = names.get(row.chunk)
            link = by_place.pop((name or "", row.offset), None)
            where = {"chunk": name, "offset": row.offset}
            which = f"commit {row.number} ({span(row.first_record, row.records)})"
            if link is None:
                self._report.add(f"the trailer of {which} is damaged or gone", **where)
            elif replay.commit_row(link.trailer) != row or row.number != number:
                message = f"{which} differs between index and log; run `sqlstore rebuild`"
                self._report.add(message, **where)
            elif str(link.trailer.previous) != previous:
                self._report.add(f"{which} does not follow the one before", **where)
            if link is not None:
                ordered.append(link)
            previous = row.uuid
        self._only_in_log(list(by_place.values()))
        return ordered

    def _only_in_log(self, links: list[Link]) -> None:
        """Say of commits that the index lacks whether that is a fault."""
        last = self._commits[-1].number if self._commits else 0
        now, is_whole = last, True
        if self._index is not None and links:
            row = records.last_commit(self._index)
            now = row.number
            expected = row.first_record + row.records
            is_whole = records.store(self._index).next_record_id == expected
        for link in links:
            number = link.trailer.number
            if last < number <= now:
                continue  # committed since this check began
            message = f"commit {number} is in the log and not in the index"
            if number == now + 1 and is_whole:
                self._report.notes.append(f"{message} yet; the next writer settles it")
            else:
                where = {"chunk": link.chunk, "offset": link.trailer.table_end}
                self._report.add(f"{message}; run `sqlstore rebuild`", **where)

    def _followed(self, links: list[Link]) -> list[Link]:
        """Return the commits along the chain; used when there is no index."""
        ordered: list[Link] = []
        with self._report.catching():
            ordered, unconnected = chain.follow(links, 0, NO_COMMIT)
            for link in unconnected:
                message = f"commit {link.trailer.number} has no predecessor"
                self._report.add(message, chunk=link.chunk, offset=link.trailer.table_end)
        return ordered

    def _edited(self, ordered: list[Link]) -> Edited | None:
        """Return what has become of records by edits, or None if it is not known."""
        found: list[Edit] = []
        links = [link for link in ordered if link.trailer.kind in EDITS]
        for name, trailer in ((link.chunk, link.trailer) for link in links):
            with contextlib.suppress(CorruptStoreError):  # said when the commit itself is checked
                found.append(edits.parse(self._reader.table(name, trailer), trailer, name))
        if len(found) == len(links):
            return Edited(found)
        self._report.note("records were not compared with the index, as an edit of them is damaged")
        return None

    def _identity(self, ordered: list[Link]) -> identity.Identity | None:
        """Return what the last commit says that has a schema, or say that it is damaged."""
        has_schema = {CommitKind.CREATE, *SCHEMA_KINDS}
        if not ordered or ordered[0].trailer.number != 1:
            self._report.add("the first commit is damaged or gone; it says what the store is")
        else:
            link = next(link for link in reversed(ordered) if link.trailer.kind in has_schema)
            with self._report.catching(chunk=link.chunk):
                return identity.of_link(self._reader, link)
        with self._report.catching():
            if self._index is not None:
                return identity.as_index_says(self._index)
        return None

    def _check_commit(self, link: Link, schema: Schema, edited: Edited | None) -> None:
        trailer = link.trailer
        self._report.commits += 1
        self._report.records += trailer.records
        batch: pa.RecordBatch | None = None
        with self._report.catching(chunk=link.chunk, offset=trailer.table_end):
            if trailer.kind == CommitKind.CREATE:
                if trailer.number != 1:
                    self._report.add("only the first commit creates a store", chunk=link.chunk)
            elif trailer.kind == CommitKind.DICTIONARY:
                self._check_dictionary(link)
            elif trailer.kind in SCHEMA_KINDS:
                identity.of_link(self._reader, link)
            elif trailer.kind in (CommitKind.SAVE_SUBSET, CommitKind.DROP_SUBSET):
                self._check_subset(link)
            elif trailer.kind in copies.KINDS:
                self._take_snapshot(link)
            elif check_readable(trailer, link.chunk):
                batch = check_log.check_values(
                    self._reader, schema, link, self._dictionaries, self._report
                )
        if trailer.kind in EDITS or batch is None:
            return
        if self._index is not None and edited is not None:
            check_index.check_rows(self._index, schema, trailer, batch, edited, self._of_index)

    def _take_over(self, index: Index, last: int) -> None:
        """Report what is wrong with the index, without what others have changed meanwhile.

        Parameters
        ----------
        last
            The number of the last commit that the index was compared with.
        """
        faults = self._of_index.faults
        with self._report.catching():
            since = records.commits(index, after=last) if faults else []
            if any(row.kind in SCHEMA_KINDS for row in since):
                self._report.note(
                    "the index was not compared with the log, as columns were changed meanwhile; "
                    "verify again"
                )
                return
            changed: set[int] = set()
            for row in since:
                if row.kind in EDITS:
                    name, trailer = identity.trailer_of(index, self._reader, row)
                    edit = edits.parse(self._reader.table(name, trailer), trailer, name)
                    changed.update(edit.ids.tolist())
            faults = [fault for fault in faults if fault.record not in changed]
        self._report.faults += faults

    def _check_subset(self, link: Link) -> None:
        batch = self._reader.table(link.chunk, link.trailer)
        described, ids = subsets.parse(batch, link.trailer, link.chunk)
        if link.trailer.kind == CommitKind.DROP_SUBSET:
            self._subsets.pop(described.name, None)
        else:
            self._subsets[described.name] = replay.subset_row(link.trailer, described, ids), ids

    def _take_snapshot(self, link: Link) -> None:
        batch = self._reader.table(link.chunk, link.trailer)
        titled = snapshots.parse(batch, link.trailer, link.chunk)
        copies.apply(self._snapshots, link.trailer, titled)

    def _check_dictionary(self, link: Link) -> None:
        place = check_log.check_dictionary(self._reader, link, self._dictionaries, self._report)
        if place is not None:
            self._places.append(place)
