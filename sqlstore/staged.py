"""What a commit brings, on its way into a chunk and into the index."""

from __future__ import annotations

import dataclasses
import sqlite3
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

import pyarrow as pa

from sqlstore import replay
from sqlstore.batch import Block, duplicate_key
from sqlstore.errors import (
    CorruptIndexError,
    SchemaError,
    SqlstoreError,
    StoreBusyError,
    SubsetExistsError,
)
from sqlstore.index import alter, changes, records
from sqlstore.index.engine import Index
from sqlstore.log import dictionary, edits, snapshots, subsets
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.edits import Edit
from sqlstore.log.segment import TRAILER_SIZE, CommitKind, Trailer, align
from sqlstore.log.snapshots import Titled
from sqlstore.log.subsets import Described
from sqlstore.log.table import Values, build_append, build_schema
from sqlstore.schema import Schema
from sqlstore.types import Buffer, Ids, SqlValue


class Staged(ABC):
    """The content of one commit.

    Attributes
    ----------
    kind, skippable
        As in its trailer.
    count
        How many records it appends.
    changes_schema
        Whether there is another schema after it.
    computed_at
        Number of the commit as of which it was computed from what there was: it is refused if
        there were commits since of other kinds than it allows. None if it does not depend on that.
    allows
        Those kinds: what neither edits records nor changes the schema.
    bodies_end, table
        Where the bodies end, and the segment table, once it is laid out.
    """

    kind: CommitKind
    skippable: ClassVar[bool] = False
    count: int = 0
    changes_schema: bool = False
    computed_at: int | None = None
    allows: ClassVar[Collection[CommitKind]] = (
        CommitKind.APPEND,
        CommitKind.DICTIONARY,
        CommitKind.COMPACT,
        CommitKind.CHECKPOINT_PART,
        CommitKind.CHECKPOINT,
    )
    bodies_end: int
    table: pa.Buffer

    @property
    def end(self) -> int:
        """Return where its segment ends."""
        return align(self.bodies_end) + int(self.table.size) + TRAILER_SIZE

    @abstractmethod
    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""

    def bodies(self) -> Iterable[Buffer]:
        """Return its bodies, in order."""
        return ()

    @abstractmethod
    def insert(self, index: Index, trailer: Trailer) -> None:
        """Insert its rows but for that of the commit itself.

        Raises
        ------
        sqlite3.IntegrityError
            A constraint does not allow it.
        """

    @abstractmethod
    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return the error that says what a constraint does not allow."""


class StagedAppend(Staged):
    """Records to be appended."""

    kind = CommitKind.APPEND

    def __init__(self, block: Block, schema: Schema) -> None:
        self.count = block.count
        self._block = block
        self._schema = schema
        self._values: dict[int, Values] = {}

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        for number, one in self._block.fields.items():
            self._values[number], start = one.values.laid_out(start)
        self.bodies_end = start
        self.table = build_append(self._values, self._block.columns)

    def bodies(self) -> Iterable[Buffer]:
        """Return the values, field by field."""
        return (body for one in self._block.fields.values() for body in one.bodies)

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Insert the rows of the records."""
        replay.insert_append(index, self._schema, trailer, self._values, self._block.sql)

    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return the error that says which record a constraint does not allow."""
        schema = self._schema
        if schema.key is not None:
            position = list(schema.columns).index(schema.key)
            twice = _key_twice(index, schema, self._block.sql[position])
            if twice is not None:
                row, key, where = twice
                return duplicate_key(schema, key, row=row, **where)
        if "records.id" in str(error) or "blobs." in str(error):
            return CorruptIndexError(
                f"the index has rows of records that were never committed ({error}); "
                f"run `sqlstore rebuild {index.root}`"
            )
        return SchemaError(f"the store does not allow these records: {error}")


class StagedEdit(Staged):
    """Other values for records that are there, or their deletion.

    Parameters
    ----------
    edit
        What is done to which records.
    schema
        That of the store.
    bodies
        The new values of fields, field by field and in the order of the records.
    """

    def __init__(self, edit: Edit, schema: Schema, bodies: Sequence[Buffer] = ()) -> None:
        self.kind = edit.kind
        self._edit = edit
        self._schema = schema
        self._bodies = bodies

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        placed = {}
        for number, values in self._edit.values.items():
            placed[number], start = values.laid_out(start)
        self._edit = dataclasses.replace(self._edit, values=placed)
        self.bodies_end = start
        self.table = edits.build(self._edit)

    def bodies(self) -> Iterable[Buffer]:
        """Return the new values of fields."""
        return self._bodies

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Change the rows of the records."""
        found = replay.edit_records(index, self._schema, self._edit, trailer.chunk)
        changes.refuse_missing(index, found, self._edit.ids)

    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return the error that says which record a constraint does not allow."""
        schema, edit = self._schema, self._edit
        if schema.key is not None and schema.columns[schema.key].number in edit.columns:
            column = schema.columns[schema.key]
            keys = column.kind.to_sql(edit.columns[column.number])
            twice = _key_twice(index, schema, keys, edit.ids.tolist())
            if twice is not None:
                _, key, where = twice
                return duplicate_key(schema, key, **where)
        return SchemaError(f"the store does not allow these values: {error}")


def _key_twice(
    index: Index, schema: Schema, keys: Sequence[SqlValue], ids: Sequence[int] = ()
) -> tuple[int, SqlValue, dict[str, int]] | None:
    """Return which of some new keys is there already, or among them twice, and where it is.

    Parameters
    ----------
    ids
        The records that get the keys, and lose those that they have.
    """
    seen, own = set(), set(ids)
    for row, key in enumerate(keys):
        other = records.id_of_key(index, schema.key or "", key)
        if other is not None and other not in own:
            return row, key, {"record": other}
        if key in seen:
            return row, key, {}
        seen.add(key)
    return None


class StagedSchema(Staged):
    """Another schema.

    Parameters
    ----------
    kind
        What is changed.
    before, after
        The schemas; that of ``after`` gets its version when it is committed.
    settings
        What the commit says of the store beside it.
    """

    changes_schema = True

    def __init__(
        self, kind: CommitKind, before: Schema, after: Schema, settings: Mapping[str, object]
    ) -> None:
        self.kind = kind
        self._before = before
        self._after = after
        self.table = build_schema(after, settings)

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        self.bodies_end = start

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Alter the tables."""
        after = dataclasses.replace(self._after, version=trailer.schema_version)
        alter.change(index, self._before, after)

    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return that a constraint does not allow it."""
        return SchemaError(f"{index.path} does not allow another schema: {error}")


class StagedSubset(Staged):
    """A named subset to be saved, or to be dropped."""

    skippable = True  # who does not know subsets can read all records

    def __init__(self, kind: CommitKind, described: Described, ids: Ids) -> None:
        self.kind = kind
        self._described = described
        self._ids = ids
        self.table = subsets.build(described, ids)

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        self.bodies_end = start

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Insert the rows of the subset, or delete them."""
        replay.change_subsets(index, trailer, self._described, self._ids)

    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return that the name is taken."""
        if "subsets.name" in str(error):
            return SubsetExistsError(
                f"there is a subset {self._described.name!r} already; drop it, or take another name"
            )
        return CorruptIndexError(
            f"the index does not allow a subset ({error}); run `sqlstore rebuild {index.root}`"
        )


class StagedSnapshot(Staged):
    """A snapshot to be taken, or to be dropped."""

    skippable = True  # who does not know snapshots can read the store as it is now

    def __init__(self, kind: CommitKind, titled: Titled) -> None:
        self.kind = kind
        self.table = snapshots.build(titled)

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        self.bodies_end = start

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Insert nothing: the commit itself says all."""

    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return that the index is damaged."""
        return CorruptIndexError(
            f"the index does not allow a commit ({error}); run `sqlstore rebuild {index.root}`"
        )


class StagedDictionary(Staged):
    """A dictionary for compression.

    Parameters
    ----------
    number
        The one that is believed to be free: another writer may take it first.
    field
        Number of the field that it was trained for.
    data
        The dictionary.
    """

    kind = CommitKind.DICTIONARY
    # Who does not know dictionaries can read everything but the values that need one.
    skippable = True

    def __init__(self, number: int, field: int, data: bytes) -> None:
        self._number = number
        self._field = field
        self._data = data
        self._start = 0

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        self._start = start
        self.bodies_end = start + len(self._data)
        self.table = dictionary.build(self._number, self._field, start, self._data)

    def bodies(self) -> Iterable[Buffer]:
        """Return the dictionary."""
        return [self._data]

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Insert the row of the dictionary."""
        crc = zlib.crc32(self._data)
        place = DictionaryPlace(
            self._number, self._field, trailer.chunk, self._start, len(self._data), crc
        )
        replay.insert_dictionary(index, place)

    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return that another writer has made a dictionary of this number."""
        if "dictionaries." in str(error):
            return NumberTakenError(
                f"another writer has committed dictionary {self._number} to {index.root}; try again"
            )
        return CorruptIndexError(
            f"the index does not allow a commit ({error}); run `sqlstore rebuild {index.root}`"
        )


class EditedSinceError(StoreBusyError):
    """Records were edited since something was computed from them; computed again it is right."""


class NumberTakenError(StoreBusyError):
    """Another writer has committed a dictionary meanwhile; with the next number it is no harm."""
