"""Records with the same payload are found, and no others."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import sqlstore
from sqlstore import duplicates as module


def groups(store: sqlstore.Store, field: str) -> list[list[int]]:
    """Return the ids of every group, and check the table."""
    table = store.duplicates(field)
    assert table.schema.names == ["group", "id", "bytes"]
    found: dict[int, list[int]] = defaultdict(list)
    for row in table.to_pylist():
        found[row["group"]].append(row["id"])
    assert list(found) == list(range(len(found)))
    return list(found.values())


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_equal_values_are_found_over_many_commits(tmp_path: Path, compression: Any) -> None:
    rng = np.random.default_rng(0)
    values = [bytes(rng.integers(0, 3, int(rng.integers(0, 40)))) * 9 for _ in range(60)]
    chosen = [values[i] if i < 60 else None for i in rng.integers(0, 70, 400)]
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes"}, compression=compression) as store:
        with store.writer(commit_records=90) as writer:
            writer.extend({"f": value} for value in chosen)
        store[10:40].delete()
        expected: dict[bytes, list[int]] = defaultdict(list)
        for record, value in enumerate(chosen):
            if value is not None and not 10 <= record < 40:
                expected[value].append(record)
        assert groups(store, "f") == sorted(ids for ids in expected.values() if len(ids) > 1)
        sizes = {row["id"]: row["bytes"] for row in store.duplicates("f").to_pylist()}
        assert all(len(chosen[record] or b"") == size for record, size in sizes.items())


def test_sequences_are_compared_item_by_item(tmp_path: Path) -> None:
    sequences = [[b"ab", b"c"], [b"a", b"bc"], [b"ab", b"c"], [], None, [], [b"abc"]]
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes[]"}) as store:
        store.extend({"f": one} for one in sequences)
        assert groups(store, "f") == [[0, 2], [3, 5]]


def test_what_is_alike_by_its_checksum_only_is_no_duplicate(tmp_path: Path) -> None:
    # Two pairs of four bytes each with one CRC-32 there are not; so the marks are made alike.
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes", "q": "bytes[]"}) as store:
        store.extend({"f": one, "q": [one]} for one in (b"a", b"b", b"a", b"c", b"b", b"d"))
        alike = np.tile(np.array([0, 1, 0, 7], np.uint32), (6, 1))
        with mock.patch.object(module, "_marks", return_value=alike):
            assert groups(store, "f") == [[0, 2], [1, 4]]
            assert groups(store, "q") == [[0, 2], [1, 4]]


def test_only_values_that_may_be_alike_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 25)
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes"}) as store:
        store.extend({"f": bytes([i % 90]) * 10} for i in range(100))
        read: list[int] = []
        real = store._source.bodies

        def bodies(ids: Any, field: Any) -> Any:
            assert len(ids) <= 2
            read.extend(ids.tolist())
            return real(ids, field)

        monkeypatch.setattr(store._source, "bodies", bodies)
        assert groups(store, "f") == [[i, 90 + i] for i in range(10)]
        assert sorted(read) == [*range(10), *range(90, 100)]


def test_a_store_without_duplicates_or_records(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes"}, metadata={"n": "int8"}) as store:
        assert store.duplicates("f").num_rows == 0
        store.extend([{"f": b"a"}, {"f": b"b"}, {}, {}])
        assert store.duplicates("f").num_rows == 0
        with pytest.raises(sqlstore.UnknownNameError, match="'n' is a metadata column"):
            store.duplicates("n")


def test_damage_is_no_duplicate(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes"}, compression=None) as store:
        store.extend([{"f": b"the same"}, {"f": b"the same"}])
    (chunk,) = (tmp_path / "s").glob("chunks/*")
    chunk.write_bytes(chunk.read_bytes().replace(b"the same", b"the sane", 1))
    with (
        sqlstore.open(tmp_path / "s") as store,
        pytest.raises(sqlstore.ChecksumError, match="record 0"),
    ):
        store.duplicates("f")
