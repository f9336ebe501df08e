"""Read a damaged log: with tables from elsewhere in place of those that are damaged."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, Header, Trailer
from sqlstore.maintenance import check_log
from sqlstore.maintenance.check_log import FoundDictionaries
from sqlstore.maintenance.repair.salvage import Known, Salvage
from sqlstore.maintenance.report import Report
from sqlstore.progress import progress
from sqlstore.schema import Schema


class MendedReader(ChunkReader):
    """Reads chunks; for damaged headers and commits it gives what it was told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.headers: Mapping[str, Header] = {}
        self._tables: dict[int, pa.RecordBatch] = {}
        self._trailers: dict[tuple[str, int], Trailer] = {}

    def mend(self, known: Known, batch: pa.RecordBatch) -> None:
        """Take a table in the place of that of a commit, and a trailer if that is gone too."""
        row, place = known.row, known.place()
        self._tables[row.number] = batch
        if known.link is None:
            uuids, ids = (place.commit, place.commit), (row.first_record, row.records)
            # Where its bodies begin and its table lies is not known; the table is given.
            offsets = HEADER_SIZE, row.offset, row.offset, row.offset
            marks = row.committed_at, row.chunk
            self._trailers[place.name, row.offset] = Trailer(
                row.kind, False, 0, row.number, *uuids, *ids, *marks, *offsets, 0
            )

    def forget_mended(self) -> None:
        """Give what is there again."""
        self._tables, self._trailers = {}, {}

    def header(self, name: str) -> Header:
        """Return the header of a chunk."""
        return self.headers.get(name) or super().header(name)

    def trailer(self, name: str, offset: int, chunk: uuid.UUID) -> Trailer | None:
        """Return the trailer at an offset, or None if none is there."""
        return self._trailers.get((name, offset)) or super().trailer(name, offset, chunk)

    def table(self, name: str, trailer: Trailer) -> pa.RecordBatch:
        """Return the segment table that a trailer closes."""
        mended = self._tables.get(trailer.number)
        return super().table(name, trailer) if mended is None else mended


def damaged_chunks(reader: ChunkReader, schema: Schema, salvage: Salvage) -> set[str]:
    """Return the chunks in which a commit has a damaged body or table."""
    found, dictionaries = set(), FoundDictionaries()
    if salvage.base is not None:
        check_log.check_checkpoint(reader, salvage.base, dictionaries, Report())
    links = [link for _, link in sorted(salvage.links.items())]
    for link in progress(links, "check", "commits"):
        report = Report()
        check_log.check_alone(reader, schema, link, dictionaries, report)
        if not report:
            found.add(link.chunk)
    return found
