"""The files of a folder, in order, as items of a build."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple


class FolderItem(NamedTuple):
    """A file to be imported, or what keeps something in the folder from it.

    Attributes
    ----------
    path
        Relative to the folder, with slashes.
    row
        What the table of metadata says of it.
    problem
        Why it cannot be looked at.
    """

    path: str
    row: dict[str, Any] | None = None
    problem: str | None = None

    def __repr__(self) -> str:
        return repr(self.path)


def key_of(item: FolderItem) -> str:
    """Return the path of an item, or raise what is wrong with it."""
    if item.problem is not None:
        raise OSError(item.problem)
    try:
        item.path.encode()
    except UnicodeEncodeError:
        raise ValueError("the name is not UTF-8, so no column can hold it; rename it") from None
    return item.path


@dataclass
class Walk:
    """The files below a folder, sorted by name, folder by folder.

    Symbolic links are not followed.

    Attributes
    ----------
    root
        The folder.
    pattern
        Only files whose name or path matches; None for all.
    exclude
        No files, and nothing in folders, whose name or path matches one of these.
    hidden
        Whether to take files and folders whose names begin with a dot.
    never
        Paths of single files that are none of the folder's.
    left_out
        What was met and is not taken: paths by the reason.
    """

    root: str
    pattern: str | None = None
    exclude: Sequence[str] = ()
    hidden: bool = False
    never: frozenset[str] = frozenset()
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[FolderItem]:
        self.left_out.clear()
        stack = [iter(self._listed(""))]  # no recursion: folders may be nested deeply
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
            elif isinstance(found, FolderItem):
                yield found
            else:
                stack.append(iter(self._listed(found)))

    def count(self) -> int:
        """Return how many files there are now."""
        return sum(1 for _ in self)

    def _listed(self, folder: str) -> list[FolderItem | str]:
        """Return what is to be taken of one folder: files, and folders as their paths."""
        try:
            with os.scandir(Path(self.root, folder)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise
            return [FolderItem(folder, problem=f"the folder cannot be listed: {error.strerror}")]
        return [one for entry in entries if (one := self._taken(entry, folder)) is not None]

    def _taken(self, entry: os.DirEntry[str], folder: str) -> FolderItem | str | None:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if path in self.never or any(_matches(path, glob) for glob in self.exclude):
            return None
        if entry.name.startswith(".") and not self.hidden:
            self._leave("hidden", path)
            return None
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError as error:
            return FolderItem(path, problem=f"it cannot be looked at: {error.strerror}")
        if stat.S_ISDIR(mode):
            return path
        if self.pattern is not None and not _matches(path, self.pattern):
            return None
        if stat.S_ISREG(mode):
            return FolderItem(path)
        self._leave("symlink" if stat.S_ISLNK(mode) else "special", path)
        return None

    def _leave(self, reason: str, path: str) -> None:
        self.left_out.setdefault(reason, []).append(path)


def _matches(path: str, glob: str) -> bool:
    """Return whether a pattern is that of a path, or, if it has no slash, of its last name."""
    return fnmatchcase(path if "/" in glob else path.rpartition("/")[2], glob)
