"""Merges of random stores, held against what a few lines of Python say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore.maintenance.verify import verify
from sqlstore.merging import merge as merging
from sqlstore.merging.parts import OnDuplicate

COLUMNS: Final = {"k": "int64", "a": "int32", "b": "string"}
Rows = list[dict[str, Any]]

rows = st.fixed_dictionaries(
    {"k": st.integers(0, 30)},
    optional={"a": st.integers(-5, 5), "b": st.text("xyz", max_size=2), "f": st.binary(max_size=3)},
)
stores = st.tuples(
    st.lists(rows, max_size=8, unique_by=lambda row: row["k"]),
    st.sets(st.integers(0, 7)),  # positions that are deleted
    st.sets(st.sampled_from(["a", "b"])),  # columns that it lacks
    st.sampled_from(["int8", "int32", "int64"]),  # the type of its key
)


def make(path: Path, given: tuple[Rows, set[int], set[str], str]) -> Rows:
    """Make a store, and return its records as the target has them."""
    records, deleted, lacking, key_type = given
    kept = [{n: v for n, v in record.items() if n not in lacking} for record in records]
    columns = {n: t for n, t in COLUMNS.items() if n not in lacking} | {"k": key_type}
    with sqlstore.create(path, fields={"f": "bytes"}, metadata=columns, key="k") as store:
        store.extend(kept)
        gone = sorted(i for i in deleted if i < len(kept))
        store.take(gone).delete()
    whole: dict[str, Any] = {"f": None, **dict.fromkeys(COLUMNS)}
    return [whole | record for i, record in enumerate(kept) if i not in deleted]


@given(
    target=st.lists(rows, max_size=4, unique_by=lambda row: row["k"]),
    sources=st.lists(stores, min_size=1, max_size=3),
    skip=st.booleans(),
    in_parts=st.booleans(),
    at_once=st.integers(1, 5),
)
@settings(max_examples=12, deadline=None)
def test_a_merge_is_a_list_that_is_extended(
    tmp_path_factory: pytest.TempPathFactory,
    target: Rows,
    sources: list[tuple[Rows, set[int], set[str], str]],
    skip: bool,
    in_parts: bool,
    at_once: int,
) -> None:
    folder = tmp_path_factory.mktemp("model")
    expected = make(folder / "all", (target, set(), set(), "int64"))
    before = list(expected)
    paths = [folder / str(number) for number in range(len(sources))]
    kept, n_twice = [], 0
    seen = {record["k"] for record in expected}
    for path, source in zip(paths, sources, strict=True):
        kept.append(0)
        for record in make(path, source):
            is_new = record["k"] not in seen
            seen.add(record["k"])
            kept[-1] += is_new
            n_twice += not is_new
            expected += [record] if is_new else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_AT_ONCE", at_once)
        if n_twice and not skip:
            with pytest.raises(sqlstore.DuplicateKeyError, match=r"the key k = \d+ of record"):
                sqlstore.merge(folder / "all", *paths, in_parts=in_parts)
            expected = before
        else:
            choice: OnDuplicate = "skip" if skip else "raise"
            done = sqlstore.merge(folder / "all", *paths, in_parts=in_parts, on_duplicate=choice)
            assert (list(done.counts), done.skipped) == (kept, n_twice)
            assert done.ids.tolist() == list(range(len(before), len(expected)))
    with sqlstore.open(folder / "all") as store:
        assert list(store) == expected
    assert verify(folder / "all")
