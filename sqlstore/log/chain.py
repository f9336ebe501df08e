"""Find the commits in the chunk files and put them in order.

Every trailer names the commit before it, whichever chunk that lies in. Within a chunk, a segment
begins where the trailer before it ends; so a chunk is walked from its end backwards. Bytes behind
the last trailer are the rest of a commit that never happened.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlstore import limits
from sqlstore.errors import CorruptChunkError, CorruptStoreError, ForkedLogError, SqlstoreError
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, TRAILER_MAGIC, TRAILER_SIZE, Trailer

_BLOCK = 4 * limits.MiB


@dataclass(frozen=True, slots=True)
class Link:
    """A commit in the log: the chunk that it lies in, and its trailer."""

    chunk: str
    trailer: Trailer


@dataclass(slots=True)
class Walk:
    """What a chunk file consists of.

    Attributes
    ----------
    links
        Its commits, first to last.
    end
        Where the last of them ends.
    faults
        Damage between them.
    """

    links: list[Link] = field(default_factory=list)
    end: int = HEADER_SIZE
    faults: list[SqlstoreError] = field(default_factory=list)


def walk(
    reader: ChunkReader,
    name: str,
    chunk: uuid.UUID,
    start: int = HEADER_SIZE,
    end: int | None = None,
) -> Walk:
    """Return the commits in a part of a chunk.

    Parameters
    ----------
    chunk
        The uuid of the chunk file.
    start
        Where to begin: behind the header, or behind a trailer.
    end
        Where to end; by default at the end of the file.
    """
    found = Walk(end=start)
    end = reader.size(name) if end is None else end
    while end >= start + TRAILER_SIZE:
        trailer = reader.trailer(name, end - TRAILER_SIZE, chunk)
        if trailer is None:
            if found.links:
                found.faults.append(
                    CorruptChunkError("a trailer is damaged", chunk=name, offset=end - TRAILER_SIZE)
                )
            trailer = _last_trailer_before(reader, name, chunk, start, end)
        if trailer is None:
            break
        found.end = max(found.end, trailer.end)
        found.links.append(Link(name, trailer))
        end = trailer.bodies_start
    if found.links and end != start and not found.faults:
        found.faults.append(
            CorruptChunkError("bytes that belong to no commit", chunk=name, offset=start)
        )
    found.links.reverse()
    return found


def _last_trailer_before(
    reader: ChunkReader, name: str, chunk: uuid.UUID, start: int, end: int
) -> Trailer | None:
    """Search backwards for a trailer that ends at or before an offset."""
    bound = end
    while end > start:
        block_start = max(start, end - _BLOCK)
        data = reader.read(name, block_start, end - block_start)
        position = data.rfind(TRAILER_MAGIC)
        while position >= 0:
            trailer = reader.trailer(name, block_start + position, chunk)
            if trailer is not None and trailer.end <= bound:
                return trailer
            position = data.rfind(TRAILER_MAGIC, 0, position + len(TRAILER_MAGIC) - 1)
        # The next block overlaps this one by less than a magic number.
        end = block_start + len(TRAILER_MAGIC) - 1 if block_start > start else start
    return None


def mentions_commit(reader: ChunkReader, name: str) -> bool:
    """Return whether a chunk whose header is damaged may hold commits all the same."""
    size, overlap = reader.size(name), len(TRAILER_MAGIC)
    return any(
        TRAILER_MAGIC in reader.read(name, start, min(_BLOCK + overlap, size - start))
        for start in range(0, size, _BLOCK)
    )


def follow(
    links: Iterable[Link], number: int, commit: uuid.UUID, record: int
) -> tuple[list[Link], list[Link]]:
    """Follow the chain of commits from one commit on.

    Parameters
    ----------
    links
        Commits in any order; those up to ``number`` are ignored.
    number, commit
        The commit to begin behind; 0 and `NO_COMMIT` for the start of the chain. What a checkpoint
        is as of, to go on from there.
    record
        The id that the next record gets there.

    Returns
    -------
    tuple
        The commits that follow, in order, and those that no other leads to.

    Raises
    ------
    ForkedLogError
        Two commits name the same predecessor.
    """
    by_previous: dict[uuid.UUID, Link] = {}
    for link in links:
        if link.trailer.number <= number:
            continue
        other = by_previous.setdefault(link.trailer.previous, link)
        if other is not link and other.trailer.commit != link.trailer.commit:
            raise ForkedLogError(
                f"commits {other.trailer.commit} in {other.chunk} and {link.trailer.commit} in "
                f"{link.chunk} both follow {link.trailer.previous}; chunks of two copies of the "
                "store were mixed: keep those of one"
            )
    ordered: list[Link] = []
    while commit in by_previous:
        link = by_previous.pop(commit)
        number += 1
        if link.trailer.number != number:
            raise CorruptStoreError(
                f"commit {link.trailer.number} stands at position {number} of the chain",
                chunk=link.chunk,
                offset=link.trailer.table_end,
            )
        if link.trailer.first_record != record:
            raise CorruptStoreError(
                f"commit {number} begins at record {link.trailer.first_record}, the one before "
                f"ends at {record}",
                chunk=link.chunk,
                offset=link.trailer.table_end,
            )
        record += link.trailer.records
        ordered.append(link)
        commit = link.trailer.commit
    return ordered, list(by_previous.values())
