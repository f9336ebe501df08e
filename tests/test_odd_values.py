"""Values that nobody sends on purpose: each is kept exactly, or refused with a clear error."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zstandard
from PIL import Image

import sqlstore
from sqlstore.compression import decompress
from sqlstore.dictionaries import FIRST, Dictionaries, compressor
from sqlstore.encodings import ENCODINGS

FLAT = np.zeros(2, [("a", "f4"), ("b", "i2", (2,))])
NESTED = np.zeros(2, [("a", "f4"), ("b", [("c", "u1"), ("d", "M8[25s]")])])


@pytest.mark.parametrize("encoding", ["array", "npy"])
@pytest.mark.parametrize("array", [FLAT, NESTED, FLAT[:0]], ids=["flat", "nested", "none"])
def test_fields_that_a_reader_renames_are_his_own(encoding: str, array: np.ndarray) -> None:
    data = ENCODINGS[encoding].encode(array)
    for _ in range(2):
        found = ENCODINGS[encoding].decode(data)
        assert found.dtype == array.dtype
        found.dtype.names = ("new", "names")
        if array is NESTED:
            found.dtype["names"].names = ("other", "words")


def test_fields_of_stacked_arrays_are_the_readers_own(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"x": "array"}) as store:
        store.extend([{"x": FLAT}] * 2)
        store.stack("x").dtype.names = ("new", "names")
        assert store.stack("x").dtype == store[0]["x"].dtype == FLAT.dtype


@pytest.mark.parametrize("encoding", ["array", "npy", "png", "jpg"])
def test_an_array_with_a_mask_is_refused(encoding: str) -> None:
    pixels = np.ma.masked_array(np.zeros((4, 4), np.uint8), mask=np.eye(4, dtype=bool))
    with pytest.raises(sqlstore.EncodeError, match="would lose its mask"):
        ENCODINGS[encoding].encode(pixels)


@pytest.mark.parametrize("encoding", ["bytes", "npy", "png", "jpg"])
def test_a_released_memoryview_is_refused(encoding: str) -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(sqlstore.EncodeError, match="released"):
        ENCODINGS[encoding].encode(view)


@pytest.mark.parametrize("encoding", ["npy", "png", "jpg"])
def test_a_memoryview_is_the_bytes_of_a_file_whatever_its_format(encoding: str) -> None:
    image = np.zeros((4, 4), np.uint8)
    made = bytes(ENCODINGS[encoding].encode(image))
    made += bytes(-len(made) % 4)
    assert ENCODINGS[encoding].encode(memoryview(made).cast("I")) == made
    with pytest.raises(sqlstore.EncodeError, match=r"these bytes are not an? "):
        ENCODINGS[encoding].encode(np.array(5).data)


@pytest.mark.parametrize("encoding", ["png", "jpg"])
def test_arrays_of_no_pixels_are_refused(encoding: str) -> None:
    kinds: list[Any] = ["bool", "i1", "f4", "V1", "S1", "M8[s]", [("a", "u1")], object]
    if hasattr(np.dtypes, "StringDType"):
        kinds.append(np.dtypes.StringDType())
    for kind in kinds:
        with pytest.raises(sqlstore.EncodeError, match="is not stored as"):
            ENCODINGS[encoding].encode(np.zeros((2, 2), kind))


@pytest.mark.parametrize("encoding", ["array", "npy", "tree"])
def test_one_value_repeated_without_end_is_refused_before_it_is_copied(encoding: str) -> None:
    with pytest.raises(sqlstore.EncodeError, match="140737488355328 bytes; the limit is"):
        ENCODINGS[encoding].encode(np.broadcast_to(np.float32(1), (2**45,)))


@pytest.mark.parametrize("dtype", [[("x", "f4")], [("é", "f4")], [("é你", "f4")]])
def test_npy_files_of_any_field_names_come_without_a_warning(dtype: list[Any]) -> None:
    array = np.zeros(2, dtype)
    data = bytes(ENCODINGS["npy"].encode(array))
    assert ENCODINGS["npy"].decode(data).dtype == array.dtype
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.save(stream, array)
    assert data == stream.getvalue(), "NumPy chooses the same version"


def test_text_of_a_derived_class_is_the_text_and_not_what_its_methods_say() -> None:
    class Loud(str):
        __slots__ = ()

        def encode(self, *_: object) -> bytes:
            return b"LOUD"

    assert ENCODINGS["utf8"].encode(Loud("quiet")) == b"quiet"


def test_a_tree_with_a_float_beyond_all_floats_is_refused() -> None:
    text = b'{"float":' + b"9" * 400 + b"}"
    with pytest.raises(sqlstore.DecodeError, match="not a tree"):
        ENCODINGS["tree"].decode(struct.pack("<I", len(text)) + text)


def damaged_png() -> bytes:
    """Return a PNG file with a colour profile of no bytes behind the pixels."""
    stream = io.BytesIO()
    Image.new("L", (3, 3)).save(stream, "PNG")
    made, profile = stream.getvalue(), b"iCCP"
    chunk = struct.pack(">I", 0) + profile + struct.pack(">I", zlib.crc32(profile))
    return made[:-12] + chunk + made[-12:]


def test_whatever_pillow_raises_of_a_damaged_image_is_a_decode_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sqlstore.encodings.fast_images.decode", lambda *_: None)
    with pytest.raises(sqlstore.DecodeError, match="not a PNG image"):
        ENCODINGS["png"].decode(damaged_png())
    with (
        Image.open(io.BytesIO(damaged_png())) as unread,
        pytest.raises(sqlstore.EncodeError, match="cannot be stored"),
    ):
        ENCODINGS["png"].encode(unread)


def failing(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield b"%d" % number
    raise OSError("the camera is gone")


def test_a_sequence_whose_iterator_fails_is_refused_as_a_whole(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"x": "bytes[]"}) as store:
        with store.writer() as writer:
            with pytest.raises(sqlstore.EncodeError, match="camera is gone") as caught:
                writer.append({"x": failing(3)})
            writer.append({"x": [b"whole"]})
        assert (caught.value.where["item"], caught.value.where["field"]) == (3, "x")
        assert [record["x"] for record in store] == [[b"whole"]]


def test_an_item_that_does_not_fit_is_named_also_out_of_an_iterator(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"x": "bytes[]"}) as store:
        with pytest.raises(sqlstore.EncodeError, match="expected bytes, got int") as caught:
            store.extend([{"x": iter([b"0", b"1", 2])}])
        assert caught.value.where["item"] == 2


@pytest.mark.parametrize("wrong", [(1, 2), [{"a": (1,)}], {1: 2}, {"a": {None: 1}}])
def test_json_is_refused_alike_as_a_column_and_as_an_encoding(tmp_path: Path, wrong: Any) -> None:
    with sqlstore.create(
        tmp_path / "s", fields={"field": "json"}, metadata={"column": "json"}
    ) as store:
        said = []
        for name in ("field", "column"):
            for records in ([{name: wrong}], pd.DataFrame({name: [None, wrong]})):
                with pytest.raises(sqlstore.SchemaError, match="JSON would change it") as caught:
                    store.extend(records)
                said.append(caught.value.message.partition("JSON would")[2])
        assert len(set(said)) == 1
        assert len(store) == 0


def test_a_map_of_arrow_is_a_json_object(tmp_path: Path) -> None:
    texts = pa.map_(pa.string(), pa.int64())
    with sqlstore.create(tmp_path / "s", metadata={"j": "json"}) as store:
        store.extend(pa.table({"j": pa.array([[("a", 1), ("b", 2)], None, []], texts)}))
        assert [record["j"] for record in store] == [{"a": 1, "b": 2}, None, {}]
        twice = pa.array([[("a", 1), ("a", 2)]], texts)
        numbers = pa.array([[(1, 1)]], pa.map_(pa.int64(), pa.int64()))
        for array, why in ((twice, "a key twice"), (numbers, "the key 1 would")):
            with pytest.raises(sqlstore.SchemaError, match=why):
                store.extend(pa.table({"j": array}))


def test_a_frame_with_lists_of_arrays_is_committed_in_pieces(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(0)
    nested = [{"deep": [random.random(125)]} for _ in range(8)]
    lists = [list(random.random((2, 60))) for _ in range(8)]
    for name, encoding, values in (("a", "array[]", lists), ("t", "tree", nested)):
        with (
            sqlstore.create(tmp_path / name, fields={"x": encoding}) as store,
            store.writer(commit_bytes=4000) as writer,
        ):
            writer.extend(pd.DataFrame({"x": values}))
            writer.commit()
            commits = store.sql("SELECT records FROM commits WHERE records > 0")
            assert commits["records"].to_pylist() == [4, 4]


def test_a_value_that_contains_itself_is_refused_however_it_comes(tmp_path: Path) -> None:
    wheel: list[Any] = []
    wheel += [wheel, wheel]
    tail: list[Any] = ["a"]
    tail.append(tail)
    with sqlstore.create(tmp_path / "s", fields={"x": "tree"}) as store:
        for records in ([{"x": wheel}], pd.DataFrame({"x": [wheel, None]})):
            with pytest.raises(sqlstore.EncodeError, match="contains itself"):
                store.extend(records)
    for value in (wheel, tail):
        with pytest.raises(sqlstore.EncodeError, match="contains itself"):
            sqlstore.create(tmp_path / "t", [{"x": value}])


def lying_frame(size: int) -> tuple[bytes, bytes]:
    """Return a dictionary, and a frame without magic that says it holds so many bytes."""
    samples: list[Any] = [json.dumps({"a": n, "b": [n % 7] * 3}).encode() for n in range(2000)]
    known = zstandard.train_dictionary(1024, samples).as_bytes()
    frame = bytearray(compressor(known)(samples[5] * 100))
    assert frame[0] >> 6 == 1, "its size lies in two bytes"
    frame[0] = frame[0] & 0x3F | 0x80  # in four
    frame[1:3] = struct.pack("<I", size)
    return known, bytes(frame)


@pytest.mark.parametrize("error", [None, MemoryError()])
def test_a_frame_that_lies_about_its_size_is_a_decode_error(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, frame = lying_frame(2**28)
    dictionaries = Dictionaries(lambda _: known)
    if error is not None:

        def out_of_memory(*_: object, **__: object) -> bytes:
            raise error

        made: Callable[..., Any] = lambda _: out_of_memory  # noqa: E731 - of one line
        dictionaries._content_size = zstandard.frame_content_size
        monkeypatch.setattr(dictionaries, "_made", made)
    with pytest.raises(sqlstore.DecodeError, match="cannot decompress"):
        decompress(frame, FIRST, 2**28, dictionaries)


@pytest.mark.parametrize(
    "wrong", [(1,), (1, 2), True, np.True_, 1.0, None, "1", [1], slice(1), np.array([1])]
)
@pytest.mark.parametrize("is_warm", [False, True])
def test_a_position_is_one_integer_for_every_kind_of_view(
    tmp_path: Path, wrong: Any, is_warm: bool
) -> None:
    with sqlstore.create(tmp_path / "s", fields={"x": "bytes"}) as store:
        store.extend({"x": b"%d" % n} for n in range(4))
        for view in (store, store[1:], store.take([3, 2, 1])):
            if is_warm:
                view.raw(0, "x")
            with pytest.raises(TypeError):
                view.raw(wrong, "x")
            assert view.raw(np.int8(-1), "x") == view.raw(np.array(len(view) - 1), "x")


@pytest.mark.parametrize("wrong", [b"\0\1", bytearray(1), {0, 1}, {0: 1}.keys(), {0: 1}])
def test_items_are_chosen_by_numbers_in_an_order(tmp_path: Path, wrong: Any) -> None:
    with sqlstore.create(tmp_path / "s", fields={"x": "bytes[]"}) as store:
        store.extend([{"x": [b"0", b"1"]}])
        with pytest.raises(TypeError, match="items are True, a slice, a range or a list"):
            store.read(0, {"x": wrong})


@pytest.mark.parametrize("wrong", [["x"], "x", None, 5, {"x"}])
def test_a_mask_is_a_mapping(tmp_path: Path, wrong: Any) -> None:
    with sqlstore.create(tmp_path / "s", fields={"x": "bytes[]"}) as store:
        store.extend([{"x": [b"0", b"1"]}])
        with pytest.raises(TypeError, match="a mask is a mapping such as"):
            store.read(0, wrong)
