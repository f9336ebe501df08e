"""Starts the programs, kills them at random moments, starts them again, and checks what is left."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.processes import Child, assert_clean, assert_rebuilds_equal
from tests.soak.actors import CAST, PROGRAMS, READY, STORE, WRITERS, Watcher, commit
from tests.soak.story import Violation, new_store

_ROUND: Final = 30
"""Seconds for one store; longer, and most of the time would go into reading what is there."""
_PAUSE: Final = (0.05, 0.25)
_ALL: Final = 0.05
"""How often all are killed at once, as when a machine runs out of memory."""
_AGAIN: Final = 0.3
"""How often the one that was just started is killed as well, while it recovers."""


@dataclass
class Tally:
    """What has happened so far.

    Attributes
    ----------
    kills, early
        How many processes were killed, and how many of them before they were ready.
    commits, checked
        How many commits there were, and how many records were compared.
    """

    rounds: int = 0
    kills: int = 0
    early: int = 0
    commits: int = 0
    checked: int = 0


class Actor:
    """One of the programs, started anew whenever it was killed."""

    def __init__(self, name: str, number: int, place: Path, seed: str, tally: Tally) -> None:
        self._what = PROGRAMS[name], place, seed, number
        self._name = f"{name} {number}"
        self._tally = tally
        self._start()

    def _start(self) -> None:
        self._child = Child(*self._what)
        self._is_ready = False

    def listen(self) -> None:
        """Take in what it has said; an error that it has met is one of ours."""
        try:
            for message in self._child.heard():
                if message == READY:
                    self._is_ready = True
                else:
                    self._tally.checked += message
        except AssertionError as error:
            raise Violation(f"{self._name}: {error}") from error

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # `restart` says what it died of
            self._child.signal(signal.SIGKILL)

    def restart(self) -> None:
        """Start the one that was killed again."""
        code = self._child.exit_code()
        self.listen()
        if code != -signal.SIGKILL:
            raise Violation(f"{self._name} has ended by itself, with exit code {code}")
        self._tally.kills += 1
        self._tally.early += not self._is_ready
        self._child.close()
        self._start()

    def close(self) -> None:
        self._child.close()


def soak(folder: Path, seconds: float, seed: int, tally: Tally) -> None:
    """Let the programs work on one store after the other.

    Raises
    ------
    Violation
        A store was not what it must be; it is left as it is.
    """
    rounds = max(1, round(seconds / _ROUND))
    for number in range(rounds):
        place = folder / f"round-{number}"
        place.mkdir()
        _round(place, seconds / rounds, f"{seed}/{number}", tally)
        tally.rounds += 1


def _round(place: Path, seconds: float, seed: str, tally: Tally) -> None:
    chance = random.Random(seed)
    new_store(place / STORE)
    watcher = Watcher(place, seed)
    actors: list[Actor] = []
    try:
        actors += (
            Actor(name, number, place, seed, tally)
            for name, count in CAST.items()
            for number in range(count)
        )
        end = time.monotonic() + seconds
        # However slow a machine is, a round has commits.
        while time.monotonic() < end or not watcher.acknowledged():
            time.sleep(chance.uniform(*_PAUSE))  # the moment is what is random here
            victims = actors if chance.random() < _ALL else [chance.choice(actors)]
            _kill(victims)
            while chance.random() < _AGAIN:
                time.sleep(chance.expovariate(1 / 0.02))
                _kill(victims)
            for actor in actors:
                actor.listen()
        for actor in actors:
            actor.kill()
    finally:
        for actor in actors:
            actor.close()
    tally.kills += len(actors)
    _check_what_is_left(place, watcher, seed, tally)


def _kill(victims: list[Actor]) -> None:
    for actor in victims:
        actor.kill()
    for actor in victims:
        actor.restart()


def _check_what_is_left(place: Path, watcher: Watcher, seed: str, tally: Tally) -> None:
    """Look at a store that everybody has died in, before and after another writer has come."""
    tally.checked += watcher.check()
    tally.commits += watcher.acknowledged()
    commit(place, seed, WRITERS - 1, most=3)
    tally.checked += watcher.check()
    assert_clean(place / STORE)
    assert_rebuilds_equal(place / STORE, place)
