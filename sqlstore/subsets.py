"""Named subsets: some records of a store, frozen under a name in its log."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.arrow import presence
from sqlstore.cache import locations
from sqlstore.edits import committing
from sqlstore.errors import CorruptIndexError, QueryError, SchemaError, SubsetNotFoundError
from sqlstore.index.subsets import SubsetRow
from sqlstore.index.values import bindable
from sqlstore.log.segment import CommitKind
from sqlstore.log.subsets import Described, fingerprint_of
from sqlstore.positions import NO_IDS, is_among
from sqlstore.queried import Condition
from sqlstore.schema import is_name
from sqlstore.source import Source
from sqlstore.staged import StagedSubset
from sqlstore.types import Ids

_AT_ONCE: Final = 1 << 18  # records whose content is looked at together


@dataclass(frozen=True, slots=True)
class Subset:
    """What is known of a named subset; `Store.subset` gives its records.

    Attributes
    ----------
    name
        Of the subset.
    records
        How many members it has, repeats counted.
    deleted
        How many of them were deleted since.
    sql, parameters
        The SQL condition that made it and what was bound to that, times as integers; None if it was
        made otherwise.
    note
        What was said of it, or None.
    fingerprint
        SHA-256, in hexadecimal digits, of the ids of its members in their order.
    content
        The same of what the members were when it was saved: `View.content_fingerprint`.
    saved_at
        When, in UTC.
    """

    name: str
    records: int
    deleted: int
    sql: str | None
    parameters: Mapping[str, Any] | None
    note: str | None
    fingerprint: str
    content: str
    saved_at: dt.datetime


def save(
    source: Source,
    ids: Ids,
    name: str,
    note: str | None,
    condition: Condition | None,
) -> None:
    """Save records as a named subset.

    Raises
    ------
    SubsetExistsError
        There is one of that name.
    SchemaError
        That is no name.
    RecordNotFoundError
        A record was deleted.
    """
    if not is_name(name):
        raise SchemaError(f"{name!r} is not a name: printable text without outer spaces")
    marks = fingerprint_of(ids), content_fingerprint(source, ids)
    written = None if condition is None else condition.written(source.finder)
    sql, bound = (None, None) if written is None else (written[0], _as_json(written[1]))
    described = Described(name, sql, bound, note, *marks)
    with committing(source) as committer:
        staged = StagedSubset(CommitKind.SAVE_SUBSET, described, ids)
        committer.commit(staged, source.committed)


def _as_json(bound: Mapping[str, object]) -> str:
    return json.dumps(dict(bound), default=_said)


def _said(value: object) -> object:
    """Return a bound value that JSON lacks: as SQLite has it where that can be bound again."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    try:
        stored = bindable(value)
    except QueryError:
        return str(value)
    return str(value) if isinstance(stored, bytes) else stored


def drop(source: Source, name: str) -> None:
    """Forget a named subset.

    Raises
    ------
    SubsetNotFoundError
        There is none of that name.
    """
    with committing(source) as committer:
        staged = StagedSubset(CommitKind.DROP_SUBSET, Described(name), NO_IDS)
        committer.commit(staged, source.committed)


def listed(source: Source) -> list[Subset]:
    """Return what is known of every subset, in the order in which they were saved."""
    source.check_open()
    told = (_told(source, row) for row in _seen(source))
    return [subset for subset in told if subset is not None]


def look_up(source: Source, name: str) -> tuple[SubsetRow, Ids]:
    """Return the row of a subset, and its members in their order, whether deleted or not.

    Raises
    ------
    SubsetNotFoundError
        There is none of that name.
    CorruptIndexError
        The index has other members than were saved.
    """
    source.check_open()
    row = next((row for row in _seen(source) if row.name == name), None)
    ids = None if row is None else _checked(source, row)
    if row is not None and ids is not None:
        return row, ids
    known = ", ".join(repr(row.name) for row in _seen(source)) or "none"
    raise SubsetNotFoundError(
        f"no subset is named {name!r}; there are {known}; `refresh()` shows what was saved since"
    )


def _seen(source: Source) -> list[SubsetRow]:
    """Return the rows of the subsets that were saved before what the store sees.

    The records of others may be younger.
    """
    return [row for row in source.finder.subsets() if row.number <= source.seen.commit]


def _checked(source: Source, row: SubsetRow) -> Ids | None:
    """Return the members of a subset; None if it was dropped since its row was read."""
    ids = source.finder.members(row.number)
    if fingerprint_of(ids) == row.fingerprint:
        return ids
    if source.finder.subset(row.name) != row:
        return None
    raise CorruptIndexError(
        f"the index has other members of subset {row.name!r} than were saved; "
        f"run `sqlstore rebuild {source.root}`"
    )


def without_deleted(source: Source, ids: Ids) -> Ids:
    """Return the members that are still there."""
    return ids[~is_among(ids, source.deleted)]


def _told(source: Source, row: SubsetRow) -> Subset | None:
    """Return what is known of a subset; None if it was dropped since its row was read."""
    deleted = 0
    if len(source.deleted):
        ids = _checked(source, row)
        if ids is None:
            return None
        deleted = int(is_among(ids, source.deleted).sum())
    if row.saved_at not in limits.MOMENTS:
        raise CorruptIndexError(
            f"subset {row.name!r} was saved in no year; run `sqlstore rebuild {source.root}`"
        )
    return Subset(
        row.name,
        row.records,
        deleted,
        row.sql,
        _parameters(source, row),
        row.note,
        row.fingerprint,
        row.content,
        dt.datetime.fromtimestamp(row.saved_at / 1e6, dt.UTC),
    )


def _parameters(source: Source, row: SubsetRow) -> Mapping[str, Any] | None:
    """Return what was bound to the SQL of a subset."""
    if row.parameters is None:
        return None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(row.parameters)
        if isinstance(found, dict):
            return found
    raise CorruptIndexError(
        f"the parameters of subset {row.name!r} are no JSON; run `sqlstore rebuild {source.root}`"
    )


def content_fingerprint(source: Source, ids: Ids) -> str:
    """Return the SHA-256, in hexadecimal digits, of what records are.

    It covers the metadata, and the checksums of what is stored of every field: so it changes with
    every value, with the compression, and with the columns that there are.

    Raises
    ------
    RecordNotFoundError
        A record was deleted.
    """
    schema, found = source.schema, hashlib.sha256()
    for field in schema.fields.values():
        found.update(f"field {field.name} {field.encoding}\n".encode())
        for start in range(0, len(ids), _AT_ONCE):
            rows = source.rows(ids[start : start + _AT_ONCE], field)
            marks = rows[:, locations.COMPRESSION : locations.CRC + 1]
            found.update(np.ascontiguousarray(marks).data)
    for column in schema.columns.values():
        found.update(f"column {column.name} {column.type}\n".encode())
        for start in range(0, len(ids), _AT_ONCE):
            (arrays,) = source.metadata(ids[start : start + _AT_ONCE], [column])
            _take_in(found, arrays)
    return found.hexdigest()


def _take_in(found: Any, arrays: list[pa.Array]) -> None:
    """Add values to a hash, in whatever pieces they lie in memory."""
    present = [presence(array) for array in arrays]
    found.update(np.packbits(np.concatenate(present)).data)
    for array, are_present in zip(arrays, present, strict=True):
        _take_in_values(found, array, are_present)


def _take_in_values(found: Any, array: pa.Array, present: NDArray[np.bool_]) -> None:
    if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        array = array.cast(pa.large_binary()).drop_null()
        for value in array.to_pylist():
            found.update(len(value).to_bytes(8, "little") + value)
        return
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    width = array.type.bit_width // 8
    data = np.frombuffer(array.buffers()[1] or b"", np.uint8).reshape(-1, width)
    found.update(np.ascontiguousarray(data[array.offset :][: len(array)][present]).data)
