"""Every encoding, alone and in sequences, compressed or not: whatever goes in comes back."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import Field, Store, View
from sqlstore.encodings import ENCODINGS, Encodings
from tests.values import EMPTY, ENCODINGS_OF_OWN, OWN, VALUES, expected, same

Io: TypeAlias = Literal["mmap", "pread", "memory"]
Verify: TypeAlias = Literal["once", "always", "never"]
IOS: Final[tuple[Io, ...]] = ("mmap", "pread", "memory")
VERIFY: Final[tuple[Verify, ...]] = ("once", "always", "never")
COMPRESSIONS: Final = (None, "lz4", "zstd", "gzip")
IN_ARROW: Final = ("bytes", "utf8", "int", "i64", "u64", "jpg", OWN)
HOW: Final[dict[str, Any]] = {"encodings": ENCODINGS_OF_OWN, "allow_pickle": True}
KNOWN: Final = Encodings(ENCODINGS_OF_OWN, allow_pickle=True)

modest = settings(
    max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def fields_of(encoding: str) -> dict[str, Field]:
    """Return a field of single values and one of sequences for every compression."""
    return {
        f"{encoding}{end}_{compression}".replace("[]", "s"): Field(encoding + end, compression)
        for end in ("", "[]")
        for compression in COMPRESSIONS
    }


FIELDS: Final = {name: f for encoding in VALUES for name, f in fields_of(encoding).items()}


def test_these_are_all_encodings() -> None:
    assert VALUES.keys() == EMPTY.keys() == {*ENCODINGS, OWN}


def raw_of(field: Field, value: Any) -> bytes:
    return bytes(KNOWN.of(field.item_encoding, "").encode(value))


def check_read(view: View, fields: Mapping[str, Field], records: Sequence[dict[str, Any]]) -> None:
    """Compare all ways to read a view with what was written."""
    names = list(view[0])
    wanted = [
        {name: expected(fields[name].encoding, one.get(name)) for name in names} for one in records
    ]
    positions = range(len(records))
    for found in (
        [view[i] for i in positions],
        view.fetch(positions),
        [view.read(i, dict.fromkeys(names, True)) for i in positions],
    ):
        for there, given_ in zip(found, wanted, strict=True):
            assert list(there) == names
            for name in names:
                assert same(there[name], given_[name]), (name, there[name], given_[name])
    for i, record in enumerate(records):
        available = view.available(i)
        for name in names:
            check_raw(view, i, fields[name], record.get(name), available[name])


def check_raw(view: View, i: int, field: Field, value: Any, available: bool | range) -> None:
    if not field.is_sequence:
        assert available is (value is not None)
        assert view.raw(i, field.name) == (None if value is None else raw_of(field, value))
        return
    if value is None:
        assert available is False
        assert view.raw_items(i, field.name) is None
        assert view.read(i, {field.name: slice(0, 2)}) == {field.name: None}
        return
    raws, values = [raw_of(field, one) for one in value], expected(field.encoding, value)
    assert available == range(len(value))
    assert view.raw_items(i, field.name) == raws
    assert view.raw_items(i, field.name, slice(None, None, -2)) == raws[::-2]
    for numbers in ([], list(range(len(value)))[1:3], [*range(len(value)), *range(len(value))]):
        (found,) = view.read(i, {field.name: numbers}).values()
        assert same(found, [values[n] for n in numbers]), (field.name, numbers)


# Any values: a store for each encoding


@pytest.fixture(scope="module", params=VALUES)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("any") / "store"
    with sqlstore.create(path, fields=fields_of(request.param), **HOW) as opened:
        yield opened
        report = opened.verify()
        assert report, report.faults


def as_table(records: list[dict[str, Any]], names: list[str], kind: str) -> Any:
    """Return records as a table, if it can hold them."""
    columns = {name: [record.get(name) for record in records] for name in names}
    if kind == "arrow":
        try:
            return pa.table({name: pa.array(values) for name, values in columns.items()})
        except (pa.ArrowException, OverflowError):
            return records
    frame = {}
    for name, values in columns.items():
        if any(pd.api.types.is_scalar(v) and v is not None and pd.isna(v) for v in values):
            return records  # what pandas takes for missing
        column = np.empty(len(values), object)
        column[:] = [None] * len(values)
        for i, value in enumerate(values):
            column[i] = value
        frame[name] = column
    return pd.DataFrame(frame)


@modest
@given(data=st.data())
def test_whatever_goes_in_comes_back(store: Store, data: st.DataObject) -> None:
    field = next(iter(store.schema.fields.values()))
    encoding, compression = field.encoding, data.draw(st.sampled_from(COMPRESSIONS))
    single, items = f"{encoding}_{compression}", f"{encoding}s_{compression}"
    value = VALUES[encoding].filter(lambda one: one is not None)
    drawn = st.fixed_dictionaries(
        {}, optional={single: st.none() | value, items: st.none() | st.lists(value, max_size=4)}
    )
    records = data.draw(st.lists(drawn, min_size=1, max_size=3))
    kinds = ["rows", "pandas", "arrow"] if encoding in IN_ARROW else ["rows", "pandas"]
    kind = data.draw(st.sampled_from(kinds))
    given_ = records if kind == "rows" else as_table(records, [single, items], kind)
    view = store.take(store.extend(given_)).select(single, items)
    check_read(view, store.schema.fields, records)
    if data.draw(st.booleans()):
        check_read(pickle.loads(pickle.dumps(view)), store.schema.fields, records)


# All of them in one store, read in every way


def sample(encoding: str, number: int) -> Any:
    """Return one of the values of an encoding, some of them large."""
    found = {
        "bytes": b"owl" * 99, "utf8": "é owl " * 99, "int": -(2 ** (number + 7)),
        "i64": -1 - number, "u64": 2**64 - 1 - number, "json": {"a": [number, None, "é" * 99]},
        "msgpack": {number: [b"a" * 99, 1.5]}, "array": np.arange(99 + number, dtype=">i4"),
        "npy": np.asfortranarray(np.arange(98.0).reshape(2, 49)), OWN: "forwards" * 99,
        "tree": {"a": (np.float32(number), np.zeros(99)), 2: [b"bytes", None]},
        "png": np.full((number + 2, 3), number, np.uint8), "jpg": EMPTY["jpg"],
        "pickle": (1, {2}, [number] * 99),
    }  # fmt: skip
    return found[encoding]


def sample_of(field: Field, record: int) -> Any:
    """Return a value, an empty one, or none."""
    kind = (record + field.number) % 4
    if kind == 1:
        return None
    if not field.is_sequence:
        return EMPTY[field.encoding] if kind == 2 else sample(field.encoding, record)
    numbers = range(0 if kind == 2 else 1 + 2 * record)
    item = field.item_encoding
    return [EMPTY[item] if n % 3 == 1 else sample(item, n) for n in numbers]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    path = tmp_path_factory.mktemp("all") / "store"
    with sqlstore.create(path, fields=FIELDS, chunk_size=64 * sqlstore.KiB, **HOW) as store:
        fields = store.schema.fields
        records = [{n: sample_of(field, i) for n, field in fields.items()} for i in range(4)]
        store.extend(records[:3])
        store.extend(records[3:])
    return path, records


@pytest.mark.parametrize(("how", "verify"), list(itertools.product(IOS, VERIFY)))
def test_every_encoding_is_read_in_every_way(
    root: tuple[Path, list[dict[str, Any]]], how: Io, verify: Verify
) -> None:
    path, records = root
    with sqlstore.open(path, io=how, verify=verify, **HOW) as store:
        check_read(store, store.schema.fields, records)
        if verify == "once":
            view = pickle.loads(pickle.dumps(store[[2, 0]]))
            check_read(view, store.schema.fields, [records[2], records[0]])


def test_every_encoding_outlives_its_index(root: tuple[Path, list[dict[str, Any]]]) -> None:
    path, records = root
    with sqlstore.open(path, **HOW) as store:
        before = store.sql("SELECT * FROM record_locations")
    (path / "index.sqlite").unlink()
    assert sqlstore.rebuild(path) == len(records)
    with sqlstore.open(path, **HOW) as store:
        report = store.verify()
        assert report, report.faults
        assert report.values == before.num_rows
        assert store.sql("SELECT * FROM record_locations").equals(before)
        check_read(store, store.schema.fields, records)


def test_tables_hold_sequences(tmp_path: Path) -> None:
    fields = {"words": "utf8[]", "numbers": "int[]", "blobs": "bytes[]", "grids": "array[]"}
    columns: dict[str, list[Any]] = {
        "words": [["owl", ""], [], None],
        "numbers": [[], None, [128, -1]],
        "blobs": [None, [b"", b"a"], []],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    grids = [[np.zeros((2, 3)), np.arange(2)], None, []]
    with sqlstore.create(tmp_path / "store", fields=fields) as store:
        plain = pa.table(columns)
        large = pa.schema([(f.name, pa.large_list(f.type.value_type)) for f in plain.schema])
        for table in (plain, plain.cast(large), pa.concat_tables([plain[:1], plain[1:]])):
            assert list(store.take(store.extend(table)).select(*columns)) == rows
        written = [{**row, "grids": grid} for row, grid in zip(rows, grids, strict=True)]
        view = store.take(store.extend(pd.DataFrame({**columns, "grids": grids})))
        check_read(view, store.schema.fields, written)
        for name, wrong, item in (("numbers", [1, None], 1), ("grids", [[1.0]], 0)):
            with pytest.raises(sqlstore.EncodeError) as caught:
                store.extend(pa.table({name: [wrong]}))
            assert caught.value.where == {"field": name, "row": 0, "item": item}
        assert store.verify()
