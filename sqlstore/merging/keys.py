"""Keys that several sources have, or that the target has already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sqlstore.errors import DuplicateKeyError
from sqlstore.merging.parts import OnDuplicate, Part
from sqlstore.positions import as_array
from sqlstore.schema import Column
from sqlstore.source import Source
from sqlstore.types import Ids

_NOWHERE: Final = -1


def without_duplicates(
    parts: Sequence[Part], key: Column, target: Source | None, on_duplicate: OnDuplicate
) -> list[Part]:
    """Return the records whose keys are not there before them.

    Parameters
    ----------
    key
        The key of the target.
    target
        The target, if it is there already.

    Raises
    ------
    DuplicateKeyError
        Some are, and are not to be skipped.
    """
    codes, keys = _codes(parts, key)
    in_target = _ids_in(target, key, keys)
    _, first = np.unique(codes, return_index=True)
    is_first = np.zeros(len(codes), bool)
    is_first[first] = True
    is_new = is_first & (in_target[codes] == _NOWHERE)
    if on_duplicate == "raise" and not is_new.all():
        row = int(np.flatnonzero(~is_new)[0])
        record = int(in_target[codes[row]])
        before = "the target" if record != _NOWHERE else ""
        if not before:
            before, record = _place(parts, int(np.flatnonzero(codes == codes[row])[0]))
        here, own = _place(parts, row)
        value = f"{keys[int(codes[row])].as_py()!r:.200}"
        raise DuplicateKeyError(
            f"the key {key.name} = {value} of record {own} of {here} is that of record {record} "
            f'of {before}; on_duplicate="skip" leaves the later one out'
        )
    ends = np.cumsum([len(part.ids) for part in parts])[:-1]
    kept = np.split(is_new, ends)
    return [
        part if here.all() else replace(part, ids=as_array(part.ids)[here])
        for part, here in zip(parts, kept, strict=True)
    ]


def _codes(parts: Sequence[Part], key: Column) -> tuple[NDArray[np.int64], pa.Array]:
    """Return the distinct keys, and for each record of the parts which of them it has."""
    pieces = [
        piece.cast(key.kind.arrow)
        for part in parts
        for piece in part.source.metadata(part.ids, [part.columns[key.name]])[0]
    ]
    encoded = pa.chunked_array(pieces, key.kind.arrow).dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return np.empty(0, np.int64), pa.array([], key.kind.arrow)
    codes = [np.asarray(chunk.indices, np.int64) for chunk in encoded.chunks]
    return np.concatenate(codes), encoded.chunk(0).dictionary


def _ids_in(target: Source | None, key: Column, keys: pa.Array) -> Ids:
    """Return for each key the id of the record of the target that has it, or `_NOWHERE`."""
    found = np.full(len(keys), _NOWHERE, np.int64)
    if target is None or not len(keys):
        return found
    there, start = as_array(target.ids()), 0
    for piece in target.metadata(target.ids(), [key])[0]:
        places = pc.index_in(piece, value_set=keys)
        is_there = np.array(places.is_valid())
        found[np.array(places.drop_null())] = there[start : start + len(piece)][is_there]
        start += len(piece)
    return found


def _place(parts: Sequence[Part], row: int) -> tuple[str, int]:
    """Return the name of the part that a row is in, and the record's id there."""
    for part in parts:
        if row < len(part.ids):
            return part.name, int(part.ids[row])
        row -= len(part.ids)
    raise IndexError(row)
