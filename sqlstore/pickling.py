"""How views and stores come to other processes: as little as what is needed to read without SQLite.

A view becomes the folder of the store, the commit that it is seen at, its schema and its ids; many
ids become a file that is mapped by all processes. Views that arrive in one process read from one
`Source`, as they did where they came from.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from sqlstore.cache import folder, ids
from sqlstore.errors import StorageError
from sqlstore.opening import Opening, Seen
from sqlstore.schema import Schema
from sqlstore.source import Source
from sqlstore.types import Ids

_INLINE: Final = 1024
"""Up to this many ids travel in the pickle itself."""

SourceState: TypeAlias = tuple[Opening, uuid.UUID, Schema, Path | None, str, Seen]
IdsState: TypeAlias = range | bytes | tuple[str, int]

_sources: weakref.WeakValueDictionary[tuple[Any, ...], Source] = weakref.WeakValueDictionary()
_mutex = threading.Lock()


def source_state(source: Source) -> SourceState:
    """Return what another process needs to read from the same store at the same commit.

    It can have been closed: what another process reads, it opens for itself.
    """
    place, edition = None, ""
    if source.cache is not None:
        place, edition = source.cache.folder, source.cache.manifest.edition
    return source.how, source.store, source.schema, place, edition, source.seen


def source_again(state: SourceState, visible: range | Ids | None = None) -> Source:
    """Return what reads the same store at the same commit, in whatever process this is."""
    how, store, schema, place, edition, seen = state
    source = Source(how, store, schema)
    source.resume(place, edition, seen, visible)
    return source


def _shared_source(state: SourceState) -> Source:
    """Return the source of all views of one store at one commit; it is never closed by hand."""
    how, store, _, place, edition, seen = state
    key = how, store, place, edition, seen
    with _mutex:
        source = _sources.get(key)
        if source is None:
            source = _sources[key] = source_again(state)
    return source


def _unlock_in_child() -> None:
    """Begin anew with the mutex, which another thread of the parent may have held."""
    global _mutex
    _mutex = threading.Lock()


os.register_at_fork(after_in_child=_unlock_in_child)


def ids_state(source: Source, chosen: range | Ids) -> IdsState:
    """Return ids in a form that is small, whatever their number."""
    if isinstance(chosen, range):
        return chosen
    if len(chosen) <= _INLINE or source.cache is None:
        return chosen.astype("<i8").tobytes()
    for place in (source.cache.folder, *folder.own(source.root, source.store)):
        with contextlib.suppress(StorageError):  # not a place that we may write to; the next
            return ids.share(place, chosen)
    return ids.share(folder.temporary(source.root, source.store), chosen)


def _ids_again(state: IdsState) -> range | Ids:
    if isinstance(state, range):
        return state
    return np.frombuffer(state, "<i8") if isinstance(state, bytes) else ids.load(*state)


def view_again(
    make: Callable[..., Any],
    source: SourceState,
    chosen: IdsState,
    names: Sequence[str] | None,
) -> Any:
    """Return the view that was pickled."""
    return make(_shared_source(source), _ids_again(chosen), names)


def concat_again(make: Callable[..., Any], wholes: Sequence[Any], chosen: IdsState) -> Any:
    """Return the view of several stores that was pickled."""
    return make(wholes, _ids_again(chosen))


def store_again(make: Callable[..., Any], source: SourceState, visible: IdsState) -> Any:
    """Return the store that was pickled, with the same records even if some were deleted since."""
    return make(source_again(source, _ids_again(visible)))
