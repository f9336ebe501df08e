"""What a store can have done to its columns, its SQL indices, its records and its named subsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import pyarrow as pa

from sqlstore import compaction, comparison, computing, diff, edits, snapshots, subsets
from sqlstore import upsert as upserts
from sqlstore.columnar import is_tabular
from sqlstore.compaction import Compaction
from sqlstore.comparison import Comparison
from sqlstore.copies import Snapshot
from sqlstore.diff import Diff
from sqlstore.duplicates import duplicates
from sqlstore.log.segment import CommitKind
from sqlstore.merging import adopt as adopting
from sqlstore.merging.parts import Choices, Merged, OnDuplicate
from sqlstore.processes import StartMethod
from sqlstore.schema import Column, Schema, with_index, with_renamed, without_column
from sqlstore.subsets import Subset
from sqlstore.types import Ids, StrPath
from sqlstore.view import View


class StoreEdits(View):
    """The methods of `Store` that change what there is of every record, or name some of them."""

    def add_column(
        self,
        name: str,
        declared: str | pa.DataType | Column,
        values: Any = None,
        *,
        select: Iterable[str] | None = None,
        workers: int = 1,
        start_method: StartMethod = "spawn",
    ) -> None:
        """Add a metadata column.

        Values of a function are committed about once a second. However it ends, by an error, Ctrl-C
        or a killed process, what was committed stays, and the same call goes on: a column of that
        type which is there already is taken as begun, and the function is called for the records
        that have no value, also for those that were appended since, and those for which it has
        returned None.

        Parameters
        ----------
        name
            Of the column.
        declared
            Its type, or a `Column`, as in `create`; the value may be missing.
        values
            One value for all records, an array with a value for each, or a SQLAlchemy expression,
            as in `update`. Or a table of two columns: the id or the key of records, and their
            values; other records have none. Or a function, which is given each record as a mapping
            and returns its value, or None for none. By default all are missing.
        select
            The fields and columns that the function is given, and ``"id"``; nothing else is read.
            By default all but the new column.
        workers
            How many processes call the function. With more than one, it must pickle.
        start_method
            How they are started.

        Raises
        ------
        SchemaError
            The name or type is not valid, or a value does not fit: of the function, it names the
            record.
        RecordNotFoundError
            The table names a record that is not there. Nothing is changed.
        ItemError
            The function has failed, or its process has died; names the record.
        """
        if callable(values) and not edits.is_expression(values):
            how = select, workers, start_method
            computing.add_computed(self._source, name, declared, values, *how)
        elif select is not None or workers != 1:
            raise TypeError("`select` and `workers` are for values that a function computes")
        elif is_tabular(values) and not edits.is_array(values):
            upserts.add_from_table(self._source, name, declared, values)
        else:
            edits.add_column(self._source, name, declared, values)

    def upsert(self, table: Any, on: str | None = None) -> Ids:
        """Update records from a table, and append those that are new.

        The store sees the newest commit first. Everything is checked before anything is changed,
        but for what only a commit tells: that a key of a new record, or a new key of a record, was
        taken meanwhile. New records are one commit, and updates the next. What is larger than half
        a GiB becomes several, of which those before an error stay; the same call again does no
        harm.

        Parameters
        ----------
        table
            An Arrow table or reader, a pandas DataFrame, or anything with an Arrow stream. Metadata
            columns that it has get its values, nulls included; the others stay as they are. Values
            of fields only for new records; `View.replace` is for others.
        on
            Which column says what record a row is of: ``"id"``, or the key. A row whose key no
            record has is a new record. By default the key if the table has it, else the id.

        Returns
        -------
        numpy.ndarray
            The ids of the records, int64, in the order of the table.

        Raises
        ------
        SchemaError
            A value does not fit, or two rows are of one record.
        RecordNotFoundError
            There is no record of an id.
        DuplicateKeyError
            Another record has one of the keys.
        """
        return upserts.upsert(self._source, table, on)

    def adopt(
        self,
        *chunks: StrPath,
        add_missing: bool = False,
        on_duplicate: OnDuplicate = "raise",
        in_parts: bool = False,
    ) -> Merged:
        """Append the records of other stores, of which there are only the chunk files.

        It is as `sqlstore.merge` with stores rebuilt from them in a temporary folder beside this
        one, where the files are linked, or copied if they lie on another file system.

        Parameters
        ----------
        *chunks
            Chunk files, all that a store has, in any order. Those of several stores are told apart;
            the store that is named first comes first. That the last ones of a store are missing
            cannot be noticed: then the records are those of the commits up to there.
        add_missing, on_duplicate, in_parts
            As for `sqlstore.merge`.

        Raises
        ------
        CorruptStoreError
            A chunk is damaged, or one is missing that others go on from.
        StorageError
            One is no file, or a link, which may lead anywhere.
        MergeError, SchemaError, DuplicateKeyError
            As for `sqlstore.merge`.
        """
        choices = Choices(add_missing, on_duplicate, in_parts)
        return adopting.adopt(self._source, chunks, choices)

    def duplicates(self, field: str) -> pa.Table:
        """Return the records of which another one has the same payload.

        What the location cache tells of each value finds them: its size, its compression, and the
        checksum of the stored bytes. Only values that agree in these are read, and compared byte
        for byte. So equal values that were compressed otherwise, with another dictionary say, are
        not found.

        Parameters
        ----------
        field
            The name of the field.

        Returns
        -------
        pyarrow.Table
            ``group``, from 0 on, the same for records that are alike; ``id``; and ``bytes``, the
            size of the value before compression. Ordered by group and id.
        """
        declared = self._source.schema.field(field)
        return duplicates(self._source, self.ids, declared)

    def drop_column(self, name: str) -> None:
        """Drop a metadata column and its values.

        Raises
        ------
        UnknownNameError
            There is no such column.
        SchemaError
            It is the key.
        """
        self._change(CommitKind.DROP_COLUMN, partial(without_column, name=name))

    def rename_column(self, name: str, new_name: str) -> None:
        """Give a metadata column another name."""
        change = partial(with_renamed, name=name, new_name=new_name)
        self._change(CommitKind.RENAME_COLUMN, change)

    def create_index(self, column: str) -> None:
        """Make an SQL index on a metadata column, so that filters by it need not look at all."""
        change = partial(with_index, name=column, is_indexed=True)
        self._change(CommitKind.CREATE_INDEX, change)

    def drop_index(self, column: str) -> None:
        """Drop the SQL index of a metadata column."""
        change = partial(with_index, name=column, is_indexed=False)
        self._change(CommitKind.DROP_INDEX, change)

    def _change(self, kind: CommitKind, change: Callable[[Schema], Schema]) -> None:
        edits.change_schema(self._source, kind, change)

    def subset(self, name: str, *, missing: Literal["raise", "skip"] = "raise") -> View:
        """Return the records of a named subset, in its order.

        Parameters
        ----------
        name
            As it was saved by `View.save`.
        missing
            What to do about members that were deleted since: ``"raise"`` keeps them in the view,
            and reading them raises; ``"skip"`` leaves them out.

        Raises
        ------
        SubsetNotFoundError
            There is none of that name.
        """
        if missing not in ("raise", "skip"):
            raise ValueError(f'missing is "raise" or "skip", not {missing!r}')
        _, ids = subsets.look_up(self._source, name)
        if missing == "skip":
            ids = subsets.without_deleted(self._source, ids)
        return View(self._source, ids)

    def subsets(self) -> list[Subset]:
        """Return what is known of every named subset, in the order in which they were saved."""
        return subsets.listed(self._source)

    def compare(self, first: str, second: str) -> Comparison:
        """Return what two named subsets have in common, and what has become of their members.

        No field is read: content is compared by metadata and checksums.

        Parameters
        ----------
        first, second
            Their names, as saved by `View.save`.

        Raises
        ------
        SubsetNotFoundError
            There is none of that name.
        """
        return comparison.compare(self._source, first, second)

    def drop_subset(self, name: str) -> None:
        """Forget a named subset; its records stay.

        Raises
        ------
        SubsetNotFoundError
            There is none of that name.
        """
        subsets.drop(self._source, name)

    def snapshot(self, name: str, *, note: str | None = None) -> None:
        """Take a snapshot of the store as it is now, with all that others have committed.

        ``sqlstore.open(path, snapshot=name)`` shows this state from then on, whatever comes later.

        Parameters
        ----------
        name
            Of up to 128 bytes, such that a file can have it on every system: printable text without
            slashes, backslashes and ``: * ? " < > |``, without a dot or space at either end.
            Case is ignored.
        note
            What to say of it.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        SnapshotExistsError
            There is a snapshot of that name.
        SchemaError
            It is no such name.
        """
        snapshots.take(self._source, name, note)

    def snapshots(self) -> list[Snapshot]:
        """Return what is known of every snapshot, in the order in which they were taken."""
        return snapshots.listed(self._source)

    def drop_snapshot(self, name: str) -> None:
        """Forget a snapshot, and remove its copy of the index; records are not touched.

        Who has it open can go on reading.

        Raises
        ------
        SnapshotNotFoundError
            There is none of that name.
        """
        snapshots.drop(self._source, name)

    def diff(self, before: str, after: str | None = None) -> Diff:
        """Return what differs between two snapshots, or between one and the store as seen here.

        No field is read: metadata is compared value by value, and of fields the checksums.

        Parameters
        ----------
        before
            The name of a snapshot.
        after
            The name of another one; this store by default.

        Raises
        ------
        SnapshotNotFoundError
            There is none of that name.
        """
        return diff.between(self._source, before, after)

    def compact(self, *, min_garbage: float = 0.25, dry_run: bool = False) -> Compaction:
        """Give back the bytes that nobody needs any more; ids, views and snapshots stay.

        What was updated, replaced or deleted stays in the chunk files until then, and so do the
        tables of all commits. The live values of chunks that are mostly garbage are copied, as they
        are stored, and those chunks are removed. Others may read and write meanwhile; who reads
        from a chunk that is removed goes on where its values are now. Killed at any moment, the
        store is what it was, and the next compaction goes on. A snapshot keeps the chunk files that
        it shows records of.

        Parameters
        ----------
        min_garbage
            The share of a chunk's bytes that nobody needs, from which on it is rewritten.
        dry_run
            Only say what would be done.

        Returns
        -------
        Compaction
            Every chunk and what becomes of it, the bytes copied, and the bytes freed. Printed, it
            says so in words.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading, and this is no dry run.
        CorruptStoreError
            Something live is damaged. Nothing is removed.
        StoreBusyError
            Others change the same records all the time.
        SchemaError
            Columns were added or dropped meanwhile; compact again.
        """
        return compaction.compact(self._source, min_garbage, dry_run=dry_run)
