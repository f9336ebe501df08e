"""What `build` and `import_folder` have done."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that could not be read, or whose record the store does not take.

    Attributes
    ----------
    item
        Its key, or what it looks like if that is not known.
    message
        What went wrong.
    """

    item: str
    message: str

    def __str__(self) -> str:
        return f"{self.item}: {self.message}"


@dataclass
class BuildReport:
    """What `build` has done; true when no item failed.

    Attributes
    ----------
    stored
        Records that were committed.
    skipped
        Items that were in the store before.
    repeated
        Items whose key came into the store meanwhile: by another item of this run, or by another
        build at the same time.
    dropped
        Items for which there is no record: ``read_fn`` returned None.
    failed
        Those that could not be stored, and why.
    """

    stored: int = 0
    skipped: int = 0
    repeated: int = 0
    dropped: int = 0
    failed: list[FailedItem] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        parts = [f"{self.stored:,} stored"]
        for count, what in (
            (self.skipped, "there already"),
            (self.repeated, "came twice"),
            (self.dropped, "without a record"),
            (len(self.failed), "failed"),
        ):
            if count:
                parts.append(f"{count:,} {what}")
        return ", ".join(parts)

    @property
    def seen(self) -> int:
        """Return how many items there were so far."""
        return self.stored + self.skipped + self.repeated + self.dropped + len(self.failed)

    def add(self, other: BuildReport) -> None:
        """Count what another report counts."""
        self.stored += other.stored
        self.skipped += other.skipped
        self.repeated += other.repeated
        self.dropped += other.dropped
        self.failed += other.failed


@dataclass
class FolderReport(BuildReport):
    """What `import_folder` has done; true when no file failed.

    Attributes
    ----------
    left_out
        What is in the folder and was not imported: paths by the reason, which is ``"hidden"``,
        ``"symlink"`` or ``"special"`` (sockets, devices and the like). Of a folder that was left
        out only its own path is named.
    changed
        Files that are in the store already, with another size or modified time.
    unmatched
        Paths in the table of metadata for which there is no file.
    without_row
        How many files the table of metadata says nothing of.
    """

    left_out: dict[str, list[str]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    without_row: int = 0
