"""Which records cannot keep their key when an edit is lost: another record has it by now."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from sqlstore.compaction.state import State
from sqlstore.log import edits
from sqlstore.log.segment import CommitKind
from sqlstore.maintenance import foreign
from sqlstore.maintenance.repair.mended import MendedReader
from sqlstore.maintenance.repair.salvage import Salvage
from sqlstore.schema import Column
from sqlstore.types import Ids


def records_without(state: State, salvage: Salvage, reader: MendedReader, ids: Ids) -> Ids:
    """Return the records among some whose key another of them was given later.

    The lost edit has freed it: it deleted them, or gave them a key that nobody knows.
    """
    if state.schema.key is None:
        return ids[:0]
    column = state.schema.columns[state.schema.key]
    by_key: dict[object, list[int]] = defaultdict(list)
    at = iter(ids.tolist())
    for piece in state.metadata(ids, [column])[0]:
        for key in foreign.as_stored(column, piece).to_pylist():
            by_key[key].append(next(at))
    shared = [records for records in by_key.values() if len(records) > 1]
    given = _given(column, salvage, reader) if shared else {}
    found = [
        record
        for records in shared
        for record in sorted(records, key=lambda one: (given.get(one, 0), one))[:-1]
    ]
    return np.array(sorted(found), np.int64)


def _given(column: Column, salvage: Salvage, reader: MendedReader) -> dict[int, int]:
    """Return the commits that gave records their keys, by record, behind the last checkpoint."""
    given: dict[int, int] = {}
    for known in salvage.commits:
        row = known.row
        if row.kind == CommitKind.APPEND:
            ids = range(row.first_record, row.first_record + row.records)
            given.update(dict.fromkeys(ids, row.number))
        elif row.kind == CommitKind.UPDATE and known.link is not None:
            name, trailer = known.link.chunk, known.link.trailer
            edit = edits.parse(reader.table(name, trailer), trailer, name)
            if column.number in edit.columns:
                given.update(dict.fromkeys(edit.ids.tolist(), row.number))
    return given
