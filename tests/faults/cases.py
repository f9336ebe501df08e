"""What can be done to which call."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.tracing import Action, Call, Fail, Kill, Shorten
from tests.tracing.calls import READS, WRITES

NAMES: Final = WRITES | READS | {"flock", "mmap"}
"""The calls that are disturbed. A close that fails on Linux has closed nevertheless."""

KILL: Final = "kill"
LIMIT: Final = "limit"
_HALF: Final = "half"
_BYTE: Final = "byte"
_LASTING: Final = "+"
_LIMIT_STEP: Final = 512

_READ: Final = ("EIO", "EINTR", _HALF, _BYTE)
_WRITE: Final = ("EIO", "ENOSPC", "EDQUOT", "EINTR", _HALF, _BYTE)
_SYNC: Final = ("EIO", "ENOSPC", "EDQUOT", "EINTR")
_NAME: Final = ("EIO", "ENOSPC", "EDQUOT", "EACCES")
_OPEN: Final = ("EIO", "EINTR", "EMFILE", "EACCES")
_FAULTS: Final = {
    **dict.fromkeys(READS, _READ),
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "pwritev2"), _WRITE),
    **dict.fromkeys(("fsync", "fdatasync", "syncfs"), _SYNC),
    **dict.fromkeys(("ftruncate", "truncate", "fallocate"), ("EIO", "EINTR")),
    **dict.fromkeys(("open", "openat", "openat2", "creat"), _OPEN),
    "flock": ("EIO", "EINTR"),
    "mmap": ("ENOMEM", "EACCES"),
}
_SHORT: Final = {_HALF, _BYTE}
_NOT_LASTING: Final = {"EINTR", _BYTE}
"""A call that is interrupted whenever it is made is made for ever; a byte at a time is too slow."""


@dataclass(frozen=True)
class Case:
    """One disturbance of one program.

    Attributes
    ----------
    workload
        Which program.
    fault
        ``kill``, the name of an error, ``half`` or ``byte`` for a call that does no more than that,
        or ``limit`` for what no file may outgrow; with a ``+`` for all calls from there on.
    number
        Of the call; of a limit, in bytes.
    """

    workload: str
    fault: str
    number: int

    @classmethod
    def parsed(cls, text: str) -> Case:
        workload, fault, number = text.split(":")
        return cls(workload, fault, int(number))

    def __str__(self) -> str:
        return f"{self.workload}:{self.fault}:{self.number}"

    @property
    def is_lasting(self) -> bool:
        return self.fault.endswith(_LASTING)

    @property
    def is_kill(self) -> bool:
        return self.fault == KILL

    @property
    def limit(self) -> int | None:
        return self.number if self.fault == LIMIT else None

    @property
    def errno(self) -> int | None:
        """Return the error that is injected, if it is one."""
        number = getattr(errno, self.fault.removesuffix(_LASTING), None)
        return number if isinstance(number, int) else None

    def decide(self, call: Call) -> Action | None:
        """Return what is to be done to a call."""
        if self.limit is not None or call.number < self.number:
            return None
        if call.number > self.number and not self.is_lasting:
            return None
        if self.is_kill:
            return Kill()
        fault = self.fault.removesuffix(_LASTING)
        if fault not in _faults_of(call):
            return None
        if fault in _SHORT:
            return Shorten(1 if fault == _BYTE else max(1, call.size // 2))
        return Fail(getattr(errno, fault))


def _faults_of(call: Call) -> Sequence[str]:
    faults = _FAULTS.get(call.name, _NAME)
    creates = call.name == "openat" and call.flags & os.O_CREAT
    return (*faults, "ENOSPC", "EDQUOT") if creates else faults


def all_of(workload: str, calls: Iterable[Call], largest: int) -> Iterator[Case]:
    """Yield every case of a program.

    Parameters
    ----------
    calls
        Those of the program when nothing disturbs it.
    largest
        The size of the largest file that it makes, in bytes.
    """
    for call in calls:
        yield Case(workload, KILL, call.number)
        for fault in _faults_of(call):
            yield Case(workload, fault, call.number)
            if fault not in _NOT_LASTING:
                yield Case(workload, fault + _LASTING, call.number)
    for limit in range(0, largest, _LIMIT_STEP):
        yield Case(workload, LIMIT, limit)
