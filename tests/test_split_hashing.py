"""Splits by key: hashes that stay the same for ever, and what moves when ratios change."""

from __future__ import annotations

import datetime as dt
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore.splits import hashing
from sqlstore.splits.hashing import hashed

ALL = (1 << 64) - 1
TYPES = [
    "bool", "int8", "int64", "uint8", "uint64", "float32", "float64", "string", "binary", "date32",
    "timestamp[us]", "timestamp[us, Europe/Berlin]", "json",
]  # fmt: skip


def mix(word: int) -> int:
    """Return what the page says that mix is, in Python's own integers."""
    word = (word + 1) * 0x9E3779B97F4A7C15 & ALL
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & ALL
    word = (word ^ word >> 27) * 0x94D049BB133111EB & ALL
    return word ^ word >> 31


def expected(value: Any) -> int:
    """Return the hash of a value as the page describes it."""
    if value is None:
        return 0x6C6C756E
    if isinstance(value, float):
        bits = struct.unpack("<Q", struct.pack("<d", value + 0.0))[0]
        return mix(0x7FF8 << 48 if math.isnan(value) else bits)
    if isinstance(value, int):
        return mix(value & ALL)
    data = value.encode() if isinstance(value, str) else value
    found = mix(len(data))
    for start in range(0, len(data), 8):
        found = mix(found ^ int.from_bytes(data[start : start + 8], "little"))
    return found


@given(st.lists(st.none() | st.text(max_size=30)), st.integers(0, 5), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_text_is_hashed_as_the_page_says(
    values: list[str | None], offset: int, at_once: int
) -> None:
    array = pa.array(values, pa.string())[offset:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "_TEXT_AT_ONCE", at_once)  # pieces of it are the same
        assert hashed(array).tolist() == [expected(value) for value in values[offset:]]


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)), st.lists(st.none() | st.floats()))
@settings(max_examples=60, deadline=None)
def test_numbers_are_hashed_as_the_page_says(
    integers: list[int | None], floats: list[float | None]
) -> None:
    assert hashed(pa.array(integers, pa.int64())).tolist() == list(map(expected, integers))
    assert hashed(pa.array(floats, pa.float64())).tolist() == list(map(expected, floats))


def test_equal_numbers_have_equal_hashes() -> None:
    odd_nan = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000123))[0]
    values = hashed(pa.array(np.array([0.0, -0.0, math.nan, odd_nan, 1.5])))
    assert values[0] == values[1]
    assert values[2] == values[3]
    assert len(set(values.tolist())) == 3
    assert hashed(pa.array([1.5], pa.float32())) == values[4]
    assert hashed(pa.array([7], pa.uint8())) == hashed(pa.array([7], pa.int64()))


MOMENT = dt.datetime(2024, 5, 1, 12, 30, 0, 17)
EXAMPLES: dict[str, list[Any]] = {
    "bool": [True, False],
    "int8": [-1, 100],
    "int64": [-(2**63), 2**62],
    "uint8": [255],
    "uint64": [2**63 - 1],
    "float32": [0.5, math.nan],
    "float64": [-0.0, math.inf],
    "string": ["", "owl", "eight by", "Käuzchen, das"],
    "binary": [b"", b"\0", b"\0\0"],
    "date32": [MOMENT.date(), dt.date(1, 1, 1)],
    "timestamp[us]": [MOMENT],
    "timestamp[us, Europe/Berlin]": [MOMENT.replace(tzinfo=dt.UTC)],
    "json": [{"a": [1]}, None],
}
PINNED = {
    "bool": "6b473cf5f3372322 8630c2ba6daab072 ec5163a409e707da",
    "int8": "e220a8397b1dcdaf d5c8f8e2b2a12f0a ec5163a409e707da",
    "int64": "3bbbf8a69dfb35b4 0e5c31d468ca24e9 ec5163a409e707da",
    "uint8": "860636f23a0f20f7 ec5163a409e707da",
    "uint64": "ebfb9e887cde4207 ec5163a409e707da",
    "float32": "03708ac638d35773 bd88b05512195b45 ec5163a409e707da",
    "float64": "8630c2ba6daab072 0a4bdc6607b7b68d ec5163a409e707da",
    "string": "8630c2ba6daab072 23df29c3a8f58af8 83c6b3d6e98934b3 af054d45226ba098"
    " ec5163a409e707da",
    "binary": "8630c2ba6daab072 12b70478ac4119ee c13393d1fbc9b359 ec5163a409e707da",
    "date32": "9e4314fc3b99c7c5 b74d69eefb12b7ed ec5163a409e707da",
    "timestamp[us]": "a53dcf46b078e125 ec5163a409e707da",
    "timestamp[us, Europe/Berlin]": "a53dcf46b078e125 ec5163a409e707da",
    "json": "fd446d5461677287 ec5163a409e707da ec5163a409e707da",
}


@pytest.mark.parametrize("kind", TYPES)
def test_the_splits_of_these_values_never_change(kind: str, tmp_path: Path) -> None:
    values = [*EXAMPLES[kind], None]
    with sqlstore.create(tmp_path / "s", metadata={"v": kind, "n": "int8"}) as store:
        store.extend({"v": value, "n": i} for i, value in enumerate(values))
        hashes, _ = hashing.row_hashes(store._source, store.ids, [store.schema.columns["v"]])
        assert [f"{one:016x}" for one in hashes.tolist()] == PINNED[kind].split()


def test_a_row_is_hashed_column_by_column(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"a": "string", "b": "string"}) as store:
        store.extend([{"a": "x", "b": "y"}, {"a": "y", "b": "x"}, {"a": "z", "b": "z"}, {"a": "x"}])
        a, b = store.schema.columns.values()
        hashes, missing = hashing.row_hashes(store._source, store.ids, [a, None, b])
        for record, (first, second) in enumerate([("x", "y"), ("y", "x"), ("z", "z"), ("x", None)]):
            row = mix(expected(first))
            row = mix(mix(row ^ mix(record)) ^ expected(second))
            assert hashes[record] == row
        assert missing.tolist() == [False, False, False, True]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("hashed") / "s"
    with sqlstore.create(path, metadata={"path": "string", "n": "int64"}) as opened:
        opened.extend({"path": f"images/{i}.png", "n": i // 3} for i in range(4000))
        yield opened


def numbers(splits: Mapping[str, sqlstore.View]) -> dict[int, str]:
    table = sqlstore.split_names(splits)
    return dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))


@pytest.mark.parametrize("by", ["path", "id", ["n", "path"]])
def test_later_appends_move_nothing(by: Any, tmp_path: Path) -> None:
    ratios = {"train": 0.7, "val": 0.2, "test": 0.1}
    with sqlstore.create(tmp_path / "s", metadata={"path": "string", "n": "int64"}) as store:
        store.extend({"path": f"{i * 7}", "n": i % 9} for i in range(1000))
        before = numbers(store.split(ratios, by=by, seed=3))
        store.extend({"path": f"{i * 7}", "n": i % 9} for i in range(1000, 1100))
        after = numbers(store.split(ratios, by=by, seed=3))
        assert len(after) == 1100
        assert {record: after[record] for record in before} == before
        # Nor does it matter which other records are in the view, or in which order.
        part = numbers(store.order_by("n").take(slice(None, None, 3)).split(ratios, by=by, seed=3))
        assert part == {record: after[record] for record in part}
        assert numbers(store.split(ratios, by=by, seed=4)) != after


def test_sizes_are_near_to_the_ratios(store: sqlstore.Store) -> None:
    ratios = {"a": 0.3, "b": 0.3, "c": 0.2, "d": 0.1, "e": 0.1, "none": 0.0}
    for seed in range(5):
        splits = store.split(ratios, by="path", seed=seed)
        assert list(splits) == list(ratios)
        for name, ratio in ratios.items():
            spread = math.sqrt(4000 * ratio * (1 - ratio))
            assert abs(len(splits[name]) - 4000 * ratio) <= 4 * spread


def test_the_same_values_are_in_the_same_split(store: sqlstore.Store) -> None:
    splits = store.split({"a": 0.5, "b": 0.5}, by="n")
    a, b = (set(view.to_arrow()["n"].to_pylist()) for view in splits.values())
    assert a
    assert b
    assert not a & b


CHANGES: list[tuple[dict[str, float], dict[str, float]]] = [
    ({"train": 0.9, "test": 0.1}, {"train": 0.8, "test": 0.2}),
    ({"train": 0.8, "val": 0.1, "test": 0.1}, {"train": 0.7, "val": 0.2, "test": 0.1}),
    ({"train": 0.8, "val": 0.1, "test": 0.1}, {"train": 0.7, "val": 0.1, "test": 0.2}),
    ({"train": 0.9, "test": 0.1}, {"train": 0.8, "test": 0.1, "val": 0.1}),
    ({"train": 1.0}, {"train": 0.5, "new": 0.5}),
    ({"t": 0.7, "a": 0.1, "b": 0.1, "c": 0.1}, {"t": 0.6, "a": 0.1, "b": 0.1, "c": 0.1, "d": 0.1}),
    ({"train": 0.2, "val": 0.4, "test": 0.4}, {"train": 0.0, "val": 0.6, "test": 0.4}),
]


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=range(len(CHANGES)))
def test_what_grows_takes_only_from_the_first(
    store: sqlstore.Store, before: dict[str, float], after: dict[str, float]
) -> None:
    old, new = (numbers(store.split(ratios, by="id")) for ratios in (before, after))
    (grown,) = (name for name in after if after[name] > before.get(name, 0))
    first = next(iter(before))
    moved = {record for record in old if old[record] != new[record]}
    assert moved
    assert {old[record] for record in moved} == {first}
    assert {new[record] for record in moved} == {grown}


@pytest.mark.parametrize("sizes", [[1.0, 0.0], [0.0, 1.0], [0, 0.0, 1.0], [1.0]], ids=str)
def test_all_or_nothing(store: sqlstore.Store, sizes: list[float]) -> None:
    splits = store.split({f"s{i}": size for i, size in enumerate(sizes)}, by="id")
    assert [len(view) for view in splits.values()] == [4000 * size for size in sizes]


def test_a_split_by_key_takes_ratios_alone(store: sqlstore.Store) -> None:
    with pytest.raises(sqlstore.SplitError, match="are counts"):
        store.split({"a": 3000, "b": None}, by="id")
    with pytest.raises(sqlstore.SplitError, match="neither group= nor stratify="):
        store.split({"a": 0.5, "b": 0.5}, by="id", group="n")
    with pytest.raises(sqlstore.SplitError, match="neither group= nor stratify="):
        store.split({"a": 0.5, "b": 0.5}, by="id", stratify="n")
