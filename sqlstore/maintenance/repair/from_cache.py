"""What the cache in a damaged store says: how far it has come, and which chunks there were."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from sqlstore.cache import folder, manifest
from sqlstore.cache.chunks import ChunkFile, ChunkFiles
from sqlstore.cache.manifest import Manifest
from sqlstore.errors import CorruptCacheError


@dataclass(frozen=True, slots=True)
class Cached:
    """A cache that may be copied.

    Attributes
    ----------
    edition
        The folder of its files.
    manifest
        What it holds.
    chunks
        The chunks that it knows, by number.
    """

    edition: Path
    manifest: Manifest
    chunks: dict[int, ChunkFile]


def cached(root: Path) -> Cached | None:
    """Return the cache in a store; None if there is none, or it lacks commits that are damaged."""
    place = folder.shared(root)
    have = None if folder.leads_out(root, place) else manifest.load(place)
    if have is None or have.lost:
        return None
    edition, chunks = place / have.edition, dict[int, ChunkFile]()
    with contextlib.suppress(CorruptCacheError):
        known = ChunkFiles(edition, have.chunks)
        for number in range(have.chunks):
            with contextlib.suppress(CorruptCacheError):  # it has no rows of retired ones
                chunks[number] = known[number]
    return Cached(edition, have, chunks)
