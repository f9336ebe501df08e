"""What is measured in a process of its own, which has imported the system and done nothing else.

    python -m benchmarks.reading.fresh MODULE CLASS FOLDER KIND

prints the figures as JSON. ``KIND`` is ``open``, ``filter`` or ``metadata``; each tells how long
opening took, and how much private memory it cost.
"""

from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benchmarks.reading.answers import BELOW
from benchmarks.reading.memory import private_bytes
from benchmarks.reading.protocol import System, bodied
from benchmarks.reading.registry import Entry, folder_name, one
from benchmarks.reading.sums import table_sum, total

_ROOT = Path(__file__).resolve().parents[2]
_LATE = ("pandas", "pyarrow.compute", "pyarrow.dataset", "pyarrow.parquet")
"""What pyarrow imports when it is first used, which is not what is to be timed."""


class FreshProcessError(RuntimeError):
    """A process that measured a system failed."""


def figures(entry: Entry, place: Path, kind: str) -> dict[str, float]:
    """Return the figures of one fresh process.

    Parameters
    ----------
    place
        The folder with the folders of all systems.

    Raises
    ------
    FreshProcessError
        The process failed.
    """
    folder = place / folder_name(entry.system)
    command = [sys.executable, "-m", "benchmarks.reading.fresh"]
    command += [entry.module, entry.system.__name__, str(folder.resolve()), kind]
    ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise FreshProcessError(f"{entry.name} failed in a fresh process:\n{ended.stderr}")
    # Some systems print something of their own before.
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def measure(system: type[System], folder: Path, kind: str) -> dict[str, float]:
    """Open a system in this process and measure it."""
    gc.collect()
    before = private_bytes()
    start = time.perf_counter()
    opened = system(folder)
    opening = time.perf_counter() - start
    after = private_bytes()
    found = {"open.ms": 1e3 * opening}
    if before is not None and after is not None:
        found["open.mb"] = (after - before) / 1e6
    try:
        found |= KINDS[kind](opened, opening)
    finally:
        opened.close()
    return found


def _nothing_more(_: System, __: float) -> dict[str, float]:
    return {}


def _filter(opened: System, opening: float) -> dict[str, float]:
    start = time.perf_counter()
    total(bodied(opened).matching(BELOW))
    return {"filter": 1e3 * (opening + time.perf_counter() - start)}


def _metadata(opened: System, _: float) -> dict[str, float]:
    found = {}
    for key in ("metadata.first", "metadata.again"):
        start = time.perf_counter()
        table_sum(opened.metadata())
        found[key] = 1e3 * (time.perf_counter() - start)
    return found


KINDS: dict[str, Callable[[System, float], dict[str, float]]] = {
    "open": _nothing_more,
    "filter": _filter,
    "metadata": _metadata,
}


def main(given: list[str]) -> None:
    """Measure, and print the figures."""
    module, class_name, folder, kind = given
    system = one(module, class_name)
    for late in _LATE:
        with contextlib.suppress(ImportError):
            import_module(late)
    print(json.dumps(measure(system, Path(folder), kind)))


if __name__ == "__main__":
    main(sys.argv[1:])
