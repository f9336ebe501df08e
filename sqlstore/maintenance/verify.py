"""Check a whole store: bodies, segments, chain and index rows against each other."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from sqlstore import copies, identity, recover, replay, restore
from sqlstore.copies import Snapshot
from sqlstore.errors import CorruptStoreError, SqlstoreError
from sqlstore.index import records, versions
from sqlstore.index.engine import Index
from sqlstore.index.subsets import SubsetRow
from sqlstore.log import checkpoint, edits, files, snapshots, subsets, table
from sqlstore.log.chain import Link
from sqlstore.log.checkpoint import Checkpoint
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.edits import EDITS, Edit, Edited
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import (
    SCHEMA_KINDS,
    CommitKind,
    check_readable,
)
from sqlstore.maintenance import check_chain, check_index, check_log, check_snapshots
from sqlstore.maintenance.check_chain import Found
from sqlstore.maintenance.report import Report
from sqlstore.progress import progress
from sqlstore.schema import Schema
from sqlstore.types import Ids, StrPath

_ATTEMPTS: Final = 5


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
    for _ in range(_ATTEMPTS):
        before = _marks(root)
        report = _verified(root)
        if _marks(root) == before:
            return report
    report.note("chunks were retired, or the index was rebuilt, all the time: verify again")
    return report


def _marks(root: Path) -> tuple[int, int] | None:
    """Return what changes when chunks are retired or the index is rebuilt; None if it is damaged.

    What was checked before and after that does not belong together.
    """
    with (
        contextlib.suppress(SqlstoreError),
        contextlib.closing(recover.open_index_to_read(root)) as index,
    ):
        said = records.store(index)
        return said.checkpoint, said.generation
    return None


def _verified(root: Path) -> Report:
    report = Report()
    index: Index | None = None
    with contextlib.closing(ChunkReader(root)) as reader:
        try:
            with report.catching():
                index = recover.open_index_to_read(root)
                versions.check(index)
            _Check(root, reader, index if report else None, report).run()
        finally:
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
        self._dictionaries = check_log.FoundDictionaries()
        self._places: list[DictionaryPlace] = []
        self._subsets: dict[str, tuple[SubsetRow, Ids]] = {}
        self._snapshots: dict[str, Snapshot] = {}

    def run(self) -> None:
        found = check_chain.check_chain(self._root, self._reader, self._index, self._report)
        self._index = found.index
        if not found.is_known:
            self._check_alone(found.kept)
            return
        is_of = self._identity(found)
        if is_of is None:
            return
        if self._index is not None:
            check_index.check_sqlite(self._index, is_of.schema, self._of_index)
            number = found.last.trailer.number if found.last is not None else 0
            check_index.check_description(self._index, is_of, number, self._of_index)
        edited = self._edited(found.ordered, is_of.schema)
        if found.last is not None:
            self._check_checkpoint(found.last, found, is_of.schema, edited)
        for link in progress(found.ordered, "verify", "commits"):
            self._check_commit(link, is_of.schema, edited)
        self._report.records -= len(edited.deleted) if edited is not None else 0
        if self._index is not None:
            last = found.ordered[-1].trailer.number if found.ordered else 0
            self._take_over(self._index, last)
            check_index.check_dictionaries(self._index, self._places, last, self._report)
            check_index.check_subsets(self._index, self._subsets, last, self._report)
            check_index.check_no_more(self._index, is_of.schema, self._report)
        check_snapshots.check_snapshots(
            self._root,
            self._reader,
            self._index,
            self._snapshots.values(),
            {row.number: row for row in found.rows()},
            self._report,
        )

    def _check_checkpoint(
        self, last: Checkpoint, found: Found, schema: Schema, edited: Edited | None
    ) -> None:
        """Check the last checkpoint, the live records that it has, and what the index has."""
        check_log.check_checkpoint(self._reader, last, self._dictionaries, self._report)
        chunks: list[records.ChunkRow] = []
        with self._report.catching():
            chunks = restore.chunks(last, [*found.kept, *found.ordered])
            self._snapshots = {one.name: one for one in copies.of_checkpoint(last)}
            saved = restore.saved(last, found.history)
            self._subsets = {row.name: (row, ids) for row, ids in saved}
            self._places = list(last.dictionaries)
            if self._index is not None:
                check_index.check_history(self._index, found.history, chunks, self._of_index)
        by_number = {link.trailer.number: link for link in found.ordered}
        names = {row.chunk: row.name for row in chunks if not row.retired}
        names |= {link.trailer.chunk: link.chunk for link in found.ordered}
        for part_of in progress(last.spans, "verify", "parts"):
            with self._report.catching():
                part = restore.part(self._reader, last, part_of, by_number)
                self._report.records += len(part.ids)
                how = self._dictionaries, self._report
                check_log.check_part(self._reader, schema, part, names, *how)
                if self._index is not None and edited is not None:
                    where = (part_of.first, part_of.stop), last.as_of, edited, self._of_index
                    check_index.check_rows(self._index, schema, part, *where)
        if self._snapshots:
            self._check_kept(found.kept, schema)

    def _check_kept(self, links: list[Link], schema: Schema) -> None:
        """Check values from before the last checkpoint that only snapshots may need."""
        report = Report()  # what is live in them has been counted already
        for link in progress(links, "verify", "commits"):
            if link.trailer.kind in (CommitKind.APPEND, CommitKind.REPLACE, CommitKind.COMPACT):
                with report.catching(chunk=link.chunk):
                    check_log.check_gap(self._reader, link, report)
                    how = self._dictionaries, report
                    check_log.check_values(self._reader, schema, link, *how)
        self._report.faults += [f for f in report.faults if f not in self._report.faults]

    def _check_alone(self, links: list[Link]) -> None:
        """Check commits of which nobody knows what they follow, each by itself."""
        if self._index is None:
            self._report.note(
                "no values were checked, as neither a checkpoint nor an index says what they are"
            )
            return
        self._report.note(
            "commits were checked one by one, and not compared with the index, as the checkpoint "
            "that they follow is damaged; `sqlstore repair` makes it anew"
        )
        report = Report()
        with report.catching():
            schema = records.schema(self._index)
            check_index.check_sqlite(self._index, schema, report)
            for link in progress(links, "verify", "commits"):
                check_log.check_alone(self._reader, schema, link, self._dictionaries, report)
        self._report.faults += [f for f in report.faults if f not in self._report.faults]

    def _edited(self, ordered: list[Link], schema: Schema) -> Edited | None:
        """Return what has become of records by edits, or None if it is not known."""
        found: list[Edit] = []
        links = [link for link in ordered if link.trailer.kind in EDITS]
        for name, trailer in ((link.chunk, link.trailer) for link in links):
            with contextlib.suppress(CorruptStoreError):  # said when the commit itself is checked
                edit = edits.parse(self._reader.table(name, trailer), trailer, name)
                place = trailer.number, name, trailer.table_start
                table.check_columns(edit.columns, schema.columns.values(), *place)
                found.append(edit)
        if len(found) == len(links):
            return Edited(found)
        self._report.note("records were not compared with the index, as an edit of them is damaged")
        return None

    def _identity(self, found: Found) -> identity.Identity | None:
        """Return what the last commit says that has a schema, or say that it is damaged."""
        has_schema = {CommitKind.CREATE, *SCHEMA_KINDS}
        said = [link for link in found.ordered if link.trailer.kind in has_schema]
        if said and (found.last is not None or said[0].trailer.number == 1):
            with self._report.catching(chunk=said[-1].chunk):
                return identity.of_link(self._reader, said[-1])
        elif found.last is not None:
            with self._report.catching(chunk=found.last.name):
                return identity.of_checkpoint(self._reader, found.last)
        else:
            self._report.add("the first commit is damaged or gone; it says what the store is")
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
            check_log.check_gap(self._reader, link, self._report)
            if not self._check_without_values(link) and check_readable(trailer, link.chunk):
                batch = check_log.check_values(
                    self._reader, schema, link, self._dictionaries, self._report
                )
        if trailer.kind in EDITS or batch is None:
            return
        if self._index is not None and edited is not None:
            between = trailer.first_record, trailer.first_record + trailer.records
            segment = check_index.Appended(np.arange(*between), batch, trailer.chunk)
            where = between, trailer.number, edited, self._of_index
            check_index.check_rows(self._index, schema, segment, *where)

    def _check_without_values(self, link: Link) -> bool:
        """Check a commit that brings no values of records; return whether it is one."""
        trailer = link.trailer
        match trailer.kind:
            case CommitKind.CREATE:
                if trailer.number != 1:
                    self._report.add("only the first commit creates a store", chunk=link.chunk)
            case CommitKind.DICTIONARY:
                self._check_dictionary(link)
            case CommitKind.SAVE_SUBSET | CommitKind.DROP_SUBSET:
                self._check_subset(link)
            case CommitKind.SNAPSHOT | CommitKind.DROP_SNAPSHOT:
                self._take_snapshot(link)
            case CommitKind.CHECKPOINT:
                Checkpoint(self._reader, link.chunk, trailer)
            case CommitKind.CHECKPOINT_PART:
                checkpoint.read_part(self._reader, link.chunk, trailer)
            case kind if kind in SCHEMA_KINDS:
                identity.of_link(self._reader, link)
            case _:
                return False
        return True

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
            marks = link.trailer.number, link.trailer.committed_at
            self._subsets[described.name] = replay.subset_row(*marks, described, ids), ids

    def _take_snapshot(self, link: Link) -> None:
        batch = self._reader.table(link.chunk, link.trailer)
        titled = snapshots.parse(batch, link.trailer, link.chunk)
        copies.apply(self._snapshots, link.trailer, titled, link.chunk)

    def _check_dictionary(self, link: Link) -> None:
        place = check_log.check_dictionary(self._reader, link, self._dictionaries, self._report)
        if place is not None:
            self._places.append(place)
