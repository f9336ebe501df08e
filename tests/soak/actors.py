"""The programs that work on the store until they are killed, and what they note meanwhile."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import sqlstore
from tests.compacted import compact as compact_anyway
from tests.soak.story import State, Story, Violation, states_in

STORE: Final = "store"
CAST: Final = {"writer": 4, "reader": 2, "compactor": 1}
"""How many of each there are; one more kind is a number here and a program in `PROGRAMS`."""
WRITERS: Final = CAST["writer"] + 1
"""Those, and one that comes when all of them are dead."""
READY: Final = "ready"
"""What a program says when it has opened the store, and settled what others left."""
BEGUN: Final = "begun"
DONE: Final = "done"
_TURNS = 10
"""Of so many looks of a reader one is followed by `verify`."""


class Notes:
    """What a writer has begun and what was acknowledged, kept outside of the store.

    Parameters
    ----------
    folder
        Where the notes of all writers lie.
    writer
        Whose these are.
    """

    def __init__(self, folder: Path, writer: int) -> None:
        self._path = folder / f"writer-{writer}"

    def count(self, word: str) -> int:
        """Return how many commits were begun, or how many done."""
        text = self._path.read_text() if self._path.exists() else ""
        lines = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return max((int(number) + 1 for what, number in lines if what == word), default=0)

    def appender(self) -> Callable[[str, int], None]:
        """Return what adds a line."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def note(word: str, number: int) -> None:
            os.write(descriptor, f"{word} {number}\n".encode())

        return note


class Watcher:
    """Compares the store with the notes of all writers, time and again.

    Parameters
    ----------
    place
        The folder of one round: the store, and the notes beside it.
    """

    def __init__(self, place: Path, seed: str) -> None:
        self._path = place / STORE
        self._stories = [Story(seed, writer) for writer in range(WRITERS)]
        self._notes = [Notes(place, writer) for writer in range(WRITERS)]

    def watch(self, kept: sqlstore.Store | None = None) -> int:
        """Compare what can be seen while writers are at work, and return how many records it is.

        Parameters
        ----------
        kept
            Refreshed and looked at; a store that is opened for that by default.

        Raises
        ------
        Violation
            Something is there that should not be, or the other way round.
        """
        done = self._counts(DONE)
        seen = self._seen(kept)
        for story, least, most in zip(self._stories, done, self._counts(BEGUN), strict=True):
            story.check_between(seen.get(story.writer, {}), least, most)
        return _count(seen)

    def check(self) -> int:
        """Compare what there is when nobody is at work, and return how many records it is."""
        seen = self._seen(None)
        counts = zip(self._stories, self._counts(DONE), self._counts(BEGUN), strict=True)
        for story, least, most in counts:
            story.go_to_state(seen.get(story.writer, {}), least, most)
        return _count(seen)

    def _counts(self, word: str) -> list[int]:
        return [notes.count(word) for notes in self._notes]

    def _seen(self, kept: sqlstore.Store | None) -> dict[int, State]:
        if kept is not None:
            kept.refresh()
            return states_in(kept)
        with sqlstore.open(self._path) as store:
            return states_in(store)

    def acknowledged(self) -> int:
        """Return how many commits have returned."""
        return sum(self._counts(DONE))


def _count(seen: dict[int, State]) -> int:
    """Return how many records there are, all of them of writers that there are."""
    if strangers := set(seen) - set(range(WRITERS)):
        raise Violation(f"there are records of writers that there are not: {strangers}")
    return sum(len(batch.payloads) for state in seen.values() for batch in state.values())


def commit(
    place: Path, seed: str, writer: int, most: int | None = None, ready: Callable[[], object] = int
) -> None:
    """Go on where the writer before was killed, and make each commit exactly once.

    Parameters
    ----------
    most
        How many; without end by default.
    ready
        Called when what others left is settled.
    """
    notes, story = Notes(place, writer), Story(seed, writer)
    note = notes.appender()
    with sqlstore.open(place / STORE, "a") as store, store.writer() as opened:
        store.refresh()  # opening the writer has settled what was pending
        mine = store.where("writer = :writer", writer=writer)
        story.go_to_state(states_in(mine).get(writer, {}), notes.count(DONE), notes.count(BEGUN))
        ready()
        for number in itertools.islice(itertools.count(story.done), most):
            note(BEGUN, number)
            story.next()(store, opened)
            note(DONE, number)


def write(connection: Connection, place: Path, seed: str, number: int) -> None:
    """Commit for ever."""
    commit(place, seed, number, ready=lambda: connection.send(READY))


def read(connection: Connection, place: Path, seed: str, number: int) -> None:
    """Compare the store with the notes for ever: opened anew each time, or kept open."""
    watcher = Watcher(place, seed)
    with sqlstore.open(place / STORE) as kept:
        connection.send(READY)
        for turn in itertools.count():
            with suppress(sqlstore.RecordNotFoundError):  # deleted between two steps of looking
                connection.send(watcher.watch(kept if number % 2 else None))
            if turn % _TURNS == _TURNS - 1 and not (report := kept.verify()):
                raise Violation(str(report))


def compact(connection: Connection, place: Path, _seed: str, _number: int) -> None:
    """Compact for ever, however little there is to gain."""
    with sqlstore.open(place / STORE, "a") as store:
        connection.send(READY)
        while True:
            with suppress(sqlstore.StoreBusyError):  # others change the same records all the time
                compact_anyway(store, min_garbage=0.3)
                connection.send(0)


PROGRAMS: Final[dict[str, Callable[[Connection, Path, str, int], None]]] = {
    "writer": write,
    "reader": read,
    "compactor": compact,
}
