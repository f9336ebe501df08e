"""The file system calls that are seen, and how their arguments are read."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from typing import Final

AT_FDCWD: Final = -100


@dataclass(frozen=True)
class Shape:
    """Which argument of a call means what; None is an argument that it does not have."""

    name: str
    path: int | None = None  # with the descriptor of a folder before it, if `folder` says so
    folder: int | None = None
    new: int | None = None  # the second path of a rename or link
    new_folder: int | None = None
    descriptor: int | None = None
    data: int | None = None  # followed by the count of bytes
    vector: int | None = None  # followed by the count of buffers
    offset: int | None = None
    size: int | None = None
    flags: int | None = None
    reads: bool = False


SHAPES: Final = {
    shape.name: shape
    for shape in [
        Shape("open", path=0, flags=1),
        Shape("openat", folder=0, path=1, flags=2),
        Shape("openat2", folder=0, path=1),
        Shape("creat", path=0),
        Shape("close", descriptor=0),
        Shape("read", descriptor=0, data=1, reads=True),
        Shape("pread64", descriptor=0, data=1, offset=3, reads=True),
        Shape("preadv", descriptor=0, vector=1, offset=3, reads=True),
        Shape("write", descriptor=0, data=1),
        Shape("pwrite64", descriptor=0, data=1, offset=3),
        Shape("writev", descriptor=0, vector=1),
        Shape("pwritev", descriptor=0, vector=1, offset=3),
        Shape("pwritev2", descriptor=0, vector=1, offset=3),
        Shape("fsync", descriptor=0),
        Shape("fdatasync", descriptor=0),
        Shape("syncfs", descriptor=0),
        Shape("sync_file_range", descriptor=0, offset=1, size=2),
        Shape("ftruncate", descriptor=0, size=1),
        Shape("truncate", path=0, size=1),
        Shape("fallocate", descriptor=0, offset=2, size=3),
        Shape("copy_file_range", descriptor=2),
        Shape("sendfile", descriptor=0),
        Shape("mmap", descriptor=4, flags=2, size=1, offset=5),
        Shape("flock", descriptor=0, flags=1),
        Shape("mkdir", path=0),
        Shape("mkdirat", folder=0, path=1),
        Shape("rmdir", path=0),
        Shape("unlink", path=0),
        Shape("unlinkat", folder=0, path=1, flags=2),
        Shape("rename", path=0, new=1),
        Shape("renameat", folder=0, path=1, new_folder=2, new=3),
        Shape("renameat2", folder=0, path=1, new_folder=2, new=3, flags=4),
        Shape("link", path=0, new=1),
        Shape("linkat", folder=0, path=1, new_folder=2, new=3),
        Shape("symlink", path=1),
        Shape("symlinkat", folder=1, path=2),
    ]
}
READS: Final = frozenset(name for name, shape in SHAPES.items() if shape.reads)
WRITES: Final = frozenset(SHAPES) - READS - {"close", "flock", "mmap"}
"""What changes files or syncs them, and the opening of files."""


@dataclass(frozen=True)
class Call:
    """One call, as it was made.

    Attributes
    ----------
    number
        Counts the calls of a trace that are seen, from 0.
    name
        As the kernel calls it.
    path
        What it acts on, absolute, by the name that it has when the call is made.
    new
        The second path of a rename or link, else empty.
    data
        What a write was asked to write.
    offset
        Where a write or read begins, also if that is where the descriptor stands; else None.
    size
        The bytes that a call asks for, or the size that a truncation gives.
    flags
        Of an opening, a lock, an unlink; of a map, how it may be used.
    result
        What it returned; an error is negative. None before it happens.
    thread
        The id of the thread that made it.
    """

    number: int
    name: str
    path: str
    new: str
    data: bytes
    offset: int | None
    size: int
    flags: int
    result: int | None
    thread: int

    def returned(self, result: int) -> Call:
        return replace(self, result=result)


def read_call(shape: Shape, number: int, thread: int, arguments: list[int]) -> Call | None:
    """Return what a stopped thread is about to do; None if it names no file."""
    memory = _Memory(thread)
    path = memory.path_of(shape, arguments)
    if path is None:
        return None
    new = ""
    if shape.new is not None:
        new = memory.path_at(shape.new_folder, shape.new, arguments)
    data, size = memory.buffers(shape, arguments)
    return Call(
        number=number,
        name=shape.name,
        path=path,
        new=new,
        data=data,
        offset=memory.offset(shape, arguments),
        size=arguments[shape.size] if shape.size is not None else size,
        flags=arguments[shape.flags] & 0xFFFFFFFF if shape.flags is not None else 0,
        result=None,
        thread=thread,
    )


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class _Memory:
    """The memory and the descriptors of a stopped thread."""

    def __init__(self, thread: int) -> None:
        self._folder = f"/proc/{thread}"

    def path_of(self, shape: Shape, arguments: list[int]) -> str | None:
        if shape.path is not None:
            return self.path_at(shape.folder, shape.path, arguments)
        assert shape.descriptor is not None
        return self._descriptor(_signed(arguments[shape.descriptor], 32))

    def path_at(self, folder: int | None, path: int, arguments: list[int]) -> str:
        named = os.fsdecode(self._text(arguments[path]))
        number = AT_FDCWD if folder is None else _signed(arguments[folder], 32)
        if named.startswith("/"):
            return os.path.normpath(named)
        beside = self._link("cwd") if number == AT_FDCWD else self._descriptor(number)
        return os.path.normpath(os.path.join(beside or "/", named))  # noqa: PTH118 (not this machine's)

    def buffers(self, shape: Shape, arguments: list[int]) -> tuple[bytes, int]:
        """Return what is written, and the bytes that are asked for."""
        if shape.data is not None:
            pieces = [(arguments[shape.data], arguments[shape.data + 1])]
        elif shape.vector is not None:
            count = arguments[shape.vector + 1]
            packed = self._read(arguments[shape.vector], 16 * count)
            pieces = list(struct.iter_unpack("=QQ", packed))
        else:
            return b"", 0
        data = b"" if shape.reads else b"".join(self._read(*piece) for piece in pieces)
        return data, sum(length for _, length in pieces)

    def offset(self, shape: Shape, arguments: list[int]) -> int | None:
        """Return where a call begins; for a file that is appended to, where it ends."""
        if shape.offset is not None:
            return _signed(arguments[shape.offset], 64)
        if shape.descriptor is None or (shape.data is None and shape.vector is None):
            return None
        number = _signed(arguments[shape.descriptor], 32)
        with open(f"{self._folder}/fdinfo/{number}", encoding="ascii") as told:  # noqa: PTH123
            position, flags = (line.split()[1] for line in (next(told), next(told)))
        if int(flags, 8) & os.O_APPEND:
            return os.stat(f"{self._folder}/fd/{number}").st_size  # noqa: PTH116
        return int(position)

    def _descriptor(self, number: int) -> str | None:
        return self._link(f"fd/{number}") if number >= 0 else None

    def _link(self, name: str) -> str | None:
        try:
            return os.readlink(f"{self._folder}/{name}")  # noqa: PTH115 (it is no path for sockets)
        except OSError:
            return None

    def _text(self, address: int) -> bytes:
        """Read up to the zero behind a text, a page at a time, as the next may not be there."""
        text = b""
        while True:
            page = self._read(address + len(text), 4096 - (address + len(text)) % 4096)
            end = page.find(b"\0")
            if end >= 0:
                return text + page[:end]
            text += page

    def _read(self, address: int, length: int) -> bytes:
        if length == 0:
            return b""
        with open(f"{self._folder}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
            data = os.pread(memory.fileno(), length, address)
        if len(data) != length:
            raise OSError(f"{length} bytes at {address:#x} of {self._folder} cannot be read")
        return data
