"""Linux's `ptrace`, as far as it is used here, on x86-64 and 64-bit ARM."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from typing import Final

_NUMBERS_X86: Final = {
    "open": 2, "openat": 257, "openat2": 437, "creat": 85, "close": 3, "read": 0, "pread64": 17,
    "preadv": 295, "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "pwritev2": 328,
    "fsync": 74, "fdatasync": 75, "syncfs": 306, "sync_file_range": 277, "ftruncate": 77,
    "truncate": 76, "fallocate": 285, "copy_file_range": 326, "sendfile": 40, "mmap": 9,
    "flock": 73, "mkdir": 83, "mkdirat": 258, "rmdir": 84, "unlink": 87, "unlinkat": 263,
    "rename": 82, "renameat": 264, "renameat2": 316, "link": 86, "linkat": 265, "symlink": 88,
    "symlinkat": 266,
}  # fmt: skip
_NUMBERS_ARM: Final = {
    "openat": 56, "openat2": 437, "close": 57, "read": 63, "pread64": 67, "preadv": 69,
    "write": 64, "pwrite64": 68, "writev": 66, "pwritev": 70, "pwritev2": 287, "fsync": 82,
    "fdatasync": 83, "syncfs": 267, "sync_file_range": 84, "ftruncate": 46, "truncate": 45,
    "fallocate": 47, "copy_file_range": 285, "sendfile": 71, "mmap": 222, "flock": 32,
    "mkdirat": 34, "unlinkat": 35, "renameat": 38, "renameat2": 276, "linkat": 37,
    "symlinkat": 36,
}  # fmt: skip
NUMBERS: Final = {"x86_64": _NUMBERS_X86, "aarch64": _NUMBERS_ARM}.get(platform.machine(), {})
"""Name of a call to its number on this machine; empty where it is not known."""

SEIZE: Final = 0x4206
INTERRUPT: Final = 0x4207
SYSCALL: Final = 24
_GET_SYSCALL_INFO: Final = 0x420E
_GETREGSET: Final = 0x4204
_SETREGSET: Final = 0x4205
_PEEKUSER: Final = 3
_POKEUSER: Final = 6
_NT_PRSTATUS: Final = 1
_NT_ARM_SYSTEM_CALL: Final = 0x404
# Stops for system calls are marked, children and threads are followed, all die with the tracer.
OPTIONS: Final = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x100000
# Where orig_rax, rax, and the arguments lie among the registers of x86-64.
_X86_NUMBER, _X86_RESULT = 120, 80
_X86_ARGUMENTS: Final = (112, 104, 96, 56, 72, 44)
ENTRY: Final = 1
EXIT: Final = 2

ALL: Final = 0x40000000  # __WALL: threads too


class TracingError(Exception):
    """Tracing does not work here."""


class _Info(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("_pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("values", ctypes.c_uint64 * 8),
    )


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
if _libc is not None:
    _libc.ptrace.restype = ctypes.c_long
    _libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def ptrace(request: int, thread: int, address: int | None, data: object) -> int:
    """Make one request; an error is an OSError."""
    if _libc is None:
        raise TracingError("there is no ptrace on this system")
    result: int = _libc.ptrace(request, thread, address, data)
    if result == -1 and ctypes.get_errno():
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace {request:#x}: {os.strerror(code)}")
    return result


class Stop:
    """A thread that stands before or behind a call.

    Attributes
    ----------
    op
        `ENTRY` or `EXIT`; something else where it is neither.
    """

    def __init__(self, thread: int) -> None:
        self._thread = thread
        info = _Info()
        ptrace(_GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.byref(info))
        self.op = info.op
        self._values = info.values

    def number(self) -> int:
        return int(self._values[0])

    def arguments(self) -> list[int]:
        return [int(value) for value in self._values[1:7]]

    def result(self) -> int:
        return ctypes.c_int64(self._values[0]).value


def skip(thread: int) -> None:
    """Let a call not happen, before which a thread stands."""
    if platform.machine() == "x86_64":
        ptrace(_POKEUSER, thread, _X86_NUMBER, ctypes.c_void_p(-1))
        return
    number = ctypes.c_int(-1)
    vector = _Vector(ctypes.addressof(number), ctypes.sizeof(number))
    ptrace(_SETREGSET, thread, _NT_ARM_SYSTEM_CALL, ctypes.byref(vector))


def set_result(thread: int, result: int) -> None:
    """Say what a call returns, behind which a thread stands."""
    if platform.machine() == "x86_64":
        ptrace(_POKEUSER, thread, _X86_RESULT, ctypes.c_void_p(result))
        return
    _set_arm_register(thread, 0, result)


def set_argument(thread: int, position: int, value: int) -> None:
    """Change an argument of a call, before which a thread stands."""
    if platform.machine() == "x86_64":
        ptrace(_POKEUSER, thread, _X86_ARGUMENTS[position], ctypes.c_void_p(value))
        return
    _set_arm_register(thread, position, value)


def _set_arm_register(thread: int, position: int, value: int) -> None:
    registers = (ctypes.c_uint64 * 34)()
    vector = _Vector(ctypes.addressof(registers), ctypes.sizeof(registers))
    ptrace(_GETREGSET, thread, _NT_PRSTATUS, ctypes.byref(vector))
    registers[position] = value & (2**64 - 1)
    ptrace(_SETREGSET, thread, _NT_PRSTATUS, ctypes.byref(vector))
