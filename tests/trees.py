"""Folders of files that tests import."""

from __future__ import annotations

import io
import os
import shutil
import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

MODIFIED: Final = 1_700_000_000_123_456  # microseconds


def image(kind: str, width: int = 7, height: int = 5) -> bytes:
    stream = io.BytesIO()
    pixels = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def make_tree(root: Path, files: dict[str, bytes]) -> Path:
    """Write files by their paths; each is a second younger than the one before."""
    root.mkdir(exist_ok=True)
    for number, (name, data) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        time = (MODIFIED + number * 1_000_000) * 1000
        os.utime(path, ns=(time, time))
    return root


def mixed_files() -> dict[str, bytes]:
    return {
        "README": b"read me",
        "a/b.TXT": b"",
        "a/b/c/deep.py": b"x = 1\n" * 100,
        "a/image.png": image("png"),
        "b/image.jpg": image("jpeg", 9, 3),
        "b/not.png": b"\x89PNG\r\n\x1a\n and nothing",
        "b/ümlaut 漢.bin": bytes(range(256)),
        "z.tar.gz": b"\x1f\x8b",
    }


def read_tree(root: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and modified time, in microseconds, of every file below a folder."""
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns // 1000)
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def copy_library(to: Path, count: int) -> Path:
    """Copy so many files of Python's standard library; large ones only if there are many."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in islice(_files(library, largest=1 << (18 if count <= 1000 else 40)), count):
        target = to / path.relative_to(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return to


def _files(library: Path, largest: int) -> Iterator[Path]:
    for folder, folders, names in os.walk(library):
        folders[:] = sorted(set(folders) - {"site-packages"})
        paths = (Path(folder, name) for name in sorted(names))
        for path in paths:
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= largest:
                yield path
