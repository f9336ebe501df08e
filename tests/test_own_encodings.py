"""Encodings that are to be allowed or registered: pickle, and those of one's own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Final

import pytest

import sqlstore
from sqlstore import DecodeError, EncodeError, EncodingUnavailableError, SchemaError, Store
from sqlstore.encodings import ENCODINGS, Encodings
from tests.values import ENCODINGS_OF_OWN, OWN, backwards


def create(path: Path, encoding: str, **how: Any) -> Store:
    return sqlstore.create(path / "store", fields={"f": encoding}, **how)


# Pickle


def test_pickle_is_to_be_allowed_by_writer_and_reader(tmp_path: Path) -> None:
    with pytest.raises(EncodingUnavailableError, match="allow_pickle=True"):
        create(tmp_path, "pickle")
    with create(tmp_path, "pickle", allow_pickle=True) as store:
        store.extend([{"f": {1, 2}}])
    with sqlstore.open(tmp_path / "store", "a") as store:
        for use in (
            lambda: store[0],
            lambda: store.extend([{"f": 1}]),
            lambda: pickle.loads(pickle.dumps(store))[0],
        ):
            with pytest.raises(EncodingUnavailableError, match="allow_pickle=True") as caught:
                use()
            assert caught.value.where["field"] == "f"
        raw = store.raw(0, "f")
        assert raw is not None
        assert pickle.loads(raw) == {1, 2}
        assert store.verify()
    with sqlstore.open(tmp_path / "store", allow_pickle=True) as store:
        assert store[0] == pickle.loads(pickle.dumps(store))[0] == {"f": {1, 2}}


class Sulky:
    def __reduce__(self) -> Any:
        raise KeyError("no")


def test_what_does_not_pickle_is_refused() -> None:
    for value in (lambda: 1, Sulky()):
        with pytest.raises(EncodeError, match="pickled"):
            ENCODINGS["pickle"].encode(value)
    with pytest.raises(DecodeError, match="unpickled"):
        ENCODINGS["pickle"].decode(b"")


# Encodings of one's own


def test_an_encoding_that_is_not_registered_gives_raw_and_a_clear_error(tmp_path: Path) -> None:
    create(tmp_path, OWN, encodings=ENCODINGS_OF_OWN).close()
    with sqlstore.open(tmp_path / "store", "a", encodings=ENCODINGS_OF_OWN) as store:
        store.extend([{"f": "owl"}, {}])
    with sqlstore.open(tmp_path / "store", "a") as store:
        assert store.schema.fields["f"].encoding == OWN
        assert store.raw(0, "f") == backwards("owl")
        assert store.blobs("f").to_pylist() == [backwards("owl"), None]
        assert store.available(0) == {"f": True}
        message = rf"'{OWN}' is not an encoding.*encodings=\{{'{OWN}': \(encode, decode\)\}}"
        for use in (lambda: store[0], lambda: store.extend([{"f": "a"}]), lambda: store.fetch([0])):
            with pytest.raises(EncodingUnavailableError, match=message) as caught:
                use()
            assert caught.value.where["field"] == "f"
        assert store.verify()
    sqlstore.rebuild(tmp_path / "store")
    with sqlstore.open(tmp_path / "store", encodings=ENCODINGS_OF_OWN) as store:
        assert store[0] == {"f": "owl"}


def test_an_unknown_encoding_of_a_new_store_is_refused(tmp_path: Path) -> None:
    for name in (OWN, f"{OWN}[]", "int[][]", "", "[]", "JPG"):
        with pytest.raises(EncodingUnavailableError, match="is not an encoding"):
            create(tmp_path, name)
    assert not (tmp_path / "store").exists()


def fail(_: object) -> Any:
    raise RuntimeError("out of order")


def test_functions_that_fail_are_errors_of_the_value(tmp_path: Path) -> None:
    with create(tmp_path, "mine", encodings={"mine": (fail, fail)}) as store:
        with pytest.raises(EncodeError, match=r"encode function failed: RuntimeError\('out") as one:
            store.extend([{"f": 1}])
        assert one.value.where == {"field": "f", "row": 0}
    gives_text: Any = {"mine": (repr, fail)}
    with sqlstore.open(tmp_path / "store", "a", encodings=gives_text) as store:
        for _ in range(2):
            with pytest.raises(EncodeError, match="encode function gave str, not bytes"):
                store.extend([{"f": 1}])
    with sqlstore.open(tmp_path / "store", "a", encodings={"mine": (bytearray, fail)}) as store:
        (record,) = store.extend([{"f": b"owl"}])
        with pytest.raises(DecodeError, match="decode function failed") as other:
            store.get(int(record))
        assert other.value.where == {"record": record, "field": "f"}
        assert store.raw(0, "f") == b"owl"


def test_functions_that_do_not_pickle_stay_in_their_process(tmp_path: Path) -> None:
    mine = {"mine": (lambda value: value, lambda data: data)}
    with create(tmp_path, "mine", encodings=mine) as store:
        store.extend([{"f": b"owl"}])
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            pickle.dumps(store.take([0]))
        assert store[0] == {"f": b"owl"}


def test_a_pair_may_be_a_list(tmp_path: Path) -> None:
    mine: Any = {"mine": list(ENCODINGS_OF_OWN[OWN])}
    with create(tmp_path, "mine", encodings=mine) as store:
        store.extend([{"f": "owl"}])
        assert pickle.loads(pickle.dumps(store.take([0])))[0] == {"f": "owl"}


@pytest.mark.parametrize("name", [*ENCODINGS, "", "a b", "jpg[]", "é", "-", 1, "a" * 65])
def test_names_that_are_taken_or_no_names_are_refused(tmp_path: Path, name: Any) -> None:
    mine = {name: (bytes, bytes)}
    with pytest.raises(SchemaError, match="encoding"):
        create(tmp_path, "int", encodings=mine)
    with pytest.raises(SchemaError, match="encoding"):
        sqlstore.open(tmp_path, encodings=mine)


PAIRS: Final[list[Any]] = [None, bytes, (bytes,), (bytes, None), (bytes, bytes, bytes), "ab"]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_what_is_no_pair_of_functions_is_refused(pair: Any) -> None:
    with pytest.raises(SchemaError, match="pair of functions"):
        Encodings({"mine": pair})
