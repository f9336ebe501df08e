"""Stores damaged at random, in several ways at once, and repaired: what is there is right or said.

``SQLSTORE_PROGRAMS=400 pytest tests/test_repair_programs.py`` tries so many; ``SQLSTORE_SEED``
repeats them, from that seed on.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import pytest

import sqlstore
from sqlstore import CorruptStoreError, Repaired, repair, verify
from sqlstore.log import files
from sqlstore.log.segment import CommitKind
from tests import compacted, independent_reader
from tests.modelled import DAMAGES, STORES, Contents, Modelled, bit_of_index
from tests.processes import COMMIT_STEPS, Child, Steps, kill_self

PROGRAMS: Final = int(os.environ.get("SQLSTORE_PROGRAMS", "6"))
SEED: Final = int(os.environ.get("SQLSTORE_SEED", str(random.SystemRandom().getrandbits(32))))

REPAIR_STEPS: Final = (*COMMIT_STEPS, (files, "put"), (Path, "replace"), (Path, "unlink"))
MOST_STEPS: Final = 320
"""At one of so many a repair is killed, if it comes so far."""

EVERYTHING: Final = {"accept_lost_edits": True, "drop_snapshots": True}
QUESTIONS: Final = re.compile("drop_snapshots=True|accept_lost_edits=True")
NO_SCHEMA: Final = "the commit that says what fields and columns there are is damaged"
SAY_THE_SCHEMA: Final = CommitKind.CREATE, CommitKind.CHECKPOINT
OTHER_INDEX: Final = re.compile("index and chunks have different commits|of another store")


@dataclass
class Said:
    """What repairs have said to be lost, also those that were killed."""

    records: set[int] = field(default_factory=set)
    values: set[tuple[int, str]] = field(default_factory=set)
    value_chunks: set[str] = field(default_factory=set)
    edits: set[int] = field(default_factory=set)
    subsets: set[str] = field(default_factory=set)
    snapshots: set[str] = field(default_factory=set)
    from_index: int = 0

    def add(self, report: dict[str, Any]) -> None:
        self.records.update(report["lost_records"])
        self.edits.update(report["lost_edits"])
        self.subsets.update(report["lost_subsets"])
        self.snapshots.update(report["lost_snapshots"])
        self.from_index += report["from_index"]
        for fault in report["lost_values"]:
            self.values.add((fault["record"], fault["field"]))
            self.value_chunks.update({fault["chunk"]} - {None})

    def anything(self) -> bool:
        lost = self.records, self.values, self.edits, self.subsets, self.snapshots
        return any(lost)


def killed_repair(_: Connection, root: Path, kill_at: int) -> str:
    steps = Steps(kill_self, kill_at)
    with steps.around(*REPAIR_STEPS), suppress(CorruptStoreError):
        repair(root, **EVERYTHING)
    return f"not killed, {len(steps.names)} steps"


class Program:
    """A copy of a store, what happens to it, and what is wrong after its repair."""

    def __init__(self, seed: int, stores: dict[str, Modelled], root: Path) -> None:
        self.rng = random.Random(seed)
        name = self.rng.choice(list(stores))
        self.template = stores[name]
        self.store = self.template.copied(root)
        self.root = root
        damages = self.rng.choices(DAMAGES, k=self.rng.choice([1, 2, 2, 3, 4, 5]))
        for damage in damages:
            damage(self.store, self.rng)
        self.seed = seed
        self.log = [name, *(damage.__name__ for damage in damages)]
        self.outcome = ""
        self.problems: list[str] = []
        before, now = self.template.chunks(), self.store.chunks()
        self.damaged = {name for name in before if now.get(name) != before[name]}
        intact = contents_of(self.template.root)
        left = contents_of(root)
        self.changed = {path for path in intact if left.get(path) != intact[path]}
        self.is_index_known = Path("index.sqlite") not in self.changed
        self.bent_bits = 0 if self.is_index_known else damages.count(bit_of_index)
        self.is_cache_known = not any("cache" in path.parts for path in self.changed)
        self.is_end_known = Path("writer.lock") not in self.changed

    def check(self, is_so: object, what: str) -> None:
        if not is_so:
            self.problems.append(what)

    def happened(self) -> str:
        return f"SQLSTORE_SEED={self.seed} SQLSTORE_PROGRAMS=1: {', '.join(self.log)}"

    # What happens

    def run(self) -> None:
        """Repair the store, after something that changes nothing, or that is killed."""
        was_clean = bool(verify(self.root))
        before = self.rng.choice([self.plan, self.ask, self.kill, self.nothing])
        self.log.append(before.__name__)
        planned = before()
        left = contents_of(self.root)
        try:
            done = repair(self.root, **EVERYTHING)
        except CorruptStoreError as error:
            self.check(contents_of(self.root) == left, "the refusal has changed something")
            self.check_refusal(error)
            self.outcome = "refused"
            return
        self.check(not (was_clean and done.done), "repaired what was clean")
        self.check(not done.still_wrong, f"still wrong: {done}")
        self.check(planned is not None or before != self.plan, "refused when it was planned only")
        if planned is not None:
            self.check(lost_in(planned) == lost_in(done), f"planned {planned}, done {done}")
        said = self.what_was_said(done)
        self.outcome = "something is lost" if said.anything() else "nothing is lost"
        self.check_repaired(said)

    def nothing(self) -> None:
        """Repair only once."""

    def plan(self) -> Repaired | None:
        """Say first what would be done."""
        left = contents_of(self.root)
        planned = None
        with suppress(CorruptStoreError):
            planned = repair(self.root, dry_run=True, **EVERYTHING)
        self.check(contents_of(self.root) == left, "a dry run has changed something")
        return planned

    def ask(self) -> None:
        """Repair if there is nothing to decide."""
        left = contents_of(self.root)
        try:
            done = repair(self.root)
        except CorruptStoreError as error:
            self.check(contents_of(self.root) == left, "the question has changed something")
            if not QUESTIONS.search(error.message):
                self.check_refusal(error)
            return
        self.check(not done.lost_snapshots, f"has not asked for {done.lost_snapshots}")

    def kill(self) -> None:
        """Kill a repair at some moment."""
        at = self.rng.randrange(MOST_STEPS)
        with Child(killed_repair, self.root, at) as child, suppress(EOFError, ConnectionResetError):
            self.log.append(str(child.result()))
            return
        self.log.append(f"killed at {at}")

    def what_was_said(self, done: Repaired) -> Said:
        said = Said()
        said.add(done.as_dict())
        for path in self.root.glob("quarantine/*/report.json"):
            said.add(json.loads(path.read_bytes()))
        return said

    # What is checked

    def check_refusal(self, error: CorruptStoreError) -> None:
        self.log.append(f"refused: {error.message[:60]}")
        self.check(not self.is_index_known, f"refused although the index is right: {error}")
        if NO_SCHEMA in error.message:
            links = self.store.links.values()
            chunks = {link.chunk for link in links if link.trailer.kind in SAY_THE_SCHEMA}
            self.check(chunks <= self.damaged, f"has a schema: {error}")
        else:
            known = OTHER_INDEX.search(error.message)
            self.check(known and self.bent_bits, f"refused for no documented reason: {error}")

    def check_repaired(self, said: Said) -> None:
        self.check(verify(self.root), f"verify: {verify(self.root)}")
        self.check_said(said)
        with sqlstore.open(self.root, mode="a") as store:
            there = compacted.contents(store)
            self.check_contents(there, said)
            self.check_subsets(store, said)
            self.check_snapshots(store, said)
            (new,) = store.extend([compacted.record(5000)]).tolist()
            known = self.store.appends.keys() - self.loose(said)
            last = max((self.store.appends[number][-1] for number in known), default=-1)
            self.check(new > last, f"id {new} is used again")
            after = compacted.contents(store)
        found = independent_reader.read(self.root)
        self.check(sorted(found["records"]) == sorted(after), "the other reader finds others")
        sqlstore.rebuild(self.root)
        self.check(verify(self.root), f"verify after a rebuild: {verify(self.root)}")
        with sqlstore.open(self.root) as store:
            self.check(compacted.contents(store) == after, "a rebuild has changed what is there")
        self.check(not repair(self.root).done, "repaired twice")

    def check_said(self, said: Said) -> None:
        """Check that no more is said to be lost than can be."""
        if not self.damaged:
            if not (self.is_end_known and self.is_index_known):  # they may tell of later commits
                said.edits -= {number for number in said.edits if number > max(self.store.links)}
            self.check(not said.anything(), f"lost of whole chunks: {said}")
        self.check(said.value_chunks <= self.damaged, f"lost of right chunks: {said.value_chunks}")
        if self.is_index_known or self.is_cache_known:
            self.check(not said.records, f"lost records that are known: {said.records}")
        if self.is_index_known:
            edits = said.edits & (self.store.edits | self.store.appends.keys())
            self.check(not edits, f"lost edits that are known: {edits}")
            self.check(not said.subsets, f"lost subsets that are known: {said.subsets}")

    def unseen(self) -> set[int]:
        """Return the last commits if they may be lost and nothing tells that they were there."""
        if self.is_index_known or self.is_cache_known or self.is_end_known:
            return set()
        links, last = self.store.links, max(self.store.links)
        down = itertools.takewhile(lambda number: number in links, itertools.count(last, -1))
        return set(itertools.takewhile(lambda number: links[number].chunk in self.damaged, down))

    def loose(self, said: Said) -> set[int]:
        """Return the commits of records that may have had no effect."""
        is_known = self.is_index_known or self.is_cache_known
        return set() if is_known else said.edits | self.unseen()

    def check_contents(self, there: Contents, said: Said) -> None:
        """Check that all is as if some of the lost edits had not happened, and the others had."""
        loose = self.loose(said)
        edits = sorted(loose & self.store.edits)
        appended = {i for n in loose & self.store.appends.keys() for i in self.store.appends[n]}
        found = [
            list(self.differences(there, said, set(without), appended))
            for count in range(len(edits), -1, -1)
            for without in itertools.combinations(edits, count)
        ]
        nearest = min(found, key=len)
        self.problems += nearest
        both = said.records & there.keys()
        self.check(not both, f"records {sorted(both)} are said to be lost, and there")

    def differences(
        self, there: Contents, said: Said, without: set[int], may_lack: set[int]
    ) -> Iterator[str]:
        """Yield in what the store is not as if some edits had not happened."""
        expected = self.store.state(without).contents()
        may_lack = may_lack | said.records
        if gone := expected.keys() - there.keys() - may_lack:
            yield f"gone: {sorted(gone)}"
        if more := there.keys() - expected.keys():
            yield f"more: {sorted(more)}"
        without_nan, may_differ = 0, self.bent_bits if self.takes_from_index(said) else 0
        for number in sorted(expected.keys() & there.keys()):
            row, *values = expected[number]
            found, *found_values = there[number]
            if found != row and found == row.replace("nan", "None"):
                without_nan += 1
            elif found != row and may_differ:
                may_differ -= 1
            elif found != row:
                yield f"record {number} is {found}, not {row}"
            for name, value, other in zip(("image", "frames"), values, found_values, strict=True):
                is_lost = (number, name) in said.values
                if other != (None if is_lost else value):
                    yield f"{name} of {number} is {other}, {is_lost=}"
        if without_nan > said.from_index:
            yield f"{without_nan} records have lost NaN"

    def takes_from_index(self, said: Said) -> bool:
        """Return whether metadata is taken from the index, in which nothing checks single bits."""
        edits = (self.store.links[n] for n in self.store.edits & self.store.links.keys())
        return bool(said.from_index) or any(link.chunk in self.damaged for link in edits)

    def check_subsets(self, store: sqlstore.Store, said: Said) -> None:
        loose = said.edits | self.unseen()
        must, may = self.store.state(loose).subsets, self.store.state().subsets
        names = {one.name for one in store.subsets()}
        self.check(names.isdisjoint(said.subsets), f"{names} are there, lost: {said.subsets}")
        self.check(must.keys() - said.subsets <= names <= may.keys(), f"subsets: {names}")
        for name in names & may.keys():
            members = store.subset(name).ids.tolist()
            self.check(members == may[name], f"subset {name} has {members}, not {may[name]}")

    def check_snapshots(self, store: sqlstore.Store, said: Said) -> None:
        loose = said.edits | self.unseen()
        must, may = self.store.state(loose).snapshots, self.store.state().snapshots
        names = {one.name for one in store.snapshots()}
        self.check(names.isdisjoint(said.snapshots), f"{names} are there, lost: {said.snapshots}")
        self.check(must.keys() - said.snapshots <= names <= may.keys(), f"snapshots: {names}")
        for name in names & may.keys():
            with sqlstore.open(self.root, snapshot=name) as snapshot:
                same = compacted.contents(snapshot) == may[name]
                self.check(same, f"snapshot {name} shows something else")


def lost_in(found: Repaired) -> dict[str, Any]:
    """Return what is said to be lost, and what is taken from the index."""
    report = found.as_dict()
    return {name: report[name] for name in report if "lost" in name or name == "from_index"}


def contents_of(root: Path) -> dict[Path, bytes]:
    """Return all files of a store with their bytes."""
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Modelled]:
    folder = tmp_path_factory.mktemp("stores")
    return {make.__name__: make(folder / make.__name__) for make in STORES}


@pytest.mark.parametrize("number", range(PROGRAMS))
def test_what_is_there_after_damage_and_repair_is_right_or_said_to_be_lost(
    number: int, stores: dict[str, Modelled], tmp_path: Path
) -> None:
    seed = SEED + number
    program = Program(seed, stores, tmp_path / "s")
    try:
        program.run()
    except Exception as error:
        error.add_note(program.happened())
        raise
    if program.problems:
        pytest.fail("\n".join([program.happened(), *program.problems]), pytrace=False)
