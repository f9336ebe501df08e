"""Views as tables: Arrow, pandas, polars and DuckDB; whole, in pieces, and with payload."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import limits, portions
from tests.all_kinds import COUNT, METADATA, make


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    with sqlstore.open(make(tmp_path_factory.mktemp("tables") / "s")) as opened:
        yield opened


@pytest.fixture
def view(store: sqlstore.Store) -> sqlstore.View:
    return store.where("n % 3 = 0").order_by("n DESC").take([0, 5, 5, *range(1, 20)])


def rows(table: pa.Table) -> list[str]:
    return list(map(repr, table.to_pylist()))


def test_payload_comes_along_as_its_encoding_made_it(view: sqlstore.View) -> None:
    names = ["image", "numbers", "packed"]
    table = view.to_arrow(fields=names)

    assert table.column_names == ["id", *METADATA, *names]
    assert table.schema.field("image").type == pa.large_binary()
    assert table.schema.field("numbers").type == pa.large_list(pa.large_binary())
    assert table.schema.field("numbers").metadata == {b"sqlstore:encoding": b"i64[]"}
    for name in ("image", "packed"):
        assert table[name].to_pylist() == [view.raw(i, name) for i in range(len(view))]
    items = [view.raw_items(i, "numbers") for i in range(len(view))]
    assert table["numbers"].to_pylist() == items
    assert None in items
    assert [] in items


def test_fields_are_named_whatever_the_view_selects(view: sqlstore.View) -> None:
    assert view.select("n").to_arrow(["plain", "plain"]).column_names == ["id", "n", "plain"]
    with pytest.raises(sqlstore.UnknownNameError, match="'n' is a metadata column"):
        view.to_arrow(["n"])
    with pytest.raises(TypeError, match=r"as a list: \['image'\]"):
        view.to_batches(fields="image")


@given(chosen=st.lists(st.integers(0, COUNT - 1), max_size=80), size=st.integers(1, 90))
@settings(max_examples=30, deadline=None)
def test_batches_are_the_table_in_pieces(
    store: sqlstore.Store, chosen: list[int], size: int
) -> None:
    view = store.take(chosen)
    reader = view.to_batches(size, fields=["packed", "numbers"])
    batches = list(reader)

    assert all(0 < batch.num_rows <= size for batch in batches)
    whole = view.to_arrow(["packed", "numbers"])
    assert reader.schema == whole.schema
    assert rows(pa.Table.from_batches(batches, reader.schema)) == rows(whole)


def test_a_batch_ends_before_its_payload_is_too_much(
    store: sqlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions.portions, "__defaults__", (1000,))
    batches = list(store.to_batches(fields=["packed"]))
    sizes = [[len(one or b"") for one in batch["packed"].to_pylist()] for batch in batches]

    assert [one for batch in sizes for one in batch] == [
        len(store.raw(i, "packed") or b"") for i in range(COUNT)
    ]
    assert all(sum(batch) <= 1000 or len(batch) == 1 for batch in sizes)
    assert max(map(max, sizes)) > 1000
    assert len(batches) < COUNT
    assert len(list(store.to_batches())) <= 2  # metadata alone is not cut


def test_batches_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    with sqlstore.open(make(tmp_path / "s", 9)) as store:
        reader = store.to_batches(3)
        assert reader.read_next_batch()["n"].to_pylist() == [0, 1, 2]
    with pytest.raises(sqlstore.StoreClosedError):
        reader.read_next_batch()
    with pytest.raises(ValueError, match="batches of 0 rows"):
        store.to_batches(0)


def test_a_stream_holds_one_piece_at_a_time(tmp_path: Path) -> None:
    body = bytes(limits.MiB)
    with sqlstore.create(tmp_path / "s", fields={"f": sqlstore.Field("bytes", None)}) as store:
        store.extend({"f": body} for _ in range(150))
        before, most = pa.total_allocated_bytes(), 0
        count = 0
        for batch in store.to_batches(fields=["f"]):
            count += batch.num_rows
            most = max(most, pa.total_allocated_bytes() - before)
    assert count == 150
    assert most < 2.5 * limits.BATCH_BYTES


def test_every_tool_reads_a_view(view: sqlstore.View) -> None:
    whole = rows(view.to_arrow())

    assert pa.schema(view) == view.arrow_schema
    assert rows(pa.table(view)) == whole
    assert rows(pa.RecordBatchReader.from_stream(view).read_all()) == whole
    assert rows(pl.DataFrame(view).to_arrow().cast(view.arrow_schema)) == whole
    assert view.to_polars()["uint64"].to_list() == view.to_arrow()["uint64"].to_pylist()
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'Europe/Berlin'")
    found = connection.sql("FROM view")
    assert found is not None
    assert rows(found.to_arrow_table().cast(view.arrow_schema)) == whole
    connection.close()
    frame_of: Any = getattr(pd.DataFrame, "from_arrow", None)  # since pandas 3
    if frame_of is not None:
        assert frame_of(view)["n"].tolist() == view.to_arrow()["n"].to_pylist()


def test_pandas_keeps_declared_types_when_asked(view: sqlstore.View) -> None:
    frame = view.to_pandas(dtype_backend="pyarrow")

    assert frame["int8"].dtype == pd.ArrowDtype(pa.int8())
    back = pa.Table.from_pandas(frame, preserve_index=False).cast(view.arrow_schema)
    assert rows(back) == rows(view.to_arrow())
    kinds = [None if v is None else math.isnan(v) for v in view.to_arrow()["float64"].to_pylist()]
    assert {None, True, False} == set(kinds)
    assert view.to_pandas()["float64"].isna().tolist() == [kind is not False for kind in kinds]
    wrong: Any = "numpy"
    with pytest.raises(ValueError, match='dtype_backend is "pyarrow" or None'):
        view.to_pandas(dtype_backend=wrong)


def test_an_empty_view_is_an_empty_table(store: sqlstore.Store) -> None:
    nothing = store[:0]

    assert nothing.to_arrow(["packed", "numbers"]).num_rows == 0
    assert list(nothing.to_batches(fields=["packed"])) == []
    assert pa.table(nothing).schema == store.arrow_schema
    assert pl.DataFrame(nothing).shape == (0, len(METADATA) + 1)


def test_what_is_not_installed_is_named(
    store: sqlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(sqlstore.MissingPackageError, match=r"pip install 'sqlstore\[polars\]'"):
        store.to_polars()


def test_damage_is_not_exported(tmp_path: Path) -> None:
    path = make(tmp_path / "s", 9)
    (chunk,) = (path / "chunks").iterdir()
    data = bytearray(chunk.read_bytes())
    data[data.index(b"pppppp")] ^= 1
    chunk.write_bytes(data)
    with sqlstore.open(path) as store:
        with pytest.raises(sqlstore.ChecksumError, match="field plain"):
            list(store.to_batches(fields=["plain"]))
        assert len(store.to_arrow()) == 9
        assert np.array_equal(store.to_arrow()["id"], np.arange(9))
