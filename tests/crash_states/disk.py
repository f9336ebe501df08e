"""A disk under a recorded program: what is durable, and what waits to be written.

Of a file, what was there at its last `fsync` or `fdatasync` is durable, of a folder likewise; a
file that was synced may have no name yet. What came later may be there or not, in any order for the
bytes of files, in the order in which it was done for the names in one folder: that is how journals
of file systems work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from tests.tracing import Call
from tests.tracing.calls import WRITES

SEEN: Final = WRITES | {"mmap"}
"""The names of the calls to be recorded."""

Image: TypeAlias = dict[str, bytes | None]
"""What lies at each path; None is a folder."""

_CREATES: Final = os.O_CREAT
_CUTS: Final = os.O_TRUNC
_WRITABLE: Final = 2  # PROT_WRITE


class UnknownCallError(Exception):
    """A call whose effect on a disk is not known here."""


@dataclass(frozen=True)
class Write:
    """Bytes that wait to be written, or a size that waits to be given."""

    offset: int
    data: bytes | None  # None: the file is cut, or grown, to the offset

    def onto(self, content: bytearray, count: int | None = None) -> None:
        """Do it, or only the first bytes of it."""
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
            return
        data = self.data if count is None else self.data[:count]
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(data)] = data


@dataclass(frozen=True)
class Choice:
    """Which of the waiting writes of a file are on the disk.

    Attributes
    ----------
    kept
        Their numbers.
    cut
        How many bytes of the last of them; None for all.
    grown
        Whether the file has the size that all of them give it, with zeros where none of those kept
        has written.
    """

    kept: tuple[int, ...]
    cut: int | None = None
    grown: bool = False


@dataclass(frozen=True)
class File:
    """A file: what is durable of it, and what waits."""

    synced: bytes = b""
    pending: tuple[Write, ...] = ()

    def content(self, choice: Choice | None = None) -> bytes:
        """Return what it holds after a power failure; by default what it holds before."""
        if choice is None:
            choice = Choice(tuple(range(len(self.pending))))
        content = bytearray(self.synced)
        for number in choice.kept:
            is_last = number == choice.kept[-1]
            self.pending[number].onto(content, choice.cut if is_last else None)
        if choice.grown:
            content.extend(bytes(max(0, len(self.content()) - len(content))))
        return bytes(content)

    def then(self, write: Write) -> File:
        return replace(self, pending=(*self.pending, write))

    def durable(self) -> File:
        return File(self.content())


Entries: TypeAlias = Mapping[str, int | None]
"""Names in a folder that come to be, with the number of what they name, or go: None."""


@dataclass(frozen=True)
class Folder:
    """A folder: the names that are durable, and changes of them that wait."""

    synced: Entries = field(default_factory=dict)
    pending: tuple[Entries, ...] = ()

    def names(self, count: int | None = None) -> dict[str, int]:
        """Return what it holds if so many of the changes are on the disk; by default all."""
        names = dict(self.synced)
        for change in self.pending[:count]:
            names.update(change)
        return {name: node for name, node in names.items() if node is not None}

    def then(self, change: Entries) -> Folder:
        return replace(self, pending=(*self.pending, change))

    def durable(self) -> Folder:
        return Folder(self.names())


@dataclass(frozen=True)
class Case:
    """One disk image: where the power fails, and what of that which waits is on the disk.

    Attributes
    ----------
    call
        The number of calls that have happened.
    files, folders
        What is chosen for files, and how many changes are there of folders, by number; all that
        waits is there of those that are not named.
    """

    call: int
    files: tuple[tuple[int, Choice], ...] = ()
    folders: tuple[tuple[int, int], ...] = ()


class Disk:
    """Files and folders by number, in the order in which they came to be; 0 is the root."""

    def __init__(self, nodes: dict[int, File | Folder] | None = None) -> None:
        self._nodes: dict[int, File | Folder] = {0: Folder()} if nodes is None else nodes

    def copy(self) -> Disk:
        return Disk(dict(self._nodes))

    def files(self) -> dict[int, File]:
        """Return those of which something waits."""
        return {
            number: node
            for number, node in self._nodes.items()
            if isinstance(node, File) and node.pending
        }

    def folders(self) -> dict[int, Folder]:
        """Return those of which something waits."""
        return {
            number: node
            for number, node in self._nodes.items()
            if isinstance(node, Folder) and node.pending
        }

    def image(self, case: Case) -> Image:
        """Return what is on the disk after a power failure."""
        found: Image = {}
        self._collect(0, "", dict(case.files), dict(case.folders), found)
        return found

    def _collect(
        self,
        number: int,
        path: str,
        files: dict[int, Choice],
        folders: dict[int, int],
        found: Image,
    ) -> None:
        node = self._nodes[number]
        if isinstance(node, File):
            found[path] = node.content(files.get(number))
            return
        if path:
            found[path] = None
        for name, child in node.names(folders.get(number)).items():
            self._collect(child, f"{path}/{name}" if path else name, files, folders, found)

    def add_tree(self, root: Path) -> None:
        """Take over what lies in a folder, as durable."""
        numbers = {PurePosixPath("."): 0}
        for path in sorted(root.rglob("*")):
            relative = PurePosixPath(path.relative_to(root))
            numbers[relative] = self._make(
                Folder() if path.is_dir() else File(path.read_bytes()),
                numbers[relative.parent],
                relative.name,
            )
        for number, node in self._nodes.items():
            self._nodes[number] = node.durable()

    def apply(self, call: Call, root: str) -> bool:
        """Do what a call did; return whether that may have changed the disk."""
        if call.result is None or call.result < 0:
            return False
        path = PurePosixPath(os.path.relpath(call.path, root))
        name = call.name.removesuffix("2").removesuffix("at")
        if name == "open":
            return self._open(path, call)
        if name in ("pwrite64", "pwritev", "write", "writev"):
            return self._write(path, call)
        if name in ("fsync", "fdatasync"):
            return self._sync(path)
        if name in ("ftruncate", "truncate"):
            return self._change(path, Write(call.size, None))
        if name in ("unlink", "rmdir"):
            return self._rename(path, None)
        if name == "rename" and call.flags == 0:
            return self._rename(path, PurePosixPath(os.path.relpath(call.new, root)))
        if name == "mkdir":
            self._make(Folder(), self._number(path.parent), path.name)
            return True
        if name == "mmap" and not call.flags & _WRITABLE:
            return False
        raise UnknownCallError(f"{call}")

    def _make(self, node: File | Folder, folder: int, name: str) -> int:
        number = len(self._nodes)
        self._nodes[number] = node
        self._nodes[folder] = self._folder(folder).then({name: number})
        return number

    def _folder(self, number: int) -> Folder:
        node = self._nodes[number]
        assert isinstance(node, Folder)
        return node

    def _number(self, path: PurePosixPath) -> int:
        number = 0
        for part in path.parts:
            number = self._folder(number).names()[part]
        return number

    def _open(self, path: PurePosixPath, call: Call) -> bool:
        if not call.flags & (_CREATES | _CUTS):
            return False
        if path.name not in self._folder(self._number(path.parent)).names():
            self._make(File(), self._number(path.parent), path.name)
            return True
        return bool(call.flags & _CUTS) and self._change(path, Write(0, None))

    def _write(self, path: PurePosixPath, call: Call) -> bool:
        if call.offset is None or call.result is None or call.result > len(call.data):
            raise UnknownCallError(f"{call}")
        return self._change(path, Write(call.offset, call.data[: call.result]))

    def _change(self, path: PurePosixPath, write: Write) -> bool:
        if path.name.endswith(" (deleted)"):
            return False
        number = self._number(path)
        node = self._nodes[number]
        assert isinstance(node, File)
        self._nodes[number] = node.then(write)
        return True

    def _sync(self, path: PurePosixPath) -> bool:
        if path.name.endswith(" (deleted)"):
            return False
        number = self._number(path)
        self._nodes[number] = self._nodes[number].durable()
        return True

    def _rename(self, old: PurePosixPath, new: PurePosixPath | None) -> bool:
        folder = self._number(old.parent)
        change: dict[str, int | None] = {old.name: None}
        if new is not None:
            if new.parent != old.parent:
                raise UnknownCallError(f"{old} is moved to another folder, as {new}")
            change[new.name] = self._number(old)
        self._nodes[folder] = self._folder(folder).then(change)
        return True


def write_image(image: Image, root: Path) -> None:
    """Put an image into an empty folder."""
    for name, content in image.items():
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)
