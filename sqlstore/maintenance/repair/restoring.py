"""Commit behind a damaged log what is left of it: values copied, and a checkpoint of everything."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sqlstore import copies, replay, sequences
from sqlstore.cache import fill, locations
from sqlstore.caches import Cache
from sqlstore.compaction.checkpointing import Said, staged_checkpoint
from sqlstore.compaction.history import History
from sqlstore.compaction.staged import StagedMove
from sqlstore.compaction.state import State
from sqlstore.edits import in_steps
from sqlstore.errors import ChecksumError, CorruptStoreError
from sqlstore.index.engine import Index
from sqlstore.log import dictionary
from sqlstore.log.edits import Edit
from sqlstore.log.segment import TRAILER_SIZE, CommitKind
from sqlstore.maintenance import absorb
from sqlstore.maintenance.absorb import Held
from sqlstore.maintenance.check_log import FoundDictionaries
from sqlstore.maintenance.repair import from_index, taken_keys
from sqlstore.maintenance.repair.appending import Appender
from sqlstore.maintenance.repair.from_index import SUBSET_KINDS
from sqlstore.maintenance.repair.mended import MendedReader
from sqlstore.maintenance.repair.remains import Remains
from sqlstore.maintenance.repair.repaired import Repaired
from sqlstore.maintenance.repair.salvage import Known, Salvage
from sqlstore.maintenance.report import Fault
from sqlstore.portions import runs
from sqlstore.positions import is_among
from sqlstore.schema import Field
from sqlstore.staged import StagedEdit
from sqlstore.types import Buffer, Ids

_BYTES: Final = 64 << 20
"""Of values that are copied by one commit."""


@dataclass(frozen=True, slots=True)
class _Values:
    """Values of a field that lie elsewhere from now on, or nowhere: ids and their location rows.

    The log does not know of those that are restored, so that they are replaced and not only moved.
    """

    field: Field
    ids: Ids
    rows: NDArray[np.uint32]
    is_restored: bool


class Restoring:
    """What is to be committed to make a store whole again. The writer lock must be held.

    Parameters
    ----------
    root
        The folder of the store.
    scratch
        The folder of the cache.
    reader
        Reads the log.
    index
        The index if SQLite finds no damage in it; None otherwise.
    salvage
        What commits there are.
    remains
        What is left of records.
    found
        Takes what is lost.
    """

    def __init__(
        self,
        root: Path,
        scratch: Path,
        reader: MendedReader,
        index: Index | None,
        salvage: Salvage,
        remains: Remains,
        found: Repaired,
    ) -> None:
        self._root, self._scratch, self._reader, self._index = root, scratch, reader, index
        self._salvage, self._remains, self._found = salvage, remains, found
        self._gone = salvage.gone()
        self._cache = remains.cache()
        self._schema = remains.is_of.schema
        state = State(self._cache, self._schema)
        self._names = {number: row.name for number, row in salvage.chunks.items()}
        self._dictionaries = FoundDictionaries()
        self._trained = {p.number: self._dictionary(p) for p in state.manifest.dictionaries}
        self._deleted = np.intersect1d(remains.lost_records, state.ids)
        if index is None and remains.lost_edits:
            left = np.setdiff1d(state.ids, self._deleted, assume_unique=True)
            keyless = taken_keys.records_without(state, salvage, reader, left)
            self._deleted = np.union1d(self._deleted, keyless)
        if index is None:
            found.lost_records = self._deleted.tolist()
        found.lost_commits = [known.row.number for known in remains.unreadable]
        self._unreadable = set(found.lost_commits)
        found.from_index = remains.from_index
        if index is None:
            found.lost_edits += [known.row.number for known in remains.lost_edits]
        self._updated: list[absorb.Changed] = []
        if remains.lost_edits and index is not None:
            columns = self._schema.columns
            loosened = {name: from_index.loosened(column) for name, column in columns.items()}
            schema = dataclasses.replace(self._schema, columns=loosened)
            held = Held(state.ids, state.next_record, schema, state.metadata)
            changed, deleted = absorb.differences(held, index)
            self._deleted = np.union1d(self._deleted, deleted)
            self._updated = [
                dataclasses.replace(
                    one, values=from_index.with_nan(columns[one.column.name], one.values)
                )
                for one in changed
            ]
        self._state = state
        self._values = [
            one for field in self._schema.fields.values() for one in self._elsewhere(field)
        ]
        self._history = self._known_history()

    def _dictionary(self, place: dictionary.DictionaryPlace) -> bytes:
        name = self._names[place.chunk]
        data = self._reader.read(name, place.offset, place.length)
        try:
            found = dictionary.checked(data, place, name)
        except ChecksumError as error:
            message = f"{error.message}, and they are lost with it: put the chunk back from a copy"
            raise ChecksumError(message, **error.where) from error
        self._dictionaries.add(place.number, found)
        return found

    # Where values lie

    def _elsewhere(self, field: Field) -> Iterator[_Values]:
        """Return the values of a field that do not stay where the log has them."""
        ids, rows = self._state.ids, self._state.rows(field)
        live = ~is_among(ids, self._deleted)
        ids, rows = ids[live], rows[live].copy()
        restored = self._restore(field, ids, rows)
        compression = rows[:, locations.COMPRESSION]
        is_lost = compression == locations.LOST
        present = compression < locations.LOST
        good = list(self._salvage.chunks.keys() - self._gone)
        moves = present & (restored | ~np.isin(rows[:, locations.CHUNK], good))
        for row in np.flatnonzero(moves).tolist():
            is_lost[row] = not self._is_right(field, rows[row])
        self._say_lost(field, ids[is_lost], rows[is_lost])
        rows[is_lost] = 0
        rows[is_lost, locations.COMPRESSION] = locations.ABSENT
        for is_restored, chosen in (
            (False, moves & ~restored & ~is_lost),
            (True, restored | is_lost),
        ):
            if chosen.any():
                yield _Values(field, ids[chosen], rows[chosen], is_restored)

    def _restore(self, field: Field, ids: Ids, rows: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Take from the index where values lie of which the log does not say it, in place."""
        unknown = rows[:, locations.COMPRESSION] == locations.LOST
        if self._remains.lost_edits or self._remains.is_move_lost:
            unknown[:] = True
        if self._index is None or not unknown.any():
            return np.zeros(len(ids), bool)
        whose, values, chunks = from_index.values(self._index, field, 0, self._state.next_record)
        among = is_among(whose, ids)
        said = np.zeros_like(rows)
        said[:, locations.COMPRESSION] = locations.ABSENT
        chosen = np.flatnonzero(among)
        at = np.searchsorted(ids, whose[chosen])
        said[at] = locations.rows_of(
            values.rows(chosen), chunks[chosen], whose[chosen], field.number
        )
        differs: NDArray[np.bool_] = unknown & np.any(
            said[:, : locations.SEAL] != rows[:, : locations.SEAL], axis=1
        )
        rows[differs] = said[differs]
        return differs

    def _is_right(self, field: Field, row: NDArray[np.uint32]) -> bool:
        with contextlib.suppress(CorruptStoreError):
            body, crc = self._body(row), int(row[locations.CRC])
            if not field.is_sequence:
                return zlib.crc32(body) == crc
            items, raw_length = int(row[locations.ITEMS]), int(row[locations.RAW_LENGTH])
            how = int(row[locations.COMPRESSION]), self._dictionaries
            sequences.check(memoryview(body), items, raw_length, crc, *how)
            return True
        return False

    def _body(self, row: NDArray[np.uint32]) -> bytes:
        chunk, offset, length = (int(value) for value in row[: locations.COMPRESSION])
        if chunk not in self._names:
            raise ChecksumError("the value lies in no chunk")
        return self._reader.read(self._names[chunk], offset, length)

    def _say_lost(self, field: Field, ids: Ids, rows: NDArray[np.uint32]) -> None:
        for record, row in zip(ids.tolist(), rows.tolist(), strict=True):
            fault = Fault("its bytes are damaged or gone", record=record, field=field.name)
            if row[locations.COMPRESSION] != locations.LOST:
                place = self._names.get(row[locations.CHUNK]), row[locations.OFFSET]
                fault = dataclasses.replace(fault, chunk=place[0], offset=place[1])
            self._found.lost_values.append(fault)

    # What is not about records

    def _known_history(self) -> History:
        history = History(self._salvage.chunks.values(), self._salvage.base)
        lost = set(self._found.lost_edits)
        for known in self._salvage.commits:
            if known.link is not None and known.row.number not in self._unreadable:
                history.add(self._reader, known.link.chunk, known.link.trailer)
                continue
            is_told = known.row.kind == CommitKind.SNAPSHOT and self._take_snapshot(history, known)
            is_told |= known.row.kind in SUBSET_KINDS and self._index is not None
            is_other = known.row.kind in (*copies.KINDS, *SUBSET_KINDS)
            # What else than records a commit was about that is only guessed nobody knows.
            if (is_other and not is_told) or (
                known.is_guessed and known.row.kind != CommitKind.APPEND
            ):
                lost.add(known.row.number)
            history.add_row(known.row, known.row.offset + TRAILER_SIZE)
        self._found.lost_edits = sorted(lost)
        if self._index is not None:
            self._take_subsets(history, self._index)
        self._found.lost_snapshots = [
            name for name, needed in history.needs().items() if needed & self._gone
        ]
        return history

    def _take_snapshot(self, history: History, known: Known) -> bool:
        """Take a snapshot whose commit is damaged, if there is a copy that shows the one before."""
        before = history.commits[-1]
        name = copies.showing(self._root, before.number, before.uuid)
        if name is None:
            return False
        taken_at = dt.datetime.fromtimestamp(known.row.committed_at / 1e6, dt.UTC)
        shown = before.number, uuid.UUID(before.uuid)
        history.put_snapshot(copies.Snapshot(name, None, *shown, taken_at))
        self._found.notes.append(f"the note of snapshot {name!r} is lost, if it had one")
        return True

    def _take_subsets(self, history: History, index: Index) -> None:
        """Take from the index the subsets that damaged commits have saved, or not dropped."""
        by_number = {known.row.number: known.row.kind for known in self._remains.unreadable}
        kinds = set(by_number.values())
        if kinds.isdisjoint(SUBSET_KINDS):
            return
        saved, wrong = from_index.saved(index)
        there = {one[0] for one in saved} | wrong.keys()
        may_be_dropped = CommitKind.DROP_SUBSET in kinds
        kept = [one for one in history.saved() if not may_be_dropped or one[0] in there]
        history.put_subsets([*(one for one in saved if one[0] in by_number), *kept])
        lost = wrong.keys() & by_number.keys()
        self._found.lost_subsets = [name for number, name in wrong.items() if number in lost]

    # What is committed

    def commit(self) -> None:
        """Commit all that is decided; removed again if that fails.

        Raises
        ------
        StoreFullError, StorageError
            The disk is full or fails.
        """
        last = self._salvage.end
        chunk = max(self._names) + 1
        appender = Appender(self._root, self._remains.is_of, last, chunk)
        try:
            self._commit_edits(appender)
            how = self._schema, self._reader, fill.any_may_be_lost, list(appender.places)
            then = fill.extend(self._scratch, self._cache.manifest, *how)
            state = State(Cache(self._scratch, then), self._schema)
            for trailer in appender.trailers:
                self._history.add_row(replay.commit_row(trailer), trailer.end)
            self._history.put_chunks(appender.chunk_rows())
            self._history.drop_snapshots(self._found.lost_snapshots)
            settings = self._remains.is_of.settings(self._schema)
            live, retired = set(state.live), sorted(self._gone)
            said = Said(self._history, live, retired, settings, self._trained.__getitem__)
            appender.commit(staged_checkpoint(state, said, appender.commit))
        except BaseException:
            appender.take_back()
            raise
        finally:
            appender.close()

    def _commit_edits(self, appender: Appender) -> None:
        if len(self._deleted):
            appender.commit(StagedEdit(Edit(CommitKind.DELETE, self._deleted), self._schema))
        for one in self._updated:
            for edit in in_steps(one.ids, {one.column.number: one.values}):
                appender.commit(StagedEdit(edit, self._schema))
        for values in self._values:
            self._commit_values(appender, values)

    def _commit_values(self, appender: Appender, values: _Values) -> None:
        sizes = values.rows[:, locations.LENGTH].astype(np.int64)
        sizes[values.rows[:, locations.COMPRESSION] == locations.ABSENT] = 0
        most = min(_BYTES, self._remains.is_of.chunk_size // 2)
        for run in runs(sizes, most):
            rows, ids = values.rows[run], values.ids[run]
            present = rows[:, locations.COMPRESSION] != locations.ABSENT
            bodies: list[Buffer] = [self._body(row) for row in rows[present]]
            placed = {values.field.number: locations.values_of(rows)}
            if values.is_restored:
                edit = Edit(CommitKind.REPLACE, ids, values=placed)
                appender.commit(StagedEdit(edit, self._schema, bodies))
            else:
                edit = Edit(CommitKind.COMPACT, ids, values=placed)
                appender.commit(StagedMove(edit, self._schema, bodies, ((), ())))
