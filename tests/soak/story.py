"""What a writer does, one commit after the other, and what must be there after each of them.

Everything follows from a seed, the number of the writer and the number of the commit, so that every
process knows of every writer what it may find.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import sqlstore


class Batch(NamedTuple):
    """Records that are appended, changed and deleted together.

    Attributes
    ----------
    updated
        The last commit that has updated them.
    payloads
        Of every record, in the order of their positions.
    """

    updated: int
    payloads: tuple[bytes, ...]


State: TypeAlias = dict[int, Batch]
"""The batches of a writer that there are, by the commit that has appended them."""

Change: TypeAlias = Callable[[sqlstore.Store, sqlstore.Writer], object]
"""Makes a commit."""

COLUMNS: Final[Mapping[str, str | sqlstore.Column]] = {
    "name": "string",
    "writer": "int32",
    "appended": sqlstore.Column("int64", index=True, nullable=False),
    "position": "int32",
    "updated": "int64",
}
_MINE: Final = "writer = :writer AND appended = :appended"
_LARGE: Final = 12_000  # bytes: a few of these fill a chunk
_NEVER: Final = -1


class Violation(Exception):  # noqa: N818 - it is no error of a program, but what is looked for
    """A store is not what it must be."""


class Story:
    """One writer: what has been done so far, and what is done next.

    Attributes
    ----------
    done
        How many commits there have been.
    state
        What must be there after them.
    """

    def __init__(self, seed: str, writer: int) -> None:
        self.writer = writer
        self.done = 0
        self.state: State = {}
        self._seed = seed

    def next(self) -> Change:
        """Go on by one commit, and return what makes it in a store."""
        number = self.done
        self.done += 1
        chance = random.Random(f"{self._seed}/{self.writer}/{number}")
        kinds = [self._append, self._update, self._replace, self._delete]
        make = chance.choices(kinds, [6, 1, 1, 1])[0] if self.state else self._append
        return make(number, chance)

    def _append(self, number: int, chance: random.Random) -> Change:
        size = _LARGE if chance.random() < 0.1 else chance.randrange(200)
        payloads = self._payloads(number, chance.randint(1, 5), size)
        self.state[number] = Batch(_NEVER, payloads)
        records = [
            {
                "name": f"{self.writer}/{number}/{position}",
                "writer": self.writer,
                "appended": number,
                "position": position,
                "updated": _NEVER,
                "payload": payload,
            }
            for position, payload in enumerate(payloads)
        ]

        def append(_: sqlstore.Store, writer: sqlstore.Writer) -> None:
            writer.extend(records)
            writer.commit()

        return append

    def _update(self, number: int, chance: random.Random) -> Change:
        appended = self._any(chance)
        self.state[appended] = self.state[appended]._replace(updated=number)
        return lambda store, _: self._found(store, appended).update(updated=number)

    def _replace(self, number: int, chance: random.Random) -> Change:
        appended = self._any(chance)
        before = self.state[appended]
        payloads = self._payloads(number, len(before.payloads), chance.randrange(2000))
        self.state[appended] = before._replace(payloads=payloads)
        return lambda store, _: self._found(store, appended).replace("payload", list(payloads))

    def _delete(self, _: int, chance: random.Random) -> Change:
        appended = self._any(chance)
        del self.state[appended]
        return lambda store, _: self._found(store, appended).delete()

    def _any(self, chance: random.Random) -> int:
        return chance.choice(list(self.state))

    def _found(self, store: sqlstore.Store, appended: int) -> sqlstore.View:
        return store.where(_MINE, writer=self.writer, appended=appended).order_by("position")

    def _payloads(self, number: int, count: int, size: int) -> tuple[bytes, ...]:
        names = (f"{self._seed}/{self.writer}/{number}/{position}" for position in range(count))
        return tuple(hashlib.shake_128(name.encode()).digest(size) for name in names)

    def go_to(self, number: int) -> None:
        """Go on until there have been so many commits, without making them."""
        while self.done < number:
            self.next()

    def go_to_state(self, seen: State, least: int, most: int) -> None:
        """Go on until there is just what a store holds, without making commits.

        Parameters
        ----------
        seen
            All that a store holds of this writer, which is not at work.
        least, most
            How many commits there must be, and how many there may be.

        Raises
        ------
        Violation
            After none of those numbers there is just that.
        """
        self.go_to(least)
        difference = difference_of(self.state, seen)
        while seen != self.state:
            if self.done >= most:
                raise Violation(
                    f"writer {self.writer} has made {least} to {most} commits, and the store is "
                    f"as after none of them; as to {least}: {difference}"
                )
            self.next()

    def check_between(self, seen: State, least: int, most: int) -> None:
        """Check what a reader has seen while this writer was at work.

        A reader sees what was appended up to one commit, and of what was there by then edits that
        came later as well: each of them whole, and values and payload each for itself.

        Raises
        ------
        Violation
            That cannot have been seen.
        """
        self.go_to(least)
        later = copy.copy(self)
        later.state = dict(self.state)
        possible = {appended: [batch] for appended, batch in self.state.items()}
        while later.done < most:
            later.next()
            for appended, batch in later.state.items():
                if possible.setdefault(appended, [batch])[-1] != batch:
                    possible[appended].append(batch)
        last = max(seen, default=_NEVER)
        lost = [
            appended
            for appended in possible
            if appended not in seen
            and appended in later.state
            and (appended <= last or appended in self.state)
        ]
        wrong = [
            appended
            for appended, batch in seen.items()
            if batch.updated not in {one.updated for one in possible.get(appended, ())}
            or batch.payloads not in {one.payloads for one in possible[appended]}
        ]
        if lost or wrong:
            raise Violation(
                f"writer {self.writer} has made {least} to {most} commits: batches {lost} are "
                f"missing, and batches {wrong} are as they never were"
            )


def difference_of(expected: State, seen: State) -> str:
    """Say what of the one is not in the other."""
    missing = sorted(set(expected) - set(seen))
    more = sorted(set(seen) - set(expected))
    other = [one for one in sorted(set(seen) & set(expected)) if seen[one] != expected[one]]
    return f"missing {missing[:5]}, too many {more[:5]}, with other values {other[:5]}"


def new_store(root: Path) -> None:
    """Make the store that all of them work on, with chunks that are soon full."""
    sqlstore.create(
        root,
        fields={"payload": "bytes"},
        metadata=COLUMNS,
        key="name",
        chunk_size=64 * sqlstore.KiB,
    ).close()


def states_in(store: sqlstore.View) -> dict[int, State]:
    """Return what a store holds of every writer, read through every checksum.

    Raises
    ------
    Violation
        A record is not what anybody has written, or a batch is there in part.
    """
    table = store.to_arrow()
    payloads = store.blobs("payload").to_pylist()
    found: dict[int, dict[int, list[tuple[int, int, bytes]]]] = {}
    columns = (table[name].to_pylist() for name in COLUMNS)
    for *row, payload in zip(*columns, payloads, strict=True):
        name, writer, appended, position, updated = row
        if name != f"{writer}/{appended}/{position}" or payload is None:
            raise Violation(f"nobody has written {row} with {payload}")
        found.setdefault(writer, {}).setdefault(appended, []).append((position, updated, payload))
    return {
        writer: {appended: _whole(writer, appended, rows) for appended, rows in batches.items()}
        for writer, batches in found.items()
    }


def _whole(writer: int, appended: int, rows: list[tuple[int, int, bytes]]) -> Batch:
    positions, updated, payloads = zip(*rows, strict=True)
    if positions != tuple(range(len(rows))) or len(set(updated)) > 1:
        raise Violation(
            f"batch {appended} of writer {writer} is there, or updated, in part: "
            f"positions {positions}, updated {updated}"
        )
    return Batch(updated[0], payloads)
