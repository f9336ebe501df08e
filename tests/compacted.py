"""Stores with something to compact, and compactions however little there is to gain."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import sqlstore
from sqlstore.compaction import plan

COUNT = 240


def record(number: int) -> dict[str, Any]:
    """Return a record of a fixed content."""
    rng = np.random.default_rng(number)
    return {
        "image": None if number % 7 == 3 else rng.bytes(900 + number),
        "frames": [rng.bytes(20), b"", b"z" * 60][: number % 4],
        "n": number,
        "label": f"l{number % 5}",
        "score": float("nan") if number % 11 == 0 else number / 8,
    }


def new_store(path: Path, count: int = COUNT, **options: Any) -> sqlstore.Store:
    """Return a new store of some small chunks."""
    store = sqlstore.create(
        path,
        fields={"image": "bytes", "frames": "bytes[]"},
        metadata={"n": "int32", "label": sqlstore.Column("string", index=True), "score": "float64"},
        **{"chunk_size": 32 * sqlstore.KiB, **options},
    )
    with store.writer(commit_records=10) as writer:
        for number in range(count):
            writer.append(record(number))
    return store


def compact(store: sqlstore.Store, min_garbage: float = 0.0) -> sqlstore.Compaction:
    """Compact whatever is not all live, even if that frees nothing."""
    with mock.patch.object(plan, "LEAST_FREED", -sqlstore.GiB):
        return store.compact(min_garbage=min_garbage)


def chunk_files(path: Path) -> dict[str, int]:
    """Return the sizes of the chunk files by name."""
    return {file.name: file.stat().st_size for file in (path / "chunks").iterdir()}


def contents(store: sqlstore.Store | sqlstore.View) -> dict[int, Any]:
    """Return all records by id, with the stored values of their fields."""
    rows = store.select("id", "n", "label", "score").to_arrow().to_pylist()
    images = store.blobs("image").to_pylist()
    frames = [store.raw_items(i, "frames") for i in range(len(store))]
    return {
        row["id"]: (repr(row), image, items)
        for row, image, items in zip(rows, images, frames, strict=True)
    }
