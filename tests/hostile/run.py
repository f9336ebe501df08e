"""Processes that try hostile stores, and what is wrong with what came of one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.hostile import forge
from tests.hostile.case import HARMLESS, Case
from tests.hostile.watched import GROUPS

SECRET: Final = b"what nobody else may know, or change"
MOST_MEMORY: Final = 256 << 20
_PATIENCE: Final = 20  # seconds; no case takes two
_ROOT: Final = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case.

    Attributes
    ----------
    steps
        What every step gave.
    wrong
        What should not have happened; nothing if all is well.
    said
        The first error that the case is expected to get, or the first that there was.
    memory
        How many bytes more were resident than before, at most.
    """

    steps: dict[str, str]
    wrong: list[str]
    said: str
    memory: int


class Runner:
    """Tries hostile stores in a process that is used for one after the other.

    Parameters
    ----------
    place
        A folder for all stores.
    everything
        Do everything with each; else what takes time is only done where the case says that an
        error is to be seen there.
    """

    def __init__(self, place: Path, *, everything: bool = True) -> None:
        self._place = place
        self._everything = everything
        self._plain = forge.plain_store(place / "plain")
        self._process: subprocess.Popen[str] | None = None
        self._count = 0
        self._expected: dict[str, str] | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def outcome(self, case: Case) -> Outcome:
        """Make the store of a case, try it, and say what came of it."""
        if self._expected is None:
            plain = self._answer(Case("plain", lambda store, outside: None, HARMLESS))
            self._expected = plain["steps"]
        answer = self._answer(case)
        steps: dict[str, str] = answer["steps"]
        wrong = [*answer["harm"], *answer["changed"]]
        wrong += [f"{step}: {said}" for step, said in steps.items() if said.startswith("WRONG")]
        if answer["memory"] > MOST_MEMORY:
            wrong.append(f"{answer['memory'] >> 20} MiB of memory were taken")
        lines = [f"{step}: {said}" for step, said in steps.items()]
        if case.gets == HARMLESS:
            expected = self._expected.items()
            wrong += [
                f"{step}: {steps.get(step)}" for step, one in expected if steps.get(step) != one
            ]
            return Outcome(steps, wrong, "", answer["memory"])
        found = [line for line in lines if re.search(case.gets, line)]
        if not found:
            wrong.append(f"no step got {case.gets!r}")
        return Outcome(steps, wrong, (found or lines or [""])[0], answer["memory"])

    def _answer(self, case: Case) -> dict[str, Any]:
        self._count += 1
        place = self._place / f"case-{self._count}"
        store, outside = place / "store", place / "outside"
        shutil.copytree(self._plain, store)
        with _bait(outside) as changed:
            case.make(store, outside)
            (place / "out").mkdir()
            wanted = GROUPS if self._everything else [g for g in GROUPS if g in case.gets]
            answer = self._asked(store, place / "out", wanted)
        shutil.rmtree(place, ignore_errors=True)
        return {**answer, "changed": changed}

    def _asked(self, store: Path, out: Path, groups: Sequence[str]) -> dict[str, Any]:
        process = self._ready()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        cache = str(self._place / "private")
        request = {"store": str(store), "out": str(out), "cache": cache, "groups": groups}
        ended = threading.Timer(_PATIENCE, process.kill)
        ended.start()
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        ended.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = process.wait()
        self._process = None
        return {"steps": {}, "harm": [f"the process died with {code}"], "memory": 0}

    def _ready(self) -> subprocess.Popen[str]:
        """Return the process, started if there is none, which has done everything once."""
        if self._process is None:
            warm = self._place / f"warm-{self._count}"
            shutil.copytree(self._plain, warm / "store")
            (warm / "out").mkdir()
            private = {name: str(self._place / "private") for name in ("XDG_CACHE_HOME", "TMPDIR")}
            (self._place / "private").mkdir(exist_ok=True)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.watched"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=_ROOT,
                env={**os.environ, **private},
            )
            if self._process.stdin is None or self._process.stdout is None:
                raise RuntimeError("the process has no pipes")
            request = {"store": str(warm / "store"), "out": str(warm / "out")}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            if self._process.stdout.readline() != "ready\n":
                raise RuntimeError("the process cannot read a plain store")
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


@contextmanager
def _bait(outside: Path) -> Iterator[list[str]]:
    """Give a list of what has become of files outside of a store while the block ran."""
    outside.mkdir(parents=True)
    for name in ("secret", "manifest.json", "other.chunk"):
        (outside / name).write_bytes(SECRET)
    changed: list[str] = []
    yield changed
    for name in ("secret", "manifest.json", "other.chunk"):
        file = outside / name
        if not file.is_file() or file.read_bytes() != SECRET:
            changed.append(f"{name}, outside of the store, was changed")
