"""What a process has for itself, and what a folder takes on the disk."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_ROLLUP = Path("/proc/self/smaps_rollup")
_BLOCK = 512  # what st_blocks counts, whatever the file system's blocks are


def private_bytes(rollup: Path = _ROLLUP) -> int | None:
    """Return the bytes of memory that no other process shares, or None where nobody tells.

    That is the unique set size: Private_Clean and Private_Dirty. Pages of a mapped file that only
    this process has touched are in it.
    """
    if not rollup.exists():
        return None
    lines = map(str.split, rollup.read_text().splitlines())
    private = ("Private_Clean:", "Private_Dirty:")
    return sum(int(line[1]) * 1024 for line in lines if line[0] in private)


def peak_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return the most bytes of memory that this program had, mapped files included.

    Where /proc is, it is asked: what `resource` says includes what the parent had.
    """
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def disk_bytes(folder: Path) -> int:
    """Return what the file system has set aside for a folder: whole blocks, folders too."""
    return sum(
        os.lstat(Path(place, name)).st_blocks * _BLOCK
        for place, _, names in os.walk(folder)
        for name in (".", *names)
    )


def warm_cache(folder: Path, block: int = 1 << 20) -> None:
    """Read every file once, so that all are in the page cache."""
    for place, _, names in os.walk(folder):
        for name in names:
            with Path(place, name).open("rb", buffering=0) as file:
                while file.read(block):
                    pass
