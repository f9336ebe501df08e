"""Flipped bytes of the index: what is read is right or refused, and `verify` finds the rest.

``SQLSTORE_FLIPS=1000 pytest tests/test_flips.py -s`` tries a thousand;
``SQLSTORE_SEED`` repeats a run.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import shutil
import sqlite3
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest

import sqlstore
from sqlstore import Column, Field, KiB, SqlstoreError, Store, verify

FLIPS: Final = int(os.environ.get("SQLSTORE_FLIPS", "120"))
SEED: Final = int(os.environ.get("SQLSTORE_SEED", str(random.SystemRandom().getrandbits(32))))
PARTS: Final = 4  # of the flips, for as many processes
WITHOUT_CACHE: Final = 10
"""Every so many flips the cache is made anew, from the damaged index."""

FIELDS: Final = {
    "blob": Field("bytes", None),
    "text": Field("utf8", "lz4"),
    "grid": Field("array", "zstd"),
}
COLUMNS: Final = {
    "name": "string",
    "label": Column("string", index=True),
    "score": Column("float64", index=True),
    "n": "int64",
}
COUNT: Final = 60
COMMIT: Final = 13


def record(number: int) -> dict[str, Any]:
    return {
        "blob": bytes([number]) * (3 + number) if number % 7 != 2 else None,
        "text": f"{number} bottles, " * (number % 9),
        "grid": np.full((4, 5), number, np.int32),
        "name": f"name {number}",
        "label": None if number % 11 == 1 else f"label {number % 4}",
        "score": number / 3,
        "n": number * 1000,
    }


CONDITIONS: Final[dict[str, Callable[[dict[str, Any]], bool]]] = {
    "label = 'label 2'": lambda one: one["label"] == "label 2",
    "score > 7.5": lambda one: one["score"] > 7.5,
    "n % 7000 = 0": lambda one: one["n"] % 7000 == 0,
    "label IS NULL OR name < 'name 3'": lambda one: one["label"] is None or one["name"] < "name 3",
    "id BETWEEN 10 AND 30": lambda one: 30_000 >= one["n"] >= 10_000,
}

# Not the generation, which is only ever compared; not `sealed`, which decides only where the next
# writer appends; of positions only the order that they give.
CONTENT: Final = {
    "store": "SELECT uuid, format_version, min_reader, next_record_id, schema_version, chunk_size, "
    "created_at, library_version FROM store",
    "fields": "SELECT number, name, encoding, compression FROM fields ORDER BY position",
    "columns": "SELECT number, name, type, nullable, indexed, is_key FROM columns "
    "ORDER BY position",
    "chunks": "SELECT chunk, name, uuid, size FROM chunks ORDER BY chunk",
    "commits": "SELECT * FROM commits ORDER BY number",
    "blobs": "SELECT * FROM blobs ORDER BY field, record",
    "records": "SELECT * FROM records ORDER BY id",
    "alembic_version": "SELECT * FROM alembic_version",
}


@dataclass(frozen=True)
class Kept:
    """A store, and what an intact one holds."""

    root: Path
    index: bytes
    raws: dict[str, list[bytes | None]]
    metadata: pa.Table
    found: dict[str, list[int]]
    rows: dict[str, list[Any]]

    @property
    def path(self) -> Path:
        return self.root / "index.sqlite"


def rows(path: Path) -> dict[str, list[Any]]:
    """Return all rows of an index that say something about the store."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        return {name: connection.execute(sql).fetchall() for name, sql in CONTENT.items()}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    root = tmp_path_factory.mktemp("flips") / "store"
    records = [record(number) for number in range(COUNT)]
    with (
        sqlstore.create(
            root, fields=FIELDS, metadata=COLUMNS, key="name", chunk_size=16 * KiB
        ) as store,
        store.writer(commit_records=COMMIT) as writer,
    ):
        writer.extend(records)
    with sqlstore.open(root) as store:
        raws = {name: [store.raw(i, name) for i in range(COUNT)] for name in FIELDS}
        metadata = store.to_arrow()
        assert verify(root)
    found = {
        condition: [number for number, one in enumerate(records) if holds(one)]
        for condition, holds in CONDITIONS.items()
    }
    index = root / "index.sqlite"
    return Kept(root, index.read_bytes(), raws, metadata, found, rows(index))


class Reading:
    """Reads a store whose index is damaged, and compares.

    Attributes
    ----------
    refused
        What was refused.
    misled
        Where the index led to other records than an intact one.
    """

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.refused: list[str] = []
        self.misled: list[str] = []

    def read(self) -> None:
        with self._attempt("open"), sqlstore.open(self.kept.root) as store:
            if len(store) != COUNT:
                self.misled.append(f"{len(store)} records")
            self._read_all(store)
            self._find(store)

    @contextlib.contextmanager
    def _attempt(self, what: str) -> Any:
        try:
            yield
        except SqlstoreError as error:
            self.refused.append(f"{what}: {error}")

    def _read_all(self, store: Store) -> None:
        count = len(store)
        for name, raws in self.kept.raws.items():
            with self._attempt(f"blobs of {name}"):
                assert store.blobs(name).to_pylist() == raws[:count]
            with self._attempt(f"raw of {name}"):
                assert [store.raw(i, name) for i in range(count)] == raws[:count]
        with self._attempt("to_arrow"):
            assert store.to_arrow() == self.kept.metadata.slice(0, count)
        for number in (0, COMMIT, COUNT - 1):
            with self._attempt(f"get {number}"):
                assert same(store.get(number), record(number))

    def _find(self, store: Store) -> None:
        for condition, expected in self.kept.found.items():
            with self._attempt(condition):
                found = store.where(condition)
                ids = found.ids.tolist()
                if ids != expected:
                    self.misled.append(condition)
                assert found.to_arrow() == self.kept.metadata.take(pa.array(ids, pa.int64()))
                assert found.blobs("text").to_pylist() == [self.kept.raws["text"][i] for i in ids]
        for number in (3, COUNT - 2):
            with self._attempt(f"key {number}"):
                if not same(store.get(key=f"name {number}"), record(number)):
                    self.misled.append(f"key {number}")


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return list(found) == list(expected) and all(
        np.array_equal(value, expected[name]) if name == "grid" else value == expected[name]
        for name, value in found.items()
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_any_flipped_byte_of_the_index_gives_the_right_values_or_an_error(
    kept: Kept, part: int
) -> None:
    seen = collections.Counter[str]()
    choice = random.Random(SEED + part)
    used = np.flatnonzero(np.frombuffer(kept.index, np.uint8)).tolist()
    for number in range(part, FLIPS, PARTS):
        size = len(kept.index)
        offset = choice.choice(used) if choice.random() < 0.9 else choice.randrange(size)
        mask = choice.randrange(1, 256)
        damaged = bytearray(kept.index)
        damaged[offset] ^= mask
        kept.path.write_bytes(damaged)
        anew = number // PARTS % WITHOUT_CACHE == 0
        if anew:
            shutil.rmtree(kept.root / "cache")
        try:
            seen.update(check_damaged(kept))
            kept.path.write_bytes(kept.index)
            if anew:
                check_mended(kept)
        except BaseException as error:
            error.add_note(f"byte {offset} of index.sqlite XOR {mask:#x}, SQLSTORE_SEED={SEED}")
            raise
        finally:
            kept.path.write_bytes(kept.index)
    print(f"\nSQLSTORE_SEED={SEED}, part {part} of {FLIPS} flips: {dict(seen)}")


def check_damaged(kept: Kept) -> list[str]:
    """Check that what is read through a damaged index is right, and that verify says the rest.

    Returns
    -------
    list of str
        What happened.
    """
    reading = Reading(kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged revision looks like one of a newer sqlstore
        reading.read()
        report = verify(kept.root)
    assert not (report and reading.misled), reading.misled
    if report:
        assert rows(kept.path) == kept.rows
    left = {path.name for path in kept.root.iterdir()}
    assert left <= {"index.sqlite", "writer.lock", "chunks", "cache"}
    happened = {
        "not opened": any(one.startswith("open: ") for one in reading.refused),
        "something refused": bool(reading.refused),
        "a filter misled": bool(reading.misled),
        "found by verify": not report,
        "without effect": bool(report and not reading.refused),
    }
    return ["flips", *(what for what, is_so in happened.items() if is_so)]


def check_mended(kept: Kept) -> None:
    """Check a store whose index is mended, beside a cache that was made while it was damaged."""
    reading = Reading(kept)
    reading.read()
    assert not reading.misled
    if reading.refused:
        sqlstore.rebuild(kept.root)
        reading = Reading(kept)
        reading.read()
        assert (reading.refused, reading.misled) == ([], [])
