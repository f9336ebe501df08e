"""The values of one field of sequences: all items of a record, or some of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from sqlstore import sequences
from sqlstore.cache import locations
from sqlstore.cache.locations import LOST
from sqlstore.errors import ChecksumError, CorruptChunkError, DecodeError
from sqlstore.reading.bodies import Bodies
from sqlstore.reading.field import FieldValues
from sqlstore.reading.held import Held
from sqlstore.sequences import ENTRY_SIZE, Footer
from sqlstore.types import Buffer, Ids


class SequenceValues(FieldValues):
    """Reads the sequences of one field by record id.

    Of every read, the footer is compared with its checksum, and each item with its own, unless
    checksums are never looked at.
    """

    def count(self, record: int) -> int | None:
        """Return how many items a record has; None if it has no sequence."""
        row = self._present(record)
        return None if row is None else row[locations.ITEMS]

    def _present(self, record: int) -> tuple[int, ...] | None:
        row = self._row(record)
        if row[locations.COMPRESSION] >= LOST:
            self._refuse_lost(record, row[locations.COMPRESSION])
            return None
        return row

    def items(self, record: int, chosen: Sequence[int] | None = None) -> list[Buffer] | None:
        """Return items, decompressed; None if the record has no sequence.

        Parameters
        ----------
        chosen
            Which ones, from 0, in this order; those that lie side by side are read at once. All by
            default.

        Raises
        ------
        ChecksumError, DecodeError
            An item is not what was written.
        """
        row = self._present(record)
        if row is None:
            return None
        wanted = range(row[locations.ITEMS]) if chosen is None else chosen
        if not len(wanted):
            return []
        footer = self._footer(record, row)
        distinct = sorted(set(wanted))
        runs = groupby(enumerate(distinct), key=lambda pair: pair[1] - pair[0])
        found: dict[int, Buffer] = {}
        for _, run in runs:
            numbers = list(map(itemgetter(1), run))
            found.update(zip(numbers, self._run(record, row, footer, numbers), strict=True))
        return [found[number] for number in wanted]

    def _footer(self, record: int, row: tuple[int, ...]) -> Footer:
        chunk, offset, length, _, _, count, crc, _ = row
        size = count * ENTRY_SIZE
        if size > length:
            error = ChecksumError(f"{count} items in {length} bytes")
            raise self._located(error, record, chunk, offset)
        tail = self.piece(record, chunk, offset + length - size, size)
        try:
            return sequences.footer_of(tail, length, None if self._verify == "never" else crc)
        except ChecksumError as error:
            raise self._located(error, record, chunk, offset) from error

    def _check_stored(self, rows: NDArray[np.uint32], ids: Ids, held: Held) -> None:
        bodies = Bodies(held, rows[:, locations.LENGTH]).each()
        for record, row, body in zip(ids.tolist(), rows.tolist(), bodies, strict=True):
            try:
                sequences.check_stored(body or b"", row[locations.ITEMS], row[locations.CRC])
            except ChecksumError as error:
                chunk, offset = row[locations.CHUNK], row[locations.OFFSET]
                raise self._located(error, record, chunk, offset) from error

    def _run(
        self, record: int, row: tuple[int, ...], footer: Footer, numbers: list[int]
    ) -> list[Buffer]:
        """Return items that lie side by side."""
        chunk, offset, _, compression, *_ = row
        first, stop = numbers[0], numbers[-1] + 1
        start = int(footer["end"][first - 1]) if first else 0
        end = int(footer["end"][stop - 1])
        data = self.piece(record, chunk, offset + start, end - start)
        check = self._verify != "never"
        try:
            return sequences.unpacked(
                data, footer[first:stop], first, compression, self._dictionaries, check=check
            )
        except (ChecksumError, DecodeError, CorruptChunkError) as error:
            raise self._located(error, record, chunk, offset) from error
