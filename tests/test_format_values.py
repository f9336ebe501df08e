"""`docs/format.md` on values: its examples are what the encodings make, and are enough to read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import sqlstore
from sqlstore import Field
from sqlstore.encodings import ENCODINGS
from tests import independent_reader
from tests.format_page import PAGE, append, chunk_files, code, create, table_rows
from tests.test_round_trips import COMPRESSIONS
from tests.values import EMPTY, SPECIAL, expected, filled, same

READ: Final = ("bytes", "utf8", "int", "i64", "u64", "json", "array", "tree")
"""What the independent reader decodes; the others it leaves as they are."""
STRUCTURE: Final = np.array([(1, 258)], np.dtype([("x", "u1"), ("y", "<i2")], align=True))
VALUES: Final[dict[str, list[Any]]] = {
    "bytes": [b"owl", bytes(300)],
    "utf8": ["é🦉" * 90],
    "int": [128, -1, 2**200, -(2**63)],
    "i64": [-(2**63), 7],
    "u64": [2**64 - 1],
    "json": [{"a": [1, None, {"b": "é" * 90}]}, 1.5, None],
    "array": [np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)), STRUCTURE],
    "tree": [
        {"a": (1, None, -(2**53)), 2: [b"\0\xff", float("-inf"), np.arange(3.0), np.float32(2)]},
    ],
}


def examples(heading: str) -> list[bytes]:
    return [bytes.fromhex(text) for language, text in code(heading) if not language]


@pytest.mark.parametrize(
    ("which", "encoding", "value"),
    [
        (0, "array", np.array([[1, 2, 3]], "<i2")),
        (1, "array", STRUCTURE),
        (2, "tree", {"a": (1, None), "b": b"\x00\xff"}),
    ],
)
def test_the_examples_of_encodings_are_what_they_make(
    which: int, encoding: str, value: Any
) -> None:
    example = examples("8. Encodings")[which]
    made = bytes(ENCODINGS[encoding].encode(value))
    assert made == example
    assert same(ENCODINGS[encoding].decode(example), value)
    assert same(independent_reader.decode(encoding, example), value)
    assert len(examples("8. Encodings")) == 3


def test_the_examples_of_integers_are_what_the_encoding_makes() -> None:
    text = dict(table_rows("8. Encodings"))["`int`"].replace("\N{MINUS SIGN}", "-")
    listed = {int(number): data for number, data in re.findall(r"(-?\d+) is `(.*?)`", text)}
    assert listed.keys() == {0, 127, 128, -1, -129}
    for number, data in listed.items():
        assert bytes(ENCODINGS["int"].encode(number)) == bytes.fromhex(data)
        assert independent_reader.decode("int", bytes.fromhex(data)) == number


def test_the_example_of_a_sequence_is_what_lies_in_a_chunk(tmp_path: Path) -> None:
    (example,) = examples("Sequences")
    path = create(tmp_path / "store", fields={"f": Field("utf8[]", None)})
    append(path, [{"f": ["owl", ""]}])
    (place,) = [row["f0"] for row in independent_reader.read(path)["rows"].values()]
    (chunk,) = chunk_files(path)
    assert chunk.read_bytes()[place["offset"] :][: place["length"]] == example
    said = re.search(r"`length` is (\d+),\s`raw_length` (\d+), `items` (\d+), `crc` (\d+)", PAGE)
    assert said is not None
    names = ("length", "raw_length", "items", "crc")
    assert [place[name] for name in names] == [int(number) for number in said.groups()]


@pytest.mark.parametrize("name", SPECIAL)
def test_every_type_of_array_is_read_without_the_library(name: str) -> None:
    array = filled(SPECIAL[name], (2, 3))
    if array.dtype.itemsize:  # of text of no length NumPy makes longer text where it can
        found = independent_reader.decode("array", bytes(ENCODINGS["array"].encode(array)))
        assert same(found, array)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_sequences_are_read_without_the_library(tmp_path: Path, compression: str | None) -> None:
    names = list(EMPTY.keys() & ENCODINGS.keys() - {"pickle"})
    path = create(
        tmp_path / "store",
        fields={f"{n}{end}".replace("[]", "s"): n + end for n in names for end in ("", "[]")},
        compression=compression,
    )
    values = {n: [EMPTY[n], *VALUES.get(n, [])] for n in names}
    values["json"].remove(None)
    written = [
        {**{n: values[n][-1] for n in names}, **{f"{n}s": values[n] * 3 for n in names}},
        {**{n: EMPTY[n] for n in names}, **{f"{n}s": [] for n in names}},
        {},
    ]
    append(path, written[:2])
    append(path, written[2:])
    found = independent_reader.read(path)["records"]
    with sqlstore.open(path) as store:
        for i, record in enumerate(written):
            for n in names:
                check(store, i, n, found[i], record)


def check(store: sqlstore.Store, i: int, name: str, found: Any, record: Any) -> None:
    """Compare a value and a sequence that both read with what was written."""
    single, items = record.get(name), record.get(f"{name}s")
    decoded = store[i]
    assert same(decoded[name], expected(name, single))
    assert same(decoded[f"{name}s"], expected(f"{name}[]", items))
    if name in READ:
        assert same(found[name], single), (name, found[name], single)
        assert same(found[f"{name}s"], items), name
    else:
        assert found[name] == store.raw(i, name)
        assert found[f"{name}s"] == store.raw_items(i, f"{name}s")


@pytest.mark.parametrize(("place", "message"), [(1, "in item 0"), (12, "in a footer")])
def test_damage_in_a_sequence_is_noticed_without_the_library(
    tmp_path: Path, place: int, message: str
) -> None:
    path = create(tmp_path / "store", fields={"f": "utf8[]"})
    append(path, [{"f": ["owl", "eagle owl"]}])
    (row,) = independent_reader.read(path)["rows"].values()
    (chunk,) = chunk_files(path)
    data = bytearray(chunk.read_bytes())
    data[row["f0"]["offset"] + place] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        independent_reader.read(path)
