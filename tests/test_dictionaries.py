"""Small values compressed with dictionaries that are trained, committed, found and checked."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import Field
from sqlstore.compression import decompress
from sqlstore.dictionaries import FIRST, MOST, Dictionaries, compressor
from sqlstore.dictionaries import trained as trained_with
from sqlstore.log import dictionary
from sqlstore.log.segment import CommitKind
from tests import independent_reader
from tests.caches import held
from tests.format_page import described
from tests.small_records import (
    ENOUGH,
    append,
    check,
    compressions,
    dictionaries,
    line_of,
    new_store,
    parts_of,
    records_of,
)


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "s")


def test_values_get_half_as_large_as_with_zstd_alone(trained: Path, tmp_path: Path) -> None:
    check(trained, list(range(ENOUGH)))
    fields = {"line": Field("utf8", "zstd")}
    with sqlstore.create(tmp_path / "plain", fields=fields) as plain:
        plain.extend({"line": line_of(i)} for i in range(ENOUGH))
    sizes = []
    for path in (trained, tmp_path / "plain"):
        with sqlstore.open(path) as one:
            sql = "SELECT sum(length) AS n FROM record_locations WHERE field = 'line'"
            sizes.append(one.sql(sql)["n"][0].as_py())
    assert sizes[0] * 2 < sizes[1]
    assert set(compressions(trained)) == {"dictionary 0"}
    assert set(compressions(trained, "parts")) == {"dictionary 1"}
    assert [(row["number"], row["field"]) for row in dictionaries(trained)] == [(0, 0), (1, 1)]


def test_a_dictionary_is_a_commit_before_the_values_that_need_it(trained: Path) -> None:
    with sqlstore.open(trained) as one:
        kinds = one.sql("SELECT kind FROM commits ORDER BY number")["kind"].to_pylist()
    assert kinds == [
        CommitKind.CREATE, CommitKind.DICTIONARY, CommitKind.DICTIONARY, CommitKind.APPEND,
    ]  # fmt: skip
    (name,) = {row["name"] for row in dictionaries(trained)}
    commits = independent_reader.commits_of(trained / "chunks" / name)
    tables = [commit["table"] for commit in commits if commit["kind"] == 13]
    assert [commit["flags"] for commit in commits] == [0, 1, 1, 0]
    assert [pa.ipc.open_stream(table).schema for table in tables] == [dictionary.ROW] * 2
    assert described("Dictionaries") == dictionary.ROW


def test_what_is_stored_can_be_read_without_this_library(tmp_path: Path) -> None:
    fields = {"line": Field("utf8", "dictionary")}
    with sqlstore.create(tmp_path / "s", fields=fields) as one:
        one.extend({"line": line_of(i)} for i in range(ENOUGH))
    found = independent_reader.read(tmp_path / "s")
    lines = [record["line"] for record in found["records"].values()]
    assert lines == [line_of(i) for i in range(ENOUGH)]
    assert {row["f0"]["compression"] for row in found["rows"].values()} == {64}


@pytest.mark.parametrize("io", ["mmap", "pread", "memory"])
@pytest.mark.parametrize("verify", ["once", "always", "never"])
def test_every_way_of_reading_gives_the_values(
    trained: Path,
    io: Literal["mmap", "pread", "memory"],
    verify: Literal["once", "always", "never"],
) -> None:
    with sqlstore.open(trained, io=io, verify=verify) as one:
        for _ in range(2):
            assert one.raw(7, "line") == line_of(7).encode()
        assert one[-1]["line"] == line_of(ENOUGH - 1)
        assert one.blobs("line", [5, 1, 1])[2].as_py() == line_of(1).encode()
        assert one.blobs("line", [5, 1, 1], copy=False)[0].as_py() == line_of(5).encode()
        assert one.read(7, {"parts": [2, 0]})["parts"] == [parts_of(7)[2], parts_of(7)[0]]
        with one.open(9, "line") as file:
            file.seek(11)
            assert file.read(30) == line_of(9).encode()[11:41]
        assert [r["n"] for r in one.fetch([4, 2])] == [4, 2]


def test_pickled_views_and_threads_read_them(trained: Path) -> None:
    with sqlstore.open(trained) as one:
        copy = pickle.loads(pickle.dumps(one.where("n % 3 = 1")))
    numbers = list(range(1, ENOUGH, 3))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: copy.raw(i, "line"), list(range(len(numbers))) * 4))
    assert found == [line_of(n).encode() for n in numbers] * 4


LINES = trained_with([line_of(i).encode() for i in range(ENOUGH)], 8 * sqlstore.KiB, bytes) or b""
ONE = Dictionaries(lambda _: LINES)
TEXTS = st.one_of(
    st.none(),
    st.just(""),
    st.integers(0, 10**6).map(line_of),
    st.text(max_size=40),
    st.integers(0, 10**6).map(lambda n: line_of(n) * 50),
)


@pytest.fixture(scope="module")
def growing(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(trained, tmp_path_factory.mktemp("growing") / "s")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(TEXTS, min_size=1, max_size=5), parts=st.lists(TEXTS, max_size=5))
def test_what_was_compressed_with_a_dictionary_comes_back(
    growing: Path, texts: list[str | None], parts: list[str | None]
) -> None:
    items = [one for one in parts if one is not None]
    with sqlstore.open(growing, "a") as one:
        before = len(one)
        one.extend({"line": text, "parts": items, "n": None} for text in texts)
        assert [record["line"] for record in one[before:]] == texts
        assert [record["parts"] for record in one[before:]] == [items] * len(texts)
        raws = [None if text is None else text.encode() for text in texts]
        assert one[before:].blobs("line").to_pylist() == raws
        for position, raw in enumerate(raws, start=before):
            assert one.raw(position, "line") == raw


def test_few_values_wait_for_a_dictionary_with_plain_zstd(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s")
    append(path, 0, 50)
    assert dictionaries(path) == []
    assert set(compressions(path)) == {"zstd"}
    append(path, 50, 50 + ENOUGH)
    append(path, 50 + ENOUGH, 60 + ENOUGH)
    found = compressions(path)
    assert set(found[:50]) == {"zstd"}
    assert set(found[50:]) == {"dictionary 0"}
    check(path, list(range(60 + ENOUGH)))


def test_what_a_dictionary_does_not_help_is_stored_without(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    with sqlstore.create(
        tmp_path / "s", fields={"f": "bytes", "g": "bytes"}, compression="dictionary"
    ) as one:
        one.extend({"f": noise.bytes(800), "g": b"a" * i} for i in range(400))
        (n,) = one.sql("SELECT count(*) AS n FROM dictionaries WHERE field = 0")["n"].to_pylist()
        assert n == 0
        assert one.verify()
    assert set(compressions(tmp_path / "s", "f")) == {"none"}


def test_tables_are_compressed_with_dictionaries_too(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s")
    table = pa.table({"line": [line_of(i) for i in range(ENOUGH)], "n": range(ENOUGH)})
    with sqlstore.open(path, "a") as one:
        one.extend(table)
        assert one[3] == {"line": line_of(3), "parts": None, "n": 3}
    assert set(compressions(path)) == {"dictionary 0"}


def phrases(number: int) -> str:
    """Return some of a thousand phrases, of which only a large dictionary can hold the most."""
    chosen = np.random.default_rng(number).integers(0, 1000, 8).tolist()
    return " ".join(hashlib.sha256(str(one).encode()).hexdigest()[:40] for one in chosen)


def test_a_larger_dictionary_follows_when_there_is_much_more(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s")
    bounds = [(0, 250), (250, 500), (500, 3000), (3000, 3020)]
    with sqlstore.open(path, "a") as one, one.writer() as writer:
        for start, stop in bounds:
            writer.extend({"line": phrases(i), "n": i} for i in range(start, stop))
            writer.commit()
        assert [record["line"] for record in one] == [phrases(i) for i in range(3020)]
    small, large = (row["length"] for row in dictionaries(path))
    assert 4 * small <= large <= 112 * sqlstore.KiB
    found = Counter(compressions(path))
    assert found == {"dictionary 0": 500, "dictionary 1": 2520}


@pytest.mark.parametrize("same", [True, False])
def test_two_writers_may_train_at_once(tmp_path: Path, same: bool) -> None:
    """One looks up which number is free, and the other takes it before the first can."""
    path = new_store(tmp_path / "s")
    faster = records_of(0, ENOUGH, ["line", "parts"] if same else ["parts"])
    with (
        sqlstore.open(path, "a") as one,
        sqlstore.open(path, "a") as other,
        one.writer() as first,
        other.writer() as second,
    ):
        real = second._committer.look_up
        overtaken: list[int] = []

        def look_up(read: Any) -> Any:
            found = real(read)
            if found == 0 and not overtaken:
                first.extend(faster)
                overtaken.append(len(first.commit()))
            return found

        with mock.patch.object(second._committer, "look_up", look_up):
            second.extend(records_of(ENOUGH, 2 * ENOUGH))
            second.commit()
        assert overtaken == [ENOUGH]
        assert [record["line"] for record in second_half(path)] == [
            line_of(i) for i in range(ENOUGH, 2 * ENOUGH)
        ]
        assert one.verify()
    # Of one field, the faster one's is used; of another, the next number is taken.
    fields = [(row["number"], row["field"]) for row in dictionaries(path)]
    assert fields == ([(0, 0), (1, 1)] if same else [(0, 1), (1, 0)])
    assert set(compressions(path)[-ENOUGH:]) == {f"dictionary {0 if same else 1}"}


def second_half(path: Path) -> list[dict[str, Any]]:
    with sqlstore.open(path) as store:
        return list(store[ENOUGH:])


def test_a_writer_that_is_open_uses_the_dictionary_of_another(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s")
    with sqlstore.open(path, "a") as one, one.writer() as writer:
        writer.extend(records_of(0, 5))
        writer.commit()
        append(path, 5, 5 + ENOUGH)
        writer.extend(records_of(5 + ENOUGH, 9 + ENOUGH))
    assert compressions(path)[-4:] == ["dictionary 0"] * 4
    assert len(dictionaries(path)) == 2


def test_the_most_dictionaries_are_not_exceeded(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FIRST + MOST - 1 == 255
    monkeypatch.setattr("sqlstore.compressors.MOST", 4)
    with sqlstore.open(store, "a") as one, one.writer() as writer:
        numbers = [writer._compressors.commit(0, b"no dictionary") for _ in range(3)]
        assert numbers == [2, 3, None]
        writer.extend(records_of(ENOUGH, 2 * ENOUGH))
    found = compressions(store)
    assert set(found[ENOUGH:]) == {"zstd"}
    check(store, list(range(2 * ENOUGH)))


def test_rebuild_gives_the_same_dictionaries(store: Path) -> None:
    before = dictionaries(store)
    (store / "index.sqlite").unlink()
    sqlstore.rebuild(store)
    assert dictionaries(store) == before
    append(store, ENOUGH, ENOUGH + 3)
    check(store, list(range(ENOUGH + 3)))
    assert len(dictionaries(store)) == 2


def test_the_cache_names_them(store: Path) -> None:
    check(store, list(range(ENOUGH)))
    places = held(store).dictionaries
    expected = [{k: v for k, v in row.items() if k != "name"} for row in dictionaries(store)]
    assert [{name: getattr(place, name) for name in expected[0]} for place in places] == expected


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60), length=st.integers(0, 2_000))
def test_no_bytes_raise_anything_but_a_decode_error(data: bytes, length: int) -> None:
    with suppress(sqlstore.DecodeError):
        assert len(decompress(data, FIRST, length, ONE)) == length


def test_a_frame_of_another_size_is_refused_before_memory_is_taken_for_it() -> None:
    raw = line_of(5).encode()
    body = compressor(LINES)(raw)
    assert decompress(body, FIRST, len(raw), ONE) == raw
    vast = bytes([0b11100000]) + (2**50).to_bytes(8, "little") + body[3:]  # says that it is so long
    for data, size in [
        (body, len(raw) + 1),
        (body[:-1], len(raw)),
        (body + b"a", len(raw)),
        (vast, len(raw)),
    ]:
        with pytest.raises(sqlstore.DecodeError):
            decompress(data, FIRST, size, ONE)
    with pytest.raises(sqlstore.DecodeError, match="dictionary 1 is not known"):
        decompress(body, FIRST + 1, len(raw))
    other = Dictionaries(lambda _: b"no dictionary")
    with pytest.raises(sqlstore.DecodeError, match="dictionary 0 is none"):
        decompress(body, FIRST, len(raw), other)
