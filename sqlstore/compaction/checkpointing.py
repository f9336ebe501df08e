"""Make a checkpoint of a state: its parts are committed first, and what completes them last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlstore.compaction.history import History
from sqlstore.compaction.staged import StagedCheckpoint, StagedPart
from sqlstore.compaction.state import State
from sqlstore.log import subsets
from sqlstore.log.checkpoint import Building, Span
from sqlstore.log.segment import Trailer
from sqlstore.log.table import build_schema
from sqlstore.staged import Staged


@dataclass(frozen=True, slots=True)
class Said:
    """What a checkpoint says beside the records.

    Attributes
    ----------
    history
        The commits up to the state, chunks, subsets and snapshots.
    live
        The numbers of the chunks that values of records lie in.
    retired
        The numbers of the chunks that nobody needs any more.
    settings
        What a commit says of the store beside its schema.
    dictionary
        Returns the dictionary of a number.
    """

    history: History
    live: set[int]
    retired: Sequence[int]
    settings: Mapping[str, object]
    dictionary: Callable[[int], bytes]


def staged_checkpoint(
    state: State, said: Said, commit: Callable[[Staged], Trailer]
) -> StagedCheckpoint:
    """Commit the parts of a checkpoint, and return what is to be committed to complete it.

    Parameters
    ----------
    commit
        Commits a part, and returns its trailer.
    """
    spans = [
        Span(commit(StagedPart(table)).number, first, stop) for first, stop, table in state.parts()
    ]
    history = said.history
    building = Building(state.as_of, state.commit, spans)
    building.add("schema", build_schema(state.schema, said.settings))
    building.add_rows("commits", history.commit_rows())
    building.add_rows("chunks", history.chunk_rows(said.live, said.retired))
    building.add_rows("snapshots", history.snapshot_rows())
    for number, described, ids in history.saved():
        building.add("subset", subsets.build(described, ids), number)
    for place in state.manifest.dictionaries:
        building.add("dictionary", said.dictionary(place.number), place.number, place.field)
    return StagedCheckpoint(building, state.as_of, said.retired)
