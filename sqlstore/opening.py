"""How a store is opened, and at which commit it is seen."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from sqlstore.copies import Snapshot
from sqlstore.encodings import Encodings
from sqlstore.log import mounts
from sqlstore.log.segment import NO_COMMIT
from sqlstore.reading.field import VERIFY, Verify

Mode: TypeAlias = Literal["r", "a"]
Io: TypeAlias = Literal["mmap", "pread", "memory"]
_IO: Final = ("mmap", "pread", "memory")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a store is opened.

    Attributes
    ----------
    root
        Its folder.
    io
        How chunks are read: mapped, piece by piece, or whole files into memory.
    verify
        When stored bytes are compared with their checksums.
    encodings
        Those that the store's fields may have.
    mode
        ``"r"`` to read, ``"a"`` to append and to edit as well.
    snapshot
        The snapshot that is seen; None for the present.
    """

    root: Path
    io: Io
    verify: Verify
    encodings: Encodings
    mode: Mode
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The commit that a store is seen at.

    Attributes
    ----------
    commit, uuid
        Its number and its uuid.
    records
        How many records there were then.
    chunk, trailer
        Where it lies in the log: the integer of the chunk, and the offset of the trailer.
    """

    commit: int
    uuid: uuid.UUID
    records: int
    chunk: int
    trailer: int


NOTHING_SEEN: Final = Seen(0, NO_COMMIT, 0, 0, 0)


def opening(
    root: Path,
    io: str | None,
    verify: str,
    encodings: Encodings,
    mode: Mode,
    snapshot: Snapshot | None = None,
) -> Opening:
    """Return how to open a store; without ``io``, as fits the file system that it lies on.

    Raises
    ------
    ValueError
        There is no such way.
    """
    if io is None:
        io = "pread" if mounts.is_on_network(root) else "mmap"
    if io not in _IO:
        raise ValueError(f"io is one of {', '.join(_IO)}, not {io!r}")
    if verify not in VERIFY:
        raise ValueError(f"verify is one of {', '.join(VERIFY)}, not {verify!r}")
    return Opening(root, cast("Io", io), cast("Verify", verify), encodings, mode, snapshot)
