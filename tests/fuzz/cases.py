"""The ways in which files are damaged, each with a name that says it all."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SECTOR: Final = 512
KINDS: Final = (
    "flip", "cut", "zero", "ones", "swap", "stale", "blank", "longer", "gone", "folder", "fifo",
    "link", "exchange",
)  # fmt: skip
"""The kinds of damage. `stale` is a sector of an older version, `blank` one of zeros."""


def of_file(target: str, size: int) -> Iterator[str]:
    """Return every case of a file but for those that are chosen at random."""
    sectors = range(-(-size // SECTOR))
    for length in range(size):
        yield f"{target}:cut:{length}"
    for number in sectors:
        yield f"{target}:stale:{number}"
        yield f"{target}:blank:{number}"
        for other in sectors[number + 1 : number + 9]:
            yield f"{target}:swap:{number}:{other}"
    for more in (1, 7, 127, 128, 512, 4096, 5000):
        yield f"{target}:longer:{more}:0"
        yield f"{target}:longer:{more}:1"
    for what in ("gone", "folder", "fifo", "link"):
        yield f"{target}:{what}"


def of_bytes(target: str, size: int) -> Iterator[str]:
    """Return every bit that can be flipped, and every byte that can be set."""
    for offset in range(size):
        for bit in range(8):
            yield f"{target}:flip:{offset}:{bit}"
        yield f"{target}:zero:{offset}"
        yield f"{target}:ones:{offset}"


def apply(case: str, paths: dict[str, Path], stale: Path) -> None:
    """Damage the files of a store.

    Parameters
    ----------
    paths
        Where they lie, by what a case calls them.
    stale
        The index as it was before the last commit.
    """
    target, kind, *numbers = case.split(":")
    path = paths[target]
    if kind == "exchange":
        other = paths["chunk1"]
        one, another = path.read_bytes(), other.read_bytes()
        path.write_bytes(another)
        other.write_bytes(one)
    elif kind in ("gone", "folder", "fifo", "link"):
        _replace(path, kind)
    else:
        old = stale.read_bytes() if target == "index" else b""
        path.write_bytes(damaged(path.read_bytes(), kind, list(map(int, numbers)), old))


def damaged(data: bytes, kind: str, numbers: list[int], old: bytes) -> bytes:
    """Return the content of a file with damage of a kind."""
    changed, first = bytearray(data), numbers[0]
    here = slice(first * SECTOR, min((first + 1) * SECTOR, len(data)))
    match kind:
        case "flip":
            changed[first] ^= 1 << numbers[1]
        case "zero":
            changed[first] = 0
        case "ones":
            changed[first] = 0xFF
        case "cut":
            del changed[first:]
        case "blank":
            changed[here] = bytes(here.stop - here.start)
        case "stale":
            # A chunk only grows: an older version of a sector ends in zeros.
            before = old[here] if old else data[here][: (here.stop - here.start) // 2]
            changed[here] = before.ljust(here.stop - here.start, b"\0")
        case "swap":
            there = slice(numbers[1] * SECTOR, min((numbers[1] + 1) * SECTOR, len(data)))
            count = min(here.stop - here.start, there.stop - there.start)
            one, other = (
                slice(here.start, here.start + count),
                slice(there.start, there.start + count),
            )
            changed[one], changed[other] = data[other], data[one]
        case "longer":
            noise = random.Random(first).randbytes(first)
            changed += noise if numbers[1] else bytes(first)
    return bytes(changed)


def _replace(path: Path, kind: str) -> None:
    """Put something else in the place of a file, or nothing."""
    aside = path.with_name(f"{path.name}.aside")
    if kind == "link":
        shutil.copyfile(path, aside)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(aside)
