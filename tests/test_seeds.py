"""What the README of granular promises of its datasets, and what broke there when it was run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

import sqlstore
from sqlstore import Store
from tests.values import picture

SPEC: Final = {
    "foo": "int",
    "bar": "utf8[]",
    "baz": "msgpack",
    "abc": "jpg",
    "xyz": "array",
    "frames": "jpg[]",
}


def frame(number: int) -> bytes:
    return picture(Image.new("L", (8, 8), number), "JPEG")


def datapoint(number: int) -> dict[str, Any]:
    return {
        "foo": number,
        "bar": ["hello"] * number,
        "baz": {"a": 1},
        "abc": np.zeros((60, 80, 3), np.uint8),
        "xyz": np.arange(0, 1 + number, dtype=np.float32),
        "frames": [frame(n) for n in range(54)],
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("seed") / "dataset"
    with sqlstore.create(path, fields=SPEC) as opened:
        opened.extend(datapoint(number) for number in range(10))
    with sqlstore.open(path) as opened:
        yield opened


def test_a_spec_of_int_sequences_msgpack_jpg_and_array(store: Store) -> None:
    assert len(store) == 10
    found = store[7]
    assert list(found) == list(SPEC)
    assert (found["foo"], found["bar"], found["baz"]) == (7, ["hello"] * 7, {"a": 1})
    assert found["xyz"].tolist() == list(range(8))
    assert (found["abc"].shape, found["abc"].dtype) == ((60, 80, 3), np.uint8)
    assert len(found["frames"]) == 54
    assert {name: field.encoding for name, field in store.schema.fields.items()} == SPEC


@pytest.mark.parametrize("number", [128, 255, -1, -128, 256, 2**31, 2**63, -(2**100)])
def test_int_of_128_and_of_minus_1(tmp_path: Path, number: int) -> None:
    with sqlstore.create(tmp_path / "s", fields={"foo": "int", "all": "int[]"}) as store:
        store.extend([{"foo": number, "all": [number, 0]}])
        assert store[0] == {"foo": number, "all": [number, 0]}


@pytest.mark.parametrize(
    ("encoding", "empty"),
    [
        ("bytes", b""), ("utf8", ""), ("int", 0), ("json", []), ("msgpack", {}), ("tree", {}),
        ("utf8[]", []), ("utf8[]", [""]), ("bytes[]", [b"", b"a", b""]), ("jpg[]", []),
    ],
)  # fmt: skip
def test_values_that_are_empty(tmp_path: Path, encoding: str, empty: object) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": encoding, "next": "utf8"}) as store:
        store.extend([{"f": empty, "next": "a"}, {"f": None, "next": "b"}, {"f": empty}])
        assert [record["f"] for record in store] == [empty, None, empty]
        assert [record["next"] for record in store] == ["a", "b", None]
        assert [bool(store.available(i)["f"] is not False) for i in range(3)] == [True, False, True]
        assert store.verify()


def test_an_array_that_is_empty(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "array"}) as store:
        store.extend([{"f": np.zeros((0, 4), np.int8)}])
        assert (store[0]["f"].shape, store[0]["f"].dtype) == ((0, 4), np.int8)


def test_sequences_of_text(store: Store) -> None:
    assert [record["bar"] for record in store.select("bar")] == [["hello"] * n for n in range(10)]


def test_available_tells_the_lengths_of_sequences(store: Store) -> None:
    assert store.available(3) == {
        "foo": True, "bar": range(3), "baz": True, "abc": True, "xyz": True, "frames": range(54),
    }  # fmt: skip
    assert store.available(0)["bar"] == range(0)


def test_masks_that_are_dicts(store: Store) -> None:
    assert store.read(2, {"foo": True, "baz": True}) == {"foo": 2, "baz": {"a": 1}}
    assert store.read(2, {"foo": True, "frames": False}) == {"foo": 2}
    assert store.read(2, {"bar": True}) == {"bar": ["hello"] * 2}


def test_a_range_of_a_sequence(store: Store) -> None:
    found = store.read(2, {"foo": True, "frames": range(32, 42)})
    assert found["foo"] == 2
    assert store.raw_items(2, "frames", range(32, 42)) == [frame(n) for n in range(32, 42)]
    for n, image in zip(range(32, 42), found["frames"], strict=True):
        np.testing.assert_array_equal(image, np.array(Image.open(io.BytesIO(frame(n)))))


def test_a_range_of_records(store: Store) -> None:
    assert [record["foo"] for record in store[2:5]] == [2, 3, 4]
    assert [record["foo"] for record in store.select("foo").fetch(range(2, 5))] == [2, 3, 4]


def test_any_names_of_encodings_with_functions_of_ones_own(tmp_path: Path) -> None:
    mine = {"utf16": (lambda text: text.encode("utf-16"), lambda data: data.decode("utf-16"))}
    with sqlstore.create(tmp_path / "s", fields={"f": "utf16[]"}, encodings=mine) as store:
        store.extend([{"f": ["owl", ""]}])
        assert store[0] == {"f": ["owl", ""]}
