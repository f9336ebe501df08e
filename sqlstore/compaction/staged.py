"""What a compaction commits: values in other places, and a checkpoint."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from sqlstore import replay
from sqlstore.errors import CorruptIndexError, SqlstoreError
from sqlstore.index import changes, records
from sqlstore.index.engine import Index
from sqlstore.log.checkpoint import Building
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.edits import Edit
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.schema import Schema
from sqlstore.staged import EditedSinceError, Staged, StagedEdit
from sqlstore.types import Buffer

_MAY_COME_BETWEEN: Final = (
    CommitKind.APPEND,
    CommitKind.UPDATE,
    CommitKind.REPLACE,
    CommitKind.DELETE,
    CommitKind.CHECKPOINT_PART,
)
"""A checkpoint is as of a commit before it, and these lie behind that; after any other it would
have to say something else."""


class StagedMove(StagedEdit):
    """Values of one field that are copied to another place.

    Parameters
    ----------
    edit, schema, bodies
        As for any edit.
    before
        The chunks that the values lie in, and where there, in the order of the records.
    """

    skippable = True  # without it they are where they were, until a checkpoint retires the chunk

    def __init__(
        self,
        edit: Edit,
        schema: Schema,
        bodies: Sequence[Buffer],
        before: tuple[Sequence[int], Sequence[int]],
    ) -> None:
        super().__init__(edit, schema, bodies)
        self._before = before

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Change where the values lie.

        Raises
        ------
        EditedSinceError
            A value lies elsewhere by now, or its record is gone.
        """
        for number, values in self._edit.values.items():
            after = trailer.chunk, values.offset.tolist()
            ids = self._edit.ids
            if changes.move_values(index, number, ids, self._before, after) != len(ids):
                raise EditedSinceError(f"values in {index.root} were replaced or moved meanwhile")


class _StagedState(Staged):
    """A part of what a store holds."""

    def refused(self, index: Index, error: sqlite3.IntegrityError) -> SqlstoreError:
        """Return that the index is damaged."""
        return CorruptIndexError(
            f"the index does not allow a commit ({error}); run `sqlstore rebuild {index.root}`"
        )


class StagedPart(_StagedState):
    """Live records of a checkpoint."""

    kind = CommitKind.CHECKPOINT_PART

    def __init__(self, table: pa.Buffer) -> None:
        self.table = table

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        self.bodies_end = start

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Insert nothing: the index has these records."""


class StagedCheckpoint(_StagedState):
    """What completes a checkpoint, and retires chunks.

    Parameters
    ----------
    building
        Its pieces.
    as_of
        The number of the commit whose state it is.
    retired
        The numbers of the chunks that nobody needs any more.
    """

    kind = CommitKind.CHECKPOINT
    allows = _MAY_COME_BETWEEN

    def __init__(self, building: Building, as_of: int, retired: Sequence[int]) -> None:
        self.computed_at = as_of
        self._building = building
        self._as_of = as_of
        self._retired = retired
        self._dictionaries: list[DictionaryPlace] = []

    def lay_out(self, start: int) -> None:
        """Take its place in a chunk, from an offset on."""
        self.table, self._dictionaries, self.bodies_end = self._building.table(start)

    def bodies(self) -> Iterable[Buffer]:
        """Return its pieces."""
        return self._building.bodies

    def insert(self, index: Index, trailer: Trailer) -> None:
        """Say where dictionaries lie from now on, and which chunks are retired.

        Raises
        ------
        EditedSinceError
            There have been commits to one of the chunks, or it is not sealed any more, after a
            rebuild: somebody may be about to commit to it.
        """
        sealed = {row.chunk for row in records.chunks(index) if row.sealed}
        in_use = records.chunks_since(index, self._as_of) & set(self._retired)
        if in_use or not sealed.issuperset(self._retired):
            raise EditedSinceError(f"chunks of {index.root} were written to meanwhile")
        places = [dataclasses.replace(d, chunk=trailer.chunk) for d in self._dictionaries]
        replay.complete_checkpoint(index, trailer, places, self._retired)
