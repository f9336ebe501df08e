"""The frame of a chunk file: its header, and the trailer that closes every segment.

`docs/format.md` is the normative description; this module is its implementation.
"""

from __future__ import annotations

import enum
import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import Final

from sqlstore.errors import CorruptChunkError, StoreTooNewError
from sqlstore.limits import FORMAT_VERSION, MAX_NUMBER, MOMENTS, ROWS_PER_BYTE

ALIGNMENT: Final = 64
NO_COMMIT: Final = uuid.UUID(int=0)
"""What the first commit names as its predecessor."""

_HEADER: Final = struct.Struct("<8sII16s16s12xI")
_HEADER_MAGIC: Final = b"SQLSTORE"
HEADER_SIZE: Final = _HEADER.size

_TRAILER: Final = struct.Struct("<8sHHIQ16s16sqQqIIIII20xII")
TRAILER_MAGIC: Final = b"\xc5SEGMENT"
TRAILER_SIZE: Final = _TRAILER.size
_CRC_SIZE: Final = 4
_SKIPPABLE: Final = 1


class CommitKind(enum.IntEnum):
    """What a commit does. `READABLE_KINDS` are written and read; the others are named."""

    CREATE = 1
    APPEND = 2
    UPDATE = 3
    REPLACE = 4
    DELETE = 5
    ADD_COLUMN = 6
    DROP_COLUMN = 7
    RENAME_COLUMN = 8
    ADD_FIELD = 9
    DROP_FIELD = 10
    CREATE_INDEX = 11
    DROP_INDEX = 12
    DICTIONARY = 13
    SAVE_SUBSET = 14
    DROP_SUBSET = 15
    SNAPSHOT = 16
    ADOPT = 17
    COMPACT = 18
    CHECKPOINT = 19
    DROP_SNAPSHOT = 20
    CHECKPOINT_PART = 21


SCHEMA_KINDS: Final = frozenset(
    {
        CommitKind.ADD_COLUMN,
        CommitKind.DROP_COLUMN,
        CommitKind.RENAME_COLUMN,
        CommitKind.CREATE_INDEX,
        CommitKind.DROP_INDEX,
    }
)
"""What changes the schema: the table of each is the whole schema as it is then."""

READABLE_KINDS: Final = SCHEMA_KINDS | {
    CommitKind.CREATE,
    CommitKind.APPEND,
    CommitKind.UPDATE,
    CommitKind.REPLACE,
    CommitKind.DELETE,
    CommitKind.DICTIONARY,
    CommitKind.SAVE_SUBSET,
    CommitKind.DROP_SUBSET,
    CommitKind.SNAPSHOT,
    CommitKind.DROP_SNAPSHOT,
    CommitKind.COMPACT,
    CommitKind.CHECKPOINT,
    CommitKind.CHECKPOINT_PART,
}


@dataclass(frozen=True, slots=True)
class Header:
    """The first 64 bytes of a chunk file."""

    store: uuid.UUID
    chunk: uuid.UUID

    def pack(self) -> bytes:
        """Return the bytes of the header."""
        fields = _HEADER_MAGIC, FORMAT_VERSION, 0, self.store.bytes, self.chunk.bytes
        body = _HEADER.pack(*fields, 0)[:-_CRC_SIZE]
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes, name: str) -> Header:
        """Return the header that these bytes are.

        Raises
        ------
        CorruptChunkError
            They are not a header.
        StoreTooNewError
            The format version is newer than this library's.
        """
        magic, version, _, store, chunk, crc = _HEADER.unpack(data)
        if magic != _HEADER_MAGIC or crc != zlib.crc32(data[:-_CRC_SIZE]):
            raise CorruptChunkError("the header of the chunk is damaged", chunk=name, offset=0)
        if version != FORMAT_VERSION:
            raise StoreTooNewError(
                f"the chunk has format version {version}; update sqlstore", chunk=name
            )
        return cls(uuid.UUID(bytes=store), uuid.UUID(bytes=chunk))


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last 128 bytes of a segment: one commit, its place in the chain and in its chunk.

    Attributes
    ----------
    kind, skippable
        What the commit does, and whether a reader that does not know the kind may go on.
    schema_version
        Number of the commit that last changed the schema, this one included; 0 if none did.
    number, commit, previous
        Position in the chain, own uuid and that of the commit before (`NO_COMMIT` for the first).
    first_record, records
        Id of the first record and how many there are.
    committed_at
        Microseconds since 1970, UTC.
    chunk
        The integer that stands for the chunk in the index.
    bodies_start, bodies_end, table_start, table_end
        Offsets in the chunk file; the trailer itself lies at ``table_end``.
    table_crc
        CRC-32 of the segment table.
    """

    kind: int
    skippable: bool
    schema_version: int
    number: int
    commit: uuid.UUID
    previous: uuid.UUID
    first_record: int
    records: int
    committed_at: int
    chunk: int
    bodies_start: int
    bodies_end: int
    table_start: int
    table_end: int
    table_crc: int

    @property
    def end(self) -> int:
        """Return the offset behind the trailer."""
        return self.table_end + TRAILER_SIZE

    def pack(self, chunk: uuid.UUID) -> bytes:
        """Return the bytes of the trailer, bound to the chunk file that it lies in."""
        body = _TRAILER.pack(
            TRAILER_MAGIC,
            self.kind,
            _SKIPPABLE if self.skippable else 0,
            self.schema_version,
            self.number,
            self.commit.bytes,
            self.previous.bytes,
            self.first_record,
            self.records,
            self.committed_at,
            self.chunk,
            self.bodies_start,
            self.bodies_end,
            self.table_start,
            self.table_end,
            self.table_crc,
            0,
        )[:-_CRC_SIZE]
        return body + struct.pack("<I", _trailer_crc(body, chunk))

    @classmethod
    def unpack(cls, data: bytes, offset: int, chunk: uuid.UUID) -> Trailer | None:
        """Return the trailer that these bytes are, or None if they are none.

        A copy of a trailer elsewhere, as a body that is itself a chunk file may hold it, is none:
        its checksum begins with the uuid of its chunk and it names its own place.
        """
        if len(data) != TRAILER_SIZE or not data.startswith(TRAILER_MAGIC):
            return None
        _, kind, flags, schema_version, number, commit, previous, *rest, crc = _TRAILER.unpack(data)
        if crc != _trailer_crc(data[:-_CRC_SIZE], chunk):
            return None
        commit, previous = uuid.UUID(bytes=commit), uuid.UUID(bytes=previous)
        skippable = bool(flags & _SKIPPABLE)
        trailer = cls(kind, skippable, schema_version, number, commit, previous, *rest)
        return trailer if trailer.table_end == offset and trailer.is_sound() else None

    def is_sound(self) -> bool:
        """Return whether the offsets follow each other as they must, and the numbers can be."""
        return (
            HEADER_SIZE <= self.bodies_start <= self.bodies_end
            and self.table_start == align(self.bodies_end)
            and self.table_start <= self.table_end
            and self.records <= ROWS_PER_BYTE * (self.table_end - self.table_start)
            and (not self.records or may_append(self.kind))
            and self.chunk < self.number <= MAX_NUMBER
            and 0 <= self.first_record <= MAX_NUMBER - self.records
            and self.committed_at in MOMENTS
        )


def may_append(kind: int) -> bool:
    """Return whether a commit of a kind may append records, as far as is known."""
    return kind == CommitKind.APPEND or kind not in READABLE_KINDS


def _trailer_crc(body: bytes, chunk: uuid.UUID) -> int:
    return zlib.crc32(body, zlib.crc32(chunk.bytes))


def align(offset: int) -> int:
    """Return the next offset at which a segment table may begin."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def span(first: int, count: int) -> str:
    """Return which records a commit holds, in words."""
    return f"records {first} to {first + count - 1}" if count else "no records"


def check_readable(trailer: Trailer, name: str) -> bool:
    """Return whether this version reads the commit; False means that it may be skipped.

    Raises
    ------
    StoreTooNewError
        The commit is of a kind that this version does not know and that must not be skipped.
    """
    if trailer.kind in READABLE_KINDS:
        return True
    if trailer.skippable and not trailer.records:
        return False
    raise StoreTooNewError(
        f"commit {trailer.number} is of kind {trailer.kind}, which this version does not know; "
        "update sqlstore",
        chunk=name,
        offset=trailer.table_end,
    )
