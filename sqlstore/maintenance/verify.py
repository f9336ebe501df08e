"""Check a whole store: bodies, segments, chain and index rows against each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sqlstore import recover, replay
from sqlstore.errors import CorruptStoreError
from sqlstore.index import records, versions
from sqlstore.index.engine import Index
from sqlstore.log import chain, files, table
from sqlstore.log.chain import Link
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import NO_COMMIT, CommitKind, check_readable, span
from sqlstore.maintenance import check_index, check_log
from sqlstore.maintenance.report import Report
from sqlstore.progress import progress
from sqlstore.schema import Schema
from sqlstore.types import StrPath


def verify(path: StrPath) -> Report:
    """Check everything in a store; nothing is changed and nothing is raised for what is wrong.

    The log is checked by itself, then the index against it. Commits that happen meanwhile are not
    looked at.

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
        self._commits: list[records.CommitRow] | None = None
        self._chunks: dict[str, records.ChunkRow] = {}

    def run(self) -> None:
        if self._index is not None:
            with self._report.catching():
                self._commits = records.commits(self._index)
                self._chunks = {row.name: row for row in records.chunks(self._index)}
        links = list(self._links())
        ordered = (
            self._against_commits(links) if self._commits is not None else self._followed(links)
        )
        schema = self._schema(ordered)
        if schema is None:
            return
        with_index = self._index if self._commits is not None else None
        if with_index is not None:
            self._check_declared(with_index, schema)
        for link in progress(ordered, "verify", "commits"):
            self._check_commit(link, schema, with_index)
        if with_index is not None:
            check_index.check_totals(
                with_index, self._report.records, self._report.values, self._report
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
        row = self._chunks.get(name)
        size = self._reader.size(name)
        committed = row.size if row is not None else size
        if size < committed:
            message = f"the file has {size} bytes, {committed} were committed"
            self._report.add(message, chunk=name, offset=size)
            committed = size
        try:
            header = self._reader.header(name)
        except CorruptStoreError as error:
            if row is None:
                self._report.notes.append(f"{name} was begun and never committed to")
                return []
            self._report.add(error.message, chunk=name, offset=0)
            header_uuid = records.parsed_uuid(row.uuid, self._root)
        else:
            header_uuid = header.chunk
            if row is not None and str(header_uuid) != row.uuid:
                self._report.add(
                    f"the index says uuid {row.uuid}, the header {header_uuid}", chunk=name
                )
        self._report.chunks += 1
        known = chain.walk(self._reader, name, header_uuid, end=committed)
        behind = chain.walk(self._reader, name, header_uuid, start=committed, end=size)
        for fault in known.faults + behind.faults:
            self._report.add(fault.message, chunk=name, offset=fault.where.get("offset"))
        end = behind.end if row is not None else known.end
        if end < size:
            self._report.notes.append(
                f"{name} ends with {size - end} bytes of a commit that did not happen"
            )
        return known.links + behind.links

    def _against_commits(self, links: list[Link]) -> list[Link]:
        """Return the commits that the index knows and the log has, and say what differs."""
        by_place = {(link.chunk, link.trailer.table_end): link for link in links}
        names = {row.chunk: name for name, row in self._chunks.items()}
        ordered: list[Link] = []
        previous = str(NO_COMMIT)
        for number, row in enumerate(self._commits or [], start=1):
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
        now = last
        if self._index is not None and links:
            now = records.last_commit(self._index).number
        for link in links:
            number = link.trailer.number
            if last < number <= now:
                continue  # committed since this check began
            message = f"commit {number} is in the log and not in the index"
            if number == now + 1:
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

    def _schema(self, ordered: list[Link]) -> Schema | None:
        for link in ordered:
            if link.trailer.kind == CommitKind.CREATE:
                with self._report.catching(chunk=link.chunk, offset=link.trailer.table_start):
                    return table.parse_create(self._reader.table(link.chunk, link.trailer))[0]
        with self._report.catching():
            if self._index is not None:
                return records.schema(self._index)
        return None

    def _check_declared(self, index: Index, schema: Schema) -> None:
        check_index.check_sqlite(index, schema, self._report)
        with self._report.catching():
            if records.schema(index) != schema:
                self._report.add(
                    "the index has another schema than the log; run `sqlstore rebuild`"
                )

    def _check_commit(self, link: Link, schema: Schema, index: Index | None) -> None:
        self._report.commits += 1
        self._report.records += link.trailer.records
        batch: pa.RecordBatch | None = None
        with self._report.catching(chunk=link.chunk, offset=link.trailer.table_end):
            if link.trailer.kind == CommitKind.CREATE:
                if link.trailer.number != 1:
                    self._report.add("only the first commit creates a store", chunk=link.chunk)
            elif check_readable(link.trailer, link.chunk):
                batch = check_log.check_append(self._reader, schema, link, self._report)
        if batch is not None and index is not None:
            check_index.check_rows(index, schema, link.trailer, batch, self._report)
