"""Commits that save a named subset, or drop one: the records, and what was said of them.

The table has a row per member, in the order of the subset; its schema's metadata says the rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sqlstore.arrow import int64_array
from sqlstore.log.segment import Trailer
from sqlstore.log.table import RECORD, SETTINGS, misfit, parse_ids, stream
from sqlstore.types import Ids


@dataclass(frozen=True, slots=True)
class Described:
    """What is said of a subset.

    Attributes
    ----------
    name
        Of the subset.
    sql, parameters
        The SQL text that it was made by, and what was bound to it, as JSON; None if it was made
        otherwise.
    note
        What a person said of it, or None.
    fingerprint, content
        SHA-256, in hexadecimal digits, of the members' ids, and of what the members were.
    """

    name: str
    sql: str | None = None
    parameters: str | None = None
    note: str | None = None
    fingerprint: str = ""
    content: str = ""


def fingerprint_of(ids: Ids) -> str:
    """Return the fingerprint of members in their order: of 8 bytes each, little endian."""
    return hashlib.sha256(np.ascontiguousarray(ids, "<i8").data).hexdigest()


def build(described: Described, ids: Ids) -> pa.Buffer:
    """Return the table of a commit that saves a subset; with no more than a name, of its drop."""
    schema = pa.schema([RECORD], {SETTINGS: json.dumps(dataclasses.asdict(described))})
    return stream(pa.record_batch([int64_array(ids)], schema=schema))


def parse(batch: pa.RecordBatch, trailer: Trailer, name: str) -> tuple[Described, Ids]:
    """Return what such a table says of the subset, and its members in their order.

    Parameters
    ----------
    name
        The chunk, for the message of an error.

    Raises
    ------
    CorruptChunkError
        It is not such a table, or names records that did not exist.
    """
    ids = parse_ids(batch, trailer)
    described = _described((batch.schema.metadata or {}).get(SETTINGS, b"null"))
    if ids is None or described is None or batch.num_columns != 1:
        raise misfit(trailer, name, "is about no subset")
    return described, ids


def _described(text: bytes) -> Described | None:
    try:
        said: dict[str, Any] = json.loads(text)
        are_texts = all(isinstance(one, str | None) for one in said.values())
        return Described(**said) if are_texts and isinstance(said["name"], str) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
