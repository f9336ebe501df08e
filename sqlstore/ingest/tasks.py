"""Items on their way to those who read them: named, those that are there left out, in tasks."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlstore.errors import ItemError, SqlstoreError
from sqlstore.ingest.report import BuildReport, FailedItem
from sqlstore.processes import FIRST
from sqlstore.store import Store

_LOOKED_UP: Final = 1024
_LONGEST_NAME: Final = 200


class Entry(NamedTuple):
    """An item, its key, which is None if only its record tells it, and its number in its task."""

    key: Any
    item: Any
    number: int = 0

    @property
    def name(self) -> str:
        """Return what people call the item."""
        return shortened(self.item) if self.key is None else str(self.key)


def shortened(item: object) -> str:
    """Return what an item looks like, or the beginning of that."""
    text = repr(item)
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 3] + "..."


class Tasks:
    """Takes items one by one from where they come from, no more of them than are asked for.

    Parameters
    ----------
    store
        As it was before.
    items
        What is to be stored.
    key_of
        Gives the key of an item; None if only its record tells it.
    report
        Where skipped and failed items are counted.
    on_skipped
        Called with items that are in the store.
    on_progress
        Called when the report has changed; what it raises ends the build.
    """

    def __init__(
        self,
        store: Store,
        items: Iterable[Any],
        key_of: Callable[[Any], Any] | None,
        report: BuildReport,
        on_skipped: Callable[[list[Entry]], object],
        on_progress: Callable[[], object],
    ) -> None:
        self._store = store
        self._before = len(store)
        self._items = iter(items)
        self._key_of = key_of
        self._report = report
        self._on_skipped = on_skipped
        self._on_progress = on_progress
        self._waiting: deque[Entry] = deque()
        self._at_once = FIRST
        self._ended = False

    def take(self, count: int) -> list[Entry]:
        """Return up to so many items; none if there are no more."""
        while len(self._waiting) < count and not self._ended:
            self._waiting += self._more(max(self._at_once, count))
            self._on_progress()
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def _more(self, count: int) -> list[Entry]:
        items = list(itertools.islice(self._items, count))
        self._ended = len(items) < count
        entries = self._named(items)
        if self._key_of is None or not self._before:
            return entries
        there = found_keys(self._store, [entry.key for entry in entries])
        old = {key for key, row in there.items() if row["id"] < self._before}
        skipped = [entry for entry in entries if entry.key in old]
        self._report.skipped += len(skipped)
        self._report.repeated += len(there) - len(old)
        if skipped:
            self._on_skipped(skipped)
        if len(skipped) == len(items):  # an interrupted run goes on: what is there is passed fast
            self._at_once = min(2 * self._at_once, _LOOKED_UP)
        return [entry for entry in entries if entry.key not in there]

    def _named(self, items: list[Any]) -> list[Entry]:
        if self._key_of is None:
            return [Entry(None, item) for item in items]
        entries: dict[Any, Entry] = {}
        for item in items:
            try:
                key = checked_key(self._store, self._key_of(item))
            except Exception as error:  # noqa: BLE001 - the function is the user's
                self._report.failed.append(failure(Entry(None, item), error))
            else:
                self._report.repeated += key in entries
                entries.setdefault(key, Entry(key, item))
        return list(entries.values())


def checked_key(store: Store, key: Any) -> Any:
    """Return a key that can be looked for in the store.

    Raises
    ------
    TypeError, ValueError, OverflowError
        It cannot, as the column of keys could not hold it.
    """
    if key is None:
        raise ValueError("the key of an item is not None")
    hash(key)
    store.schema.columns[str(store.schema.key)].kind.convert(key)
    return key


def found_keys(store: Store, keys: Sequence[Any], *columns: str) -> Mapping[Any, dict[str, Any]]:
    """Return those of some keys that the store has, each with its id and other columns."""
    key = store.schema.key
    found: dict[Any, dict[str, Any]] = {}
    names = ", ".join(f'"{name}"' for name in (key, "id", *columns))
    for start in range(0, len(keys), _LOOKED_UP):
        asked = {f"k{i}": one for i, one in enumerate(keys[start : start + _LOOKED_UP])}
        bound = ", ".join(f":{name}" for name in asked)
        rows = store.sql(f'SELECT {names} FROM records WHERE "{key}" IN ({bound})', asked)
        found.update((row[key], row) for row in rows.to_pylist())
    return found


def failure(entry: Entry, error: Exception) -> FailedItem:
    """Return what went wrong with an item, as it is reported."""
    text = str(error)
    if isinstance(error, SqlstoreError):  # its row is one of a writer's, of which nobody knows
        where = {name: value for name, value in error.where.items() if name != "row"}
        text = str(SqlstoreError(error.message, **where))
    return FailedItem(entry.name, f"{type(error).__name__}: {text}")


def item_error(failed: FailedItem, trace: str = "") -> ItemError:
    """Return the error that stops a build."""
    error = ItemError(failed.message, item=failed.item)
    if trace:
        error.add_note(trace)
    return error
