"""What a repair has done, or would do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlstore.maintenance.report import Fault
from sqlstore.text import counted


@dataclass(slots=True)
class Repaired:
    """What `repair` has found and done, or would do; true when nothing is lost.

    Attributes
    ----------
    done
        Whether it was done; False for a dry run, and where nothing was wrong.
    rebuilt
        Whether the index, and the snapshots, are made anew from the log.
    quarantined
        The files that are moved to the folder ``quarantine`` in the store.
    from_index
        How many records have metadata that only the index still had.
    lost_records
        The ids of records of which nothing is left; of those that a damaged checkpoint held, some
        may have been deleted before.
    lost_values
        Values that are missing from now on: record, field, and where their bytes were.
    lost_commits
        The numbers of commits that cannot be read, also where the index or the cache has said all
        that they did.
    lost_edits
        The numbers of those of them of which nothing tells what they did: it is as before them.
    lost_subsets, lost_snapshots
        The names of those that are gone.
    still_wrong
        What `verify` finds afterwards; nothing, unless something else has damaged the store since.
    notes
        What else is worth knowing.
    """

    done: bool = False
    rebuilt: bool = False
    quarantined: list[str] = field(default_factory=list)
    from_index: int = 0
    lost_records: list[int] = field(default_factory=list)
    lost_values: list[Fault] = field(default_factory=list)
    lost_commits: list[int] = field(default_factory=list)
    lost_edits: list[int] = field(default_factory=list)
    lost_subsets: list[str] = field(default_factory=list)
    lost_snapshots: list[str] = field(default_factory=list)
    still_wrong: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        named = self.lost_subsets, self.lost_snapshots
        lost = self.lost_records, self.lost_values, self.lost_edits, *named
        return not any((*lost, self.still_wrong))

    def __str__(self) -> str:
        """Return it in words."""
        lines = [f"quarantined: {name}" for name in self.quarantined]
        lines += ["index.sqlite made anew from the chunks"] if self.rebuilt else []
        if self.from_index:
            lines.append(f"metadata of {counted(self.from_index, 'record')} taken from the index")
        if self.lost_commits:
            lines.append(f"damaged commits: {_ranges(self.lost_commits)}")
        if self.lost_edits:
            lines.append(f"commits whose effect is lost: {_ranges(self.lost_edits)}")
        if self.lost_records:
            lines.append(f"lost records: {_ranges(self.lost_records)}")
        lines += _lost(self.lost_values)
        lines += [f"lost subset: {name!r}" for name in self.lost_subsets]
        lines += [f"lost snapshot: {name!r}" for name in self.lost_snapshots]
        lines += [f"still wrong: {fault}" for fault in self.still_wrong]
        lines += [f"note: {note}" for note in self.notes]
        if not lines:
            return "nothing to repair"
        verdict = "nothing is lost" if self else "what is lost is listed"
        return "\n".join([verdict if self.done else f"not done yet; {verdict}", *lines])

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {"complete": bool(self), **asdict(self)}


def _lost(values: list[Fault]) -> list[str]:
    """Return in words which values are lost: a line for each field and chunk."""
    found: dict[tuple[str | None, str | None], list[int]] = {}
    for fault in values:
        if fault.record is not None:
            found.setdefault((fault.field, fault.chunk), []).append(fault.record)
    return [
        f"lost values of field {field!r}: {counted(len(records), 'record')}, {_ranges(records)}"
        + (f" (chunk {chunk})" if chunk is not None else "")
        for (field, chunk), records in found.items()
    ]


def _ranges(numbers: list[int]) -> str:
    """Return ascending numbers as text, in ranges."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
