"""Copy what is live out of chunks that are mostly garbage, and remove those.

First live values are copied, each some commits; then a checkpoint says all that the store holds, so
that no commit before it is needed; then chunks are removed. Killed at any moment, the store is what
it was, and the next compaction goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final, TypeAlias

import numpy as np

from sqlstore import limits
from sqlstore.cache import locations
from sqlstore.commit import Committer
from sqlstore.compaction.checkpointing import Said, staged_checkpoint
from sqlstore.compaction.history import History
from sqlstore.compaction.plan import Compaction, planned
from sqlstore.compaction.staged import StagedMove
from sqlstore.compaction.state import State, taken
from sqlstore.edits import committing
from sqlstore.errors import CorruptStoreError, RecordNotFoundError
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.log import chain, files
from sqlstore.log.edits import Edit
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.log.writer import ChunkWriter
from sqlstore.portions import runs
from sqlstore.progress import counted
from sqlstore.schema import Field
from sqlstore.source import Source
from sqlstore.staged import EditedSinceError, Staged

Acknowledge: TypeAlias = Callable[[Trailer], None]
_ATTEMPTS: Final = 20
"""How often what others change meanwhile is looked at again."""


def compact(source: Source, min_garbage: float, *, dry_run: bool) -> Compaction:
    """Do it, or say what would be done; see `Store.compact`."""
    if not 0 <= min_garbage <= 1:
        raise ValueError(f"min_garbage is a share from 0 to 1, not {min_garbage!r}")
    source.check_open()
    if not dry_run:
        source.check_writable()
    # Another source, as this goes on to see what others commit, and who asked shall not by that.
    with contextlib.closing(Source.open(source.how)) as own:
        state = taken(own)
        if state is None:
            return Compaction(False, (), 0, 0)
        plan = planned(state, _history(own, state), _sizes(own), min_garbage)
        return plan if dry_run else _done(own, plan, source.committed)


def _done(source: Source, plan: Compaction, acknowledge: Acknowledge) -> Compaction:
    """Do what is planned."""
    with committing(source) as committer:
        committer.look_up(_remove_left_over, settled=True)
        gone = plan.of_fate("rewrite", "remove")
        if not gone:
            return dataclasses.replace(plan, done=True)
        before = sum(_sizes(source).values())
        sealed = _sealed(committer, [use.number for use in gone])
        copied = _move(source, committer, sealed, acknowledge)
        retired = _retire(source, committer, sealed, acknowledge)
        # Under the lock, so that nobody who rebuilds finds them and then finds them gone.
        committer.look_up(lambda _, reader: files.remove_chunks(reader.root, retired.values()))
    chunks = tuple(
        use if use.number in retired else dataclasses.replace(use, fate="keep")
        for use in plan.chunks
    )
    return Compaction(True, chunks, copied, before - sum(_sizes(source).values()))


def _history(source: Source, state: State) -> History:
    return source.finder.look_up(lambda index, reader: History.of_index(index, reader, state.as_of))


def _sizes(source: Source) -> dict[int, int]:
    """Return how large the chunk files are that are there, by number."""
    rows = source.finder.look_up(lambda index, _: records.chunks(index))
    found = {row.chunk: files.chunk_size(source.root, row.name) for row in rows}
    return {number: size for number, size in found.items() if size is not None}


def _remove_left_over(index: Index, reader: ChunkReader) -> None:
    """Remove chunks that were retired, or begun and never committed to, by somebody killed."""
    rows = {row.name: row for row in records.chunks(index)}
    gone = []
    for name in files.chunk_names(reader.root):
        row = rows.get(name)
        if row.retired if row is not None else _is_begun_only(reader, name):
            gone.append(name)
    files.remove_chunks(reader.root, gone)


def _is_begun_only(reader: ChunkReader, name: str) -> bool:
    """Return whether a chunk was begun, holds no commit, and nobody is about to commit to it."""
    return ChunkWriter.is_free(reader.root, name) and not chain.mentions_commit(reader, name)


def _sealed(committer: Committer, numbers: Collection[int]) -> set[int]:
    """Return those of some chunks that nothing is appended to any more, sealed if need be."""
    return committer.look_up(partial(_seal, numbers), settled=True)


def _seal(numbers: Collection[int], index: Index, reader: ChunkReader) -> set[int]:
    """See to it that nothing is appended any more to chunks, and return those that it is true of.

    One that somebody writes to now is left out.
    """
    sealed = set()
    with index.transaction():
        for row in records.chunks(index):
            if row.chunk in numbers and (row.sealed or ChunkWriter.is_free(reader.root, row.name)):
                records.seal_chunk(index, row.name)
                sealed.add(row.chunk)
        index.commit()
    return sealed


def _move(source: Source, committer: Committer, chunks: set[int], acknowledge: Acknowledge) -> int:
    """Copy live values out of chunks; return how many bytes they have."""
    copied = 0
    for _ in range(_ATTEMPTS):
        state = taken(source)
        if state is None:
            return copied
        total = sum(live.n_bytes for number, live in state.live.items() if number in chunks)
        try:
            with counted(total, "compact", "bytes") as advance:
                for field in state.schema.fields.values():
                    for edit, staged in _moves(source, committer, state, field, chunks):
                        committer.commit(staged, acknowledge)
                        size = sum(int(values.length.sum()) for values in edit.values.values())
                        copied += size
                        advance(size)
        except (EditedSinceError, RecordNotFoundError):
            continue
        else:
            return copied
    raise EditedSinceError(f"others edit records of {source.root} all the time; try again")


def _moves(
    source: Source, committer: Committer, state: State, field: Field, chunks: set[int]
) -> Iterator[tuple[Edit, StagedMove]]:
    rows = state.rows(field)
    most = min(limits.COMMIT_BYTES, source.finder.identity.chunk_size // 2)
    here = np.flatnonzero(state.in_chunks(field, chunks))
    for run in runs(rows[here, locations.LENGTH].astype(np.int64), most):
        some = here[run]
        ids = state.ids[some]
        found, bodies = source.as_stored(ids, field)
        values = locations.values_of(found)
        edit = Edit(CommitKind.COMPACT, ids, values={field.number: values})
        before = rows[some, locations.CHUNK].tolist(), rows[some, locations.OFFSET].tolist()
        yield edit, StagedMove(edit, committer.schema, bodies, before)


def _retire(
    source: Source, committer: Committer, sealed: set[int], acknowledge: Acknowledge
) -> dict[int, str]:
    """Commit a checkpoint; return the chunks that nobody needs any more, by number."""
    for _ in range(_ATTEMPTS):
        sealed = _sealed(committer, sealed)  # anew: a rebuild meanwhile seals none
        state = taken(source)
        if state is None:
            return {}
        history = _history(source, state)
        live = set(state.live)
        pinned = set().union(*history.needs().values())
        names = {row.chunk: row.name for row in history.present()}
        reader = ChunkReader(source.root)
        try:
            retired = {
                number: names[number]
                for number in sorted(sealed - live - pinned)
                if number in names and _ends_before(reader, names[number], state.as_of)
            }
        finally:
            reader.close()
        if not retired:
            return {}
        try:
            how = live, list(retired), acknowledge
            _commit_checkpoint(source, committer, state, history, *how)
        except EditedSinceError:
            continue
        else:
            return retired
    raise EditedSinceError(f"others change {source.root} all the time; try again")


def _ends_before(reader: ChunkReader, name: str, as_of: int) -> bool:
    """Return whether all commits in a chunk are known to be up to a number."""
    try:
        walk = chain.walk(reader, name, reader.header(name).chunk)
    except CorruptStoreError:
        return False
    return not walk.faults and all(link.trailer.number <= as_of for link in walk.links)


def _commit_checkpoint(
    source: Source,
    committer: Committer,
    state: State,
    history: History,
    live: set[int],
    retired: list[int],
    acknowledge: Acknowledge,
) -> None:
    def commit(staged: Staged) -> Trailer:
        found: list[Trailer] = []
        committer.commit(staged, found.append)
        return found[0]

    said = Said(history, live, retired, committer.settings(state.schema), source.dictionary)
    committer.commit(staged_checkpoint(state, said, commit), acknowledge)
