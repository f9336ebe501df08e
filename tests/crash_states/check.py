"""Whether a store is whole after a power failure."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import sqlstore
from tests import independent_reader
from tests.crash_states.disk import Image, write_image
from tests.crash_states.programs import STORE
from tests.crash_states.workloads import Workload, new_store

State: TypeAlias = dict[str, Any] | None
"""All that a store holds, as far as it is the same in every run; None: there is no store."""

_NEXT: Final = {"payload": b"after the crash", "name": "next"}


class ViolationError(Exception):
    """A promise that is not kept."""


@dataclass(frozen=True)
class Window:
    """The states that a crash may leave: from the one that was acknowledged last, to the next."""

    lower: int
    upper: int


def state_of(path: Path, *, snapshot: str | None = None) -> State:
    """Return what a store holds."""
    if not path.exists():
        return None
    with sqlstore.open(path, snapshot=snapshot) as store:
        values = [
            [store.raw(position, name) for position in range(len(store))]
            for name in store.schema.fields
        ]
        return {
            "schema": repr(store.schema.columns),
            "metadata": store.to_arrow().to_pylist(),
            "records": store.sql("SELECT * FROM records ORDER BY id").to_pylist(),
            "values": dict(zip(store.schema.fields, values, strict=True)),
            "subsets": {one.name: store.subset(one.name).ids.tolist() for one in store.subsets()},
            "snapshots": {
                one.name: state_of(path, snapshot=one.name)
                for one in store.snapshots()
                if snapshot is None
            },
        }


def check(
    image: Image,
    window: Window,
    states: Sequence[State],
    workload: Workload,
    scratch: Path,
    *,
    deep: bool,
) -> str:
    """Open what a power failure left, use it, and return what is wrong with it, else nothing.

    Parameters
    ----------
    states
        What the store may hold, in order.
    scratch
        A folder that is made for it, and removed.
    deep
        Whether to verify it also before it is used, and to rebuild its index and compare.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        write_image(image, scratch)
        with workload.library():
            _check(scratch / STORE, window, states, workload, deep=deep)
    except Exception:  # noqa: BLE001 (whatever the library raises here, it should not have)
        return traceback.format_exc()
    finally:
        shutil.rmtree(scratch)
    return ""


def _check(
    path: Path, window: Window, states: Sequence[State], workload: Workload, *, deep: bool
) -> None:
    try:
        found = state_of(path)
    except sqlstore.CorruptIndexError as error:
        is_inside = workload.rebuilds and window.lower == 0
        if not is_inside or "sqlstore rebuild" not in str(error):
            raise
        sqlstore.rebuild(path)
        found = state_of(path)
    first = _number_of(found, window, states)
    if found is None:
        new_store(path)
        _require_clean(path)
        return
    if deep:
        _require_clean(path, settled=False)
    record = _append(path, window)
    after = state_of(path)
    assert after is not None
    _take_away(record, after)
    last = _number_of(after, Window(first, window.upper), states)
    if record <= max((row["id"] for one in states[: last + 1] for row in _rows(one)), default=-1):
        raise ViolationError(f"record id {record} is given out twice")
    _require_clean(path)
    if deep:
        _require_rebuilds_equal(path)


def _append(path: Path, window: Window) -> int:
    """Append a record and return its id; upgrade the store first, if nobody was told it was."""
    with sqlstore.open(path, "a") as store:
        try:
            (record,) = store.extend([_NEXT]).tolist()
        except sqlstore.MigrationRequiredError:
            if window.lower:
                raise
            sqlstore.migrate(path)
            return _append(path, Window(1, window.upper))
        return int(record)


def _rows(state: State) -> list[dict[str, Any]]:
    return [] if state is None else state["metadata"]


def _number_of(found: State, window: Window, states: Sequence[State]) -> int:
    """Return the number of a state, which must be one of those that are possible."""
    for number in range(window.upper, window.lower - 1, -1):
        if found == states[number]:
            return number
    known = [number for number, state in enumerate(states) if state == found]
    where = f"state {known[0]}" if known else f"no state of the workload: {found}"
    raise ViolationError(f"found {where}, not one of {window.lower} to {window.upper}")


def _take_away(record: int, state: dict[str, Any]) -> None:
    """Take the record out of a state that was appended after the crash."""
    row = state["metadata"].pop()
    if (row["id"], row["name"]) != (record, _NEXT["name"]) or state["records"].pop() != row:
        raise ViolationError(f"what was appended after the crash is {row}")
    value = state["values"]["payload"].pop()
    if value != _NEXT["payload"]:
        raise ViolationError(f"what was appended after the crash has the payload {value}")
    for values in state["values"].values():
        del values[len(state["metadata"]) :]


def _require_clean(path: Path, *, settled: bool = True) -> None:
    report = sqlstore.verify(path)
    pending = [note for note in report.notes if "not in the index yet" in note]
    if not report or (settled and pending):
        raise ViolationError(f"verify says: {report}")


def _require_rebuilds_equal(path: Path) -> None:
    before = state_of(path)
    log = independent_reader.read(path)["records"]
    if sorted(log) != [row["id"] for row in _rows(before)]:
        raise ViolationError(f"the log holds the records {sorted(log)}")
    sqlstore.rebuild(path)
    if state_of(path) != before:
        raise ViolationError(f"a rebuild gives another store: {state_of(path)}, it was {before}")
    _require_clean(path)
