"""What `describe` finds, beside what pandas finds in the same values."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import sqlstore
from sqlstore.cli import main
from sqlstore.columns import column_type
from sqlstore.describe import columns as of_column
from sqlstore.schema import Column
from tests.all_kinds import COUNT, METADATA, make

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    with sqlstore.open(make(tmp_path_factory.mktemp("describe") / "s")) as opened:
        yield opened


def summary(kind: str, values: list[Any]) -> sqlstore.ColumnSummary:
    arrow = column_type(kind).arrow
    half = len(values) // 2
    pieces = [pa.array(values[:half], arrow), pa.array(values[half:], arrow)]
    return of_column.summary(Column(kind, name="x"), pa.chunked_array(pieces, arrow))


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return bool(found == pytest.approx(expected, rel=1e-9, nan_ok=True))
    return bool(found == expected)


INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 20)
FLOATS = st.floats(-1e100, 1e100) | st.just(math.nan)


@given(
    st.sampled_from([("int64", INTEGERS), ("uint8", st.integers(0, 255)), ("float64", FLOATS)])
    .flatmap(lambda pair: st.tuples(st.just(pair[0]), st.lists(pair[1] | st.none(), max_size=50)))
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_numbers_are_described_as_pandas_does(given_: tuple[str, list[Any]]) -> None:
    kind, values = given_
    found = summary(kind, values)
    here = [v for v in values if v is not None and not math.isnan(v)]
    frame = pd.Series(here, dtype=kind)

    assert (found.count, found.missing) == (len(values) - values.count(None), values.count(None))
    assert found.nan == found.count - len(here)
    assert found.distinct == frame.nunique()
    if not here:
        assert (found.least, found.mean, found.quantiles, found.histogram) == (None,) * 4
        return
    assert (found.least, found.greatest) == (frame.min(), frame.max())
    scale = max(abs(float(frame.min())), abs(float(frame.max())), 1.0)
    assert found.mean == pytest.approx(frame.astype(float).mean(), abs=1e-9 * scale)
    if len(here) > 1:
        assert found.std == pytest.approx(frame.astype(float).std(), rel=1e-6, abs=1e-9 * scale)
    assert found.quantiles is not None
    for fraction, value in found.quantiles.items():
        expected = np.quantile(np.array(here, np.float64), fraction)
        assert value == pytest.approx(expected, abs=1e-9 * scale)
    assert found.histogram is not None
    edges, counts = list(found.histogram.edges), list(found.histogram.counts)
    assert len(edges) == len(counts) + 1 <= of_column.BINS + 1
    assert sum(counts) == len(here)
    assert (edges[0], edges[-1] >= found.greatest) == (found.least, True)
    assert edges == sorted(edges)
    for low, high, count in zip(edges[:-2], edges[1:-1], counts, strict=False):
        assert count == sum(low <= value < high for value in here)


@given(st.lists(st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)), max_size=30))
@settings(max_examples=50, deadline=None)
def test_times_are_described_as_pandas_does(values: list[dt.datetime]) -> None:
    found = summary("timestamp[us]", values)
    days = summary("date32", [value.date() for value in values])

    assert found.distinct == len(set(values))
    if not values:
        assert (found.least, found.quantiles, days.histogram) == (None, None, None)
        return
    frame: Any = pd.Series(values, dtype="datetime64[us]")
    assert (found.least, found.greatest) == (min(values), max(values))
    assert (days.least, days.greatest) == (min(values).date(), max(values).date())
    close = dt.timedelta(microseconds=200)  # pandas goes by way of floats
    assert abs(found.mean - frame.mean().to_pydatetime()) < close
    assert found.quantiles is not None
    assert days.quantiles is not None
    for fraction, value in found.quantiles.items():
        assert abs(value - frame.quantile(fraction).to_pydatetime()) < close
        assert min(values).date() <= days.quantiles[fraction] <= max(values).date()
    for one in (found, days):
        assert one.histogram is not None
        assert sum(one.histogram.counts) == len(values)


@given(st.lists(st.sampled_from(["owl", "wren", "", "é" * 3]) | st.text(max_size=2) | st.none()))
@settings(max_examples=50, deadline=None)
def test_texts_are_counted_as_pandas_does(values: list[str | None]) -> None:
    found = summary("string", values)
    frame = pd.Series([value for value in values if value is not None], dtype=object)

    assert (found.count, found.distinct) == (len(frame), frame.nunique())
    expected = frame.value_counts()
    assert [count for _, count in found.frequent] == (
        expected.tolist()[:10] if len(frame) > frame.nunique() else []
    )
    assert all(expected[text] == count for text, count in found.frequent)
    lengths = [len(value) for value in frame]
    assert found.lengths == (
        sqlstore.Sizes(sum(lengths), min(lengths), sum(lengths) / len(lengths), max(lengths))
        if lengths
        else None
    )


def test_other_kinds() -> None:
    truth = summary("bool", [True, None, False, True])
    assert (truth.frequent, truth.distinct, truth.missing) == ([(True, 2), (False, 1)], 2, 1)
    data = summary("binary", [b"abc", b"", None, b"abc"])
    assert (data.distinct, data.frequent) == (2, ())
    assert data.lengths == sqlstore.Sizes(6, 0, 2.0, 3)
    infinite = summary("float32", [math.inf, -math.inf, 1.0])
    assert infinite.histogram == sqlstore.Histogram([1.0, 1.0], [1])
    assert (infinite.least, infinite.greatest) == (-math.inf, math.inf)
    far = summary("float64", [1e308, -1e308])
    assert far.histogram is not None
    assert far.quantiles == pytest.approx(
        {0.05: -0.9e308, 0.25: -0.5e308, 0.5: 0, 0.75: 0.5e308, 0.95: 0.9e308}
    )
    half = summary("float64", [0.0, 1.0, math.inf]).quantiles
    assert half is not None
    assert half[0.5] == 1
    last = summary("timestamp[us, Pacific/Kiritimati]", [dt.datetime(9999, 12, 30, tzinfo=dt.UTC)])
    assert last.histogram is not None


def test_values_are_not_counted_where_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_column, "_COUNTED", 8)
    many = summary("string", list("abcdefghij"))
    assert (many.distinct, many.frequent) == (None, ())
    assert summary("string", list("abcdabcdee")).distinct == 5


def test_fields_are_described_by_where_their_values_lie(store: sqlstore.Store) -> None:
    view = store.where("n % 2 = 0").take([0, 0, *range(1, 30)])
    found = view.describe()

    assert found.records == 31
    assert list(found.fields) == list(store.schema.fields)
    sql = (
        "SELECT record, length, raw_length, items FROM record_locations "
        "WHERE field = :field AND record % 2 = 0"
    )
    for name, field in found.fields.items():
        rows = {row["record"]: row for row in store.sql(sql, field=name).to_pylist()}
        values = [rows[i] for i in view.ids.tolist() if i in rows]
        assert (field.count, field.missing) == (len(values), 31 - len(values))
        for sizes, column in ((field.stored, "length"), (field.raw, "raw_length")):
            numbers = [value[column] for value in values]
            assert sizes == sqlstore.Sizes(
                sum(numbers), min(numbers), sum(numbers) / len(numbers), max(numbers)
            )
        assert field.raw is not None
        assert field.stored is not None
        assert field.ratio == field.raw.total / field.stored.total
        assert (field.items is not None) == (name in ("numbers", "parts"))
        assert field.histogram is not None
        assert sum(field.histogram.counts) == len(values)
    assert found.fields["numbers"].items is not None
    assert found.fields["numbers"].items.greatest == 4


def test_no_payload_is_read(tmp_path: Path) -> None:
    path = make(tmp_path / "s", 12)
    with sqlstore.open(path) as store:
        expected = store.describe().to_dict()
        for chunk in (path / "chunks").iterdir():
            chunk.unlink()
        assert store.describe().to_dict() == expected


def test_what_the_view_selects_is_described(store: sqlstore.Store) -> None:
    found = store.select("n", "image").describe()
    assert (list(found.columns), list(found.fields)) == (["n"], ["image"])
    nothing = store[:0].describe()
    assert nothing.records == 0
    assert all(c.count == c.missing == 0 for c in nothing.columns.values())
    assert nothing.fields["parts"] == sqlstore.FieldSummary("parts", "json[]", "zstd", 0, 0)
    assert str(nothing).startswith("0 records\n")


def test_a_description_as_json(store: sqlstore.Store) -> None:
    found = json.loads(store.describe().to_json())

    assert found == store.describe().to_dict()
    assert list(found["columns"]) == list(METADATA)
    assert found["columns"]["float32"]["least"] is None  # an infinity
    assert found["columns"]["int64"]["least"] == -(2**63)
    assert found["columns"]["uint64"]["greatest"] == 2**63 - 1
    assert found["columns"]["date"]["least"] == "0001-01-01"
    assert found["columns"]["n"]["quantiles"]["0.5"] == (COUNT - 1) / 2


def test_a_description_as_text(store: sqlstore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    lines = str(store.describe()).splitlines()

    assert lines[0] == f"{COUNT} records"
    assert any(line.split()[:4] == ["n", "int64", "0", str(COUNT)] for line in lines)
    assert all(len(line) <= 160 and line.isprintable() for line in lines)
    assert any(line.startswith("parts ") and "json[]" in line for line in lines)


def test_a_description_as_a_picture(
    store: sqlstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = store.select("int64", "float32", "string", "json", "date", "plain").describe()
    some.plot(tmp_path / "all.png")
    some.plot(tmp_path / "all.svg")
    store[:0].select("n").describe().plot(tmp_path / "none.png")
    with Image.open(tmp_path / "all.png") as drawn:
        assert drawn.size == (1280, 480)
        assert np.asarray(drawn.convert("L")).std() > 10
    assert (tmp_path / "all.svg").read_text().count('id="axes_') >= 7
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(sqlstore.MissingPackageError, match=r"pip install 'sqlstore\[plot\]'"):
        store.describe().plot(tmp_path / "more.png")


def test_whatever_there_is_can_be_drawn(tmp_path: Path) -> None:
    metadata = {"$a$": "string", "far": "float64", "ever": "timestamp[us]", "days": "date32"}
    ends = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31), dt.datetime(2000, 1, 1)
    texts = "$\\frac$", "鳥\n", "x" * 99
    with sqlstore.create(tmp_path / "s", metadata=metadata) as store:
        store.extend(
            {"$a$": text, "far": far, "ever": time, "days": time.date()}
            for text, far, time in zip(
                texts * 2, [1.7e308, -1.7e308, 0.0] * 2, ends * 2, strict=True
            )
        )
        store.describe().plot(tmp_path / "out.png")
    assert (tmp_path / "out.png").exists()


def test_the_example_prints_and_draws_what_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["describe"])
    runpy.run_path(str(ROOT / "examples" / "describe.py"), run_name="__main__")
    page = (ROOT / "docs" / "analytics.md").read_text(encoding="utf-8")
    shown = page.partition("```text\n")[2].partition("```")[0]

    def settled(text: str) -> str:  # other versions compress otherwise
        return re.sub(r"^(image|strokes) .*$", r"\1", text, flags=re.MULTILINE)

    assert settled(capsys.readouterr().out) == settled(shown)
    with (
        Image.open(tmp_path / "build/describe/describe.png") as drawn,
        Image.open(ROOT / "docs/describe.png") as known,
    ):
        assert drawn.size == known.size


def test_the_command_describes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    path = tmp_path / "s"
    with sqlstore.create(path, fields={"f": "bytes"}, metadata={"n": "int32"}) as store:
        store.extend({"n": i, "f": bytes(i)} for i in range(9))
    picture = tmp_path / "out.png"
    with sqlstore.open(path) as store:
        some = store.where("n < 4").describe()
    assert main(["describe", str(path), "--where", "n < 4", "--plot", str(picture)]) == 0
    assert capsys.readouterr().out == f"{some}\n"
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
    assert main(["describe", str(path), "--where", "n < 4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == some.to_dict()
    assert main(["describe", str(path), "--plot", str(tmp_path / "gone" / "out.png")]) == 2
    assert "No such file" in capsys.readouterr().err
