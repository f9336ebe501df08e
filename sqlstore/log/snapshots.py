"""Commits that take a snapshot, or drop one: what it is called, and what was said of it.

A snapshot shows the store as of the commit before its own. The table has neither columns nor rows;
its schema's metadata says the rest.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pyarrow as pa

from sqlstore.log.segment import Trailer
from sqlstore.log.table import SETTINGS, misfit, stream


@dataclass(frozen=True, slots=True)
class Titled:
    """What is said of a snapshot.

    Attributes
    ----------
    name
        Of the snapshot.
    note
        What a person said of it, or None.
    """

    name: str
    note: str | None = None


def build(titled: Titled) -> pa.Buffer:
    """Return the table of a commit that takes a snapshot; with no more than a name, of its drop."""
    schema = pa.schema([], {SETTINGS: json.dumps(dataclasses.asdict(titled))})
    return stream(pa.RecordBatch.from_arrays([], schema=schema))


def _are_texts(said: dict[str, object]) -> bool:
    return isinstance(said["name"], str) and isinstance(said["note"], str | None)


def parse(batch: pa.RecordBatch, trailer: Trailer, name: str) -> Titled:
    """Return what such a table says of the snapshot.

    Parameters
    ----------
    name
        The chunk, for the message of an error.

    Raises
    ------
    CorruptChunkError
        It is not such a table.
    """
    try:
        said = json.loads((batch.schema.metadata or {})[SETTINGS])
        titled = Titled(said["name"], said["note"]) if _are_texts(said) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        titled = None
    if titled is None or batch.num_columns or trailer.records:
        raise misfit(trailer, name, "is about no snapshot")
    return titled
