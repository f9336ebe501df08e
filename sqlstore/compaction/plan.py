"""What a compaction would do: which chunks are needed, by whom, and what would be freed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from sqlstore import limits
from sqlstore.compaction.history import History
from sqlstore.compaction.state import VALUE_BYTES, State
from sqlstore.text import counted, sized

Fate: TypeAlias = Literal["keep", "rewrite", "remove"]
LEAST_FREED: Final = 64 * limits.KiB
"""Less is not worth the commits that a compaction makes."""
_COMMIT_BYTES: Final = 64  # that a checkpoint says of a commit that there was


@dataclass(frozen=True, slots=True)
class ChunkUse:
    """How much of a chunk file is needed.

    Attributes
    ----------
    name
        Of the file.
    number
        That stands for it in the index.
    size
        Bytes of the file.
    live
        Bytes of values that records have now.
    snapshots
        The snapshots that need the file as it is.
    fate
        Whether it is kept as it is; its live values are copied and it is removed; or it is removed,
        as it has none.
    """

    name: str
    number: int
    size: int
    live: int
    snapshots: tuple[str, ...]
    fate: Fate


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction has done, or would do.

    Attributes
    ----------
    done
        Whether it has been done. If not, the figures are estimates.
    chunks
        How much of every chunk file was needed, in the order of their numbers.
    copied
        Bytes of live values that are copied.
    freed
        By how many bytes the chunk files together become smaller.
    """

    done: bool
    chunks: tuple[ChunkUse, ...]
    copied: int
    freed: int

    def of_fate(self, *fates: Fate) -> list[ChunkUse]:
        """Return the chunks that are kept, rewritten or removed."""
        return [chunk for chunk in self.chunks if chunk.fate in fates]

    def __str__(self) -> str:
        """Return it in words."""
        total = sum(chunk.size for chunk in self.chunks)
        lines = [f"{counted(len(self.chunks), 'chunk')}, {sized(total)}"]
        if not self.of_fate("rewrite", "remove"):
            lines.append("nothing to gain: every chunk is needed as it is")
        else:
            rewritten = counted(len(self.of_fate("rewrite")), "chunk")
            removed = counted(len(self.of_fate("remove")), "chunk")
            copied, freed = sized(self.copied), sized(self.freed)
            rewrite, remove, free = (
                ("rewrote", "removed", "freed")
                if self.done
                else ("to rewrite", "to remove", "to free")
            )
            lines.append(
                f"{rewrite} {rewritten}, copying {copied}; {remove} {removed}; {free} {freed}"
            )
        if pinned := [chunk for chunk in self.chunks if chunk.snapshots]:
            names = sorted({name for chunk in pinned for name in chunk.snapshots})
            lines.append(
                f"{counted(len(pinned), 'chunk')} kept for {', '.join(map(repr, names))}: drop a "
                "snapshot to give back what only it needs"
            )
        return "\n".join(lines)


def planned(
    state: State, history: History, sizes: Mapping[int, int], min_garbage: float
) -> Compaction:
    """Return what would be done.

    Parameters
    ----------
    sizes
        Bytes of every chunk file that is there, by number.
    min_garbage
        The share of a chunk that nobody needs, from which on it is rewritten.
    """
    live, needs = state.live, history.needs()
    uses = []
    for chunk in history.present():
        size, number = sizes.get(chunk.chunk, 0), chunk.chunk
        snapshots = tuple(name for name, needed in needs.items() if number in needed)
        n_bytes = live[number].n_bytes if number in live else 0
        is_garbage = size - n_bytes >= min_garbage * size
        fate: Fate = "keep"
        if not snapshots and size and is_garbage:
            fate = "rewrite" if number in live else "remove"
        uses.append(ChunkUse(chunk.name, number, size, n_bytes, snapshots, fate))
    freed, copied = _freed(uses)
    moved = sum(live[use.number].values for use in uses if use.fate == "rewrite")
    freed -= VALUE_BYTES * moved + state.size() + _COMMIT_BYTES * len(history.commits)
    if freed < LEAST_FREED:
        return Compaction(False, _kept(uses), 0, 0)
    return Compaction(False, tuple(uses), copied, freed)


def _freed(uses: Iterable[ChunkUse]) -> tuple[int, int]:
    """Return how many bytes less the chunks have, without the checkpoint, and how many move."""
    gone = [use for use in uses if use.fate != "keep"]
    copied = sum(use.live for use in gone)
    return sum(use.size for use in gone) - copied, copied


def _kept(uses: Collection[ChunkUse]) -> tuple[ChunkUse, ...]:
    return tuple(dataclasses.replace(use, fate="keep") for use in uses)
