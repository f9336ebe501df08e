"""Compaction: give back the bytes of chunks that nobody needs any more."""

from sqlstore.compaction.compacting import compact
from sqlstore.compaction.plan import ChunkUse, Compaction

__all__ = ["ChunkUse", "Compaction", "compact"]
