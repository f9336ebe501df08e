"""Append records to a store."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sqlstore import columnar, limits
from sqlstore.batch import Block, joined
from sqlstore.commit import Committer
from sqlstore.compressors import Compressors
from sqlstore.encodings import Encodings
from sqlstore.errors import SqlstoreError, StoreBusyError
from sqlstore.log.segment import Trailer
from sqlstore.rows import RowBuffer
from sqlstore.staged import StagedAppend
from sqlstore.types import Ids, Record


class Writer:
    """Appends records and commits them, by itself now and then, and at the end.

    A context manager: leaving the block commits, an exception inside it drops what was not
    committed. What `commit` has acknowledged is durable. Many writers, in any number of processes,
    may append to one store at the same time; each writes its own chunk file.

    Made by `Store.writer`; not to be used from several threads at once.

    Parameters
    ----------
    commit_records, commit_bytes, commit_seconds
        A commit happens by itself when this many records, or this many bytes, are waiting, or when
        a record is appended this long after the last commit.
    """

    def __init__(
        self,
        root: Path,
        on_commit: Callable[[Trailer], None],
        encodings: Encodings,
        *,
        commit_records: int = limits.COMMIT_RECORDS,
        commit_bytes: int = limits.COMMIT_BYTES,
        commit_seconds: float = limits.COMMIT_SECONDS,
    ) -> None:
        if commit_records < 1 or commit_bytes < 1 or commit_seconds <= 0:
            raise ValueError("a commit takes at least one record, one byte, and some time")
        self._committer = Committer(root)
        try:
            self._compressors = Compressors(self._committer)
        except BaseException:
            self._committer.close()
            raise
        self._encodings = encodings
        self._rows = RowBuffer(self._committer.schema, encodings)
        self._blocks: list[Block] = []
        self._on_commit = on_commit
        self._commit_records = commit_records
        self._commit_bytes = commit_bytes
        self._commit_seconds = commit_seconds
        self._last_commit = time.monotonic()
        self._taken = 0
        self._committed: list[Ids] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()

    @property
    def ids(self) -> Ids:
        """Return the ids of all records that this writer has committed, in the order given."""
        return np.concatenate([np.empty(0, np.int64), *self._committed])

    def __del__(self) -> None:
        waiting = getattr(self, "_rows", None)
        if waiting is not None and (waiting.count or self._blocks):
            warnings.warn(
                "a writer was dropped with records that were never committed; use it in a "
                "`with` block or call commit()",
                RuntimeWarning,
                stacklevel=2,
            )

    def append(self, record: Record) -> None:
        """Take one record; it is durable after the next commit.

        Parameters
        ----------
        record
            Values by field and metadata column. What is left out or None is missing.

        Raises
        ------
        SchemaError
            The record is not what the schema declares. Nothing of it is kept, and the writer can
            go on.
        """
        if not self._committer.usable:
            self._committer.check_usable()
        rows = self._rows
        rows.append(record, self._taken)
        self._taken += 1
        if (
            rows.count >= self._commit_records
            or rows.size >= self._commit_bytes
            or time.monotonic() - self._last_commit >= self._commit_seconds
        ):
            self.commit()

    def extend(self, records: Any) -> None:
        """Take many records.

        Parameters
        ----------
        records
            An iterable of mappings; or a table: an Arrow table, record batch or reader, a pandas
            DataFrame, or anything with an Arrow stream, such as a polars DataFrame or a DuckDB
            relation, which is read piece by piece.

        Raises
        ------
        SchemaError
            A record does not fit. Those before it have been taken.
        """
        if not columnar.is_tabular(records):
            for record in each_record(records):
                self.append(record)
            return
        self._committer.check_usable()
        how = self._encodings, self._compressors.choose
        most = self._commit_records, self._commit_bytes
        for block in columnar.blocks(records, self._committer.schema, *how, *most):
            self._take_rows()
            self._blocks.append(block)
            self._taken += block.count
            if self._waiting() >= self._commit_records or self._size() >= self._commit_bytes:
                self.commit()

    def commit(self) -> Ids:
        """Make everything taken so far durable.

        Returns
        -------
        numpy.ndarray
            The ids of the records of this commit, int64, in the order in which they were given.
            Empty if there was nothing to commit.

        Raises
        ------
        DuplicateKeyError
            A record with one of the keys exists. None of the waiting records was committed; they
            are dropped.
        StoreBusyError
            Other writers held the lock too long. The records are kept; commit again.
        StoreFullError, StorageError
            The disk is full or failing. What was committed before is intact; this writer is at
            its end.
        """
        self._committer.check_usable()
        before = len(self._committed)
        first = self._taken - self._waiting() - self._rows.count
        try:
            self._take_rows()
            if self._blocks:
                staged = StagedAppend(joined(self._blocks), self._committer.schema)
                self._committer.commit(staged, self._acknowledge)
        except StoreBusyError:
            raise
        except SqlstoreError as error:
            self.rollback()
            row = error.where.get("row")
            if isinstance(row, int):  # of this commit: people count from the first record
                error.where["row"] = first + row
            raise
        self._last_commit = time.monotonic()
        return self._committed[-1] if len(self._committed) > before else np.empty(0, np.int64)

    def rollback(self) -> None:
        """Forget the records that have not been committed."""
        self._rows.clear()
        self._blocks.clear()

    def close(self) -> None:
        """End the writer; records that have not been committed are dropped."""
        self.rollback()
        self._committer.close()

    def _acknowledge(self, trailer: Trailer) -> None:
        first = trailer.first_record
        self._committed.append(np.arange(first, first + trailer.records, dtype=np.int64))
        self._blocks.clear()
        self._on_commit(trailer)

    def _take_rows(self) -> None:
        if self._rows.count:
            self._blocks.append(self._rows.take(self._compressors.choose))

    def _waiting(self) -> int:
        return sum(block.count for block in self._blocks)

    def _size(self) -> int:
        return sum(int(one.values.length.sum()) for b in self._blocks for one in b.fields.values())


def each_record(records: Any) -> Iterable[Record]:
    """Return records to be taken one by one, or refuse what is something else."""
    if not isinstance(records, Iterable) or isinstance(records, (str, bytes, dict)):
        raise TypeError(
            "expected an iterable of mappings, an Arrow table or a DataFrame, "
            f"got {type(records).__name__}; a dict of columns becomes a table by pyarrow.table()"
        )
    return records
