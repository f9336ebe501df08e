"""The programs that are recorded. Every `yield` acknowledges what was done before it.

Each is a function of the path of a store. Between two yields lies one commit at most, so that what
a crash leaves is the state at one yield or at the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa

import sqlstore
from tests import newer
from tests.compacted import compact
from tests.tracing import Call, Decide, Kill

Session: TypeAlias = Callable[[Path], Iterator[None]]
"""What one process does."""

_SIZES: Final = (700, 0, 3, 1500)


@dataclass(frozen=True)
class Workload:
    """What happens to a store, by one process after the other.

    Attributes
    ----------
    sessions
        What the processes do.
    prepare
        Makes the store that the first of them finds, which is durable.
    killed_at
        Makes what decides where the first process dies, if it does. What it has not acknowledged
        counts as done, as the next process finds it.
    rebuilds
        Whether the first step is a rebuild: only a crash inside it may leave a store that says that
        it is to be rebuilt.
    library
        What makes the library that the processes use, and those that come after the crash: the one
        that is there, or a later one, which finds an index to be upgraded.
    """

    sessions: Sequence[Session]
    prepare: Callable[[Path], None]
    killed_at: Callable[[], Decide] | None = None
    rebuilds: bool = False
    library: Callable[[], AbstractContextManager[None]] = nullcontext


def record(name: str, number: int, size: int) -> dict[str, Any]:
    payload = (name.encode() * (size // len(name) + 1))[:size]
    return {"payload": payload, "name": name, "number": number, "text": f"text of {name}"}


def records(first: int, count: int) -> list[dict[str, Any]]:
    """Return records of several sizes; every value follows from the number."""
    numbers = range(first, first + count)
    return [record(f"r{number}", number, _SIZES[number % 4]) for number in numbers]


def new_store(path: Path, chunk_size: int = sqlstore.MiB) -> None:
    sqlstore.create(
        path,
        fields={"payload": sqlstore.Field("bytes", None)},
        metadata={
            "name": "string",
            "number": sqlstore.Column("int32", index=True),
            "text": "string",
        },
        key="name",
        chunk_size=chunk_size,
    ).close()


def filled(path: Path) -> None:
    new_store(path)
    with sqlstore.open(path, "a") as store:
        store.extend(records(0, 6))


def filled_twice(path: Path) -> None:
    filled(path)
    with sqlstore.open(path, "a") as store:
        store.extend(records(6, 2))
        store.where("number < 4").save("few")
        store.snapshot("old")


def small_chunks(path: Path) -> None:
    new_store(path, chunk_size=4096)
    with sqlstore.open(path, "a") as store:
        store.extend(records(0, 2))


def with_garbage(path: Path) -> None:
    """Make a store of which much is garbage, some of it needed by a snapshot."""
    new_store(path, chunk_size=4096)
    with sqlstore.open(path, "a") as store:
        for first in range(0, 8, 2):
            store.extend(records(first, 2))
        store.where("number < 6").save("few")
        store.where("number = 1").delete()
        store.snapshot("old")
        for first in range(20, 26, 2):
            store.extend(records(first, 2))
        store.where("number % 2 = 1").delete()
        store.where("number > 20").update(text="new")


def nothing(_: Path) -> None:
    """Leave the place of the store empty."""


def create(path: Path) -> Iterator[None]:
    new_store(path)
    yield


def create_with_records(path: Path) -> Iterator[None]:
    sqlstore.create(path, records(0, 3)).close()
    yield


def append(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        for number in range(2):
            writer.extend(records(100 + 3 * number, 3))
            writer.commit()
            yield


def append_to_several_chunks(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        for number in range(3):
            writer.extend(records(100 + 4 * number, 4))
            writer.commit()
            yield


def take_turns(path: Path) -> Iterator[None]:
    with (
        sqlstore.open(path, "a") as one,
        sqlstore.open(path, "a") as two,
        one.writer() as first,
        two.writer() as second,
    ):
        for number in range(2):
            for writer, start in ((first, 100), (second, 200)):
                writer.extend(records(start + 2 * number, 2))
                writer.commit()
                yield


def update(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store:
        store.where("number < 3").update(text="new")
        yield
        store.upsert(pa.table({"name": ["r1", "r4"], "number": [77, 78]}), on="name")
        yield


def replace(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store:
        store.where("number < 3").replace("payload", [b"another payload", None, b"x" * 600])
        yield


def delete(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store:
        store.where("number IN (1, 5)").delete()
        yield
        store.extend(records(300, 2))
        yield


def change_columns(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store:
        store.add_column("score", "float64")
        yield
        store.update(score=pa.array([i / 4 for i in range(len(store))]))
        yield
        store.rename_column("score", "rank")
        yield
        store.create_index("rank")
        yield
        store.drop_column("rank")
        yield


def name_things(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store:
        store.where("number > 2").save("many")
        yield
        store.snapshot("new")
        yield
        store.drop_subset("few")
        yield
        store.drop_snapshot("old")
        yield


def compact_then_append(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store:
        compact(store)
        yield
        store.extend(records(100, 2))
    yield


def compact_again(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store:
        compact(store)
    yield


def rebuild(path: Path) -> Iterator[None]:
    sqlstore.rebuild(path)
    yield


def rebuild_then_append(path: Path) -> Iterator[None]:
    sqlstore.rebuild(path)
    yield
    yield from one_more(path)


def migrate_then_append(path: Path) -> Iterator[None]:
    sqlstore.migrate(path)
    yield
    yield from one_more(path)


def commit_one(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store:
        store.extend(records(100, 2))
    yield


def one_more(path: Path) -> Iterator[None]:
    with sqlstore.open(path, "a") as store:
        store.extend(records(200, 2))
    yield


def kill_after(name: str, suffix: str, count: int) -> Decide:
    """Return a decision to kill after the nth call of this name to a file with this suffix."""
    seen = 0

    def decide(call: Call) -> Kill | None:
        nonlocal seen
        if not (call.name.startswith(name) and call.path.endswith(suffix)):
            return None
        seen += 1
        return Kill(after=True) if seen == count else None

    return decide


_TRAILER_WRITTEN: Final = partial(kill_after, "pwritev", ".chunk", 3)
_INDEX_HALF_WRITTEN: Final = partial(kill_after, "pwrite64", "index.sqlite", 3)
_CHUNK_GONE: Final = partial(kill_after, "unlink", ".chunk", 1)

WORKLOADS: Final = {
    "create": Workload([create], nothing),
    "create-with-records": Workload([create_with_records], nothing),
    "append": Workload([append], filled),
    "roll-over": Workload([append_to_several_chunks], small_chunks),
    "two-writers": Workload([take_turns], filled),
    "update": Workload([update], filled),
    "replace": Workload([replace], filled),
    "delete": Workload([delete], filled),
    "columns": Workload([change_columns], filled),
    "names": Workload([name_things], filled_twice),
    "rebuild": Workload([rebuild_then_append], filled_twice, rebuilds=True),
    "migrate": Workload([migrate_then_append], filled_twice, library=newer.library),
    # The trailer is in the chunk and not synced; the next process finds it.
    "roll-forward": Workload([commit_one, one_more], filled, _TRAILER_WRITTEN),
    # The next process rolls the journal of the index back, and the log forward.
    "roll-back": Workload([commit_one, one_more], filled, _INDEX_HALF_WRITTEN),
    "compact": Workload([compact_then_append], with_garbage),
    # Some chunks that nobody needs any more are gone, and the next process removes the rest.
    "compact-twice": Workload([compact_again, compact_then_append], with_garbage, _CHUNK_GONE),
}
