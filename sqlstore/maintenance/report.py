"""What a check of a store finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlstore.errors import SqlstoreError
from sqlstore.text import counted


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was committed.

    Attributes
    ----------
    message
        What is wrong, and what to do if something can be done.
    record, field, chunk, offset, item
        Where; None where it does not apply. ``offset`` is in bytes from the start of the chunk,
        ``item`` the number of an item in a sequence.
    """

    message: str
    record: int | None = None
    field: str | None = None
    chunk: str | None = None
    offset: int | None = None
    item: int | None = None

    def __str__(self) -> str:
        where = {key: value for key, value in asdict(self).items() if key != "message"}
        places = ", ".join(f"{key} {value}" for key, value in where.items() if value is not None)
        return f"{self.message} ({places})" if places else self.message


@dataclass(slots=True)
class Report:
    """What `Store.verify` found; true when nothing is wrong.

    Attributes
    ----------
    faults
        Everything that is not as it was committed.
    notes
        What is worth knowing and is no fault, such as bytes that a crashed writer left behind.
    chunks, commits, records, values
        How many of each were checked.
    n_bytes
        Stored bytes whose checksums were computed.
    """

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chunks: int = 0
    commits: int = 0
    records: int = 0
    values: int = 0
    n_bytes: int = 0

    def __bool__(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        verdict = counted(len(self.faults), "fault") if self.faults else "no faults"
        checked = [
            counted(self.records, "record"),
            f"{counted(self.values, 'value')} ({counted(self.n_bytes, 'byte')})",
            counted(self.commits, "commit"),
            counted(self.chunks, "chunk"),
        ]
        faults = [f"fault: {fault}" for fault in self.faults]
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([f"{verdict} in {', '.join(checked)}", *faults, *notes])

    def add(self, message: str, **where: Any) -> None:
        """Add a fault."""
        self.faults.append(Fault(message, **where))

    def note(self, message: str) -> None:
        """Add a note, once."""
        if message not in self.notes:
            self.notes.append(message)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {"clean": bool(self), **asdict(self)}

    @contextmanager
    def catching(self, **where: Any) -> Iterator[None]:
        """Add what is raised inside the block as a fault and go on."""
        try:
            yield
        except SqlstoreError as error:
            names = ("record", "field", "chunk", "offset", "item")
            known = {k: v for k, v in error.where.items() if k in names}
            self.add(error.message, **{**where, **known})
