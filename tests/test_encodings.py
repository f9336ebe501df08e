"""Fields: what an encoding takes comes back as it was; the rest is refused before it is written."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import sqlstore
from sqlstore.encodings import ENCODINGS, fast_images

FIELDS: dict[str, str | sqlstore.Field] = {
    "bytes": "bytes",
    "utf8": "utf8",
    "array": "array",
    "png": "png",
    "plain bytes": sqlstore.Field("bytes", compression=None),
    "plain utf8": sqlstore.Field("utf8", compression=None),
    "plain array": sqlstore.Field("array", compression=None),
}

modest = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("encodings") / "store"
    with sqlstore.create(path, fields=FIELDS, metadata={"n": "int64"}) as opened:
        yield opened


def kept(store: sqlstore.Store, field: str, value: object) -> Any:
    (record,) = store.extend([{field: value}])
    return store.get(int(record))[field]


BYTES = st.one_of(
    st.sampled_from([b"", b"\0"]), st.builds(lambda: bytes(100_000)), st.binary(max_size=50)
)
TEXT = st.one_of(
    st.sampled_from(["", "\0", "a\0b"]), st.builds(lambda: "é" * 50_000), st.text(max_size=30)
)


@modest
@given(
    records=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "bytes": st.none() | BYTES,
                "plain bytes": st.none() | BYTES,
                "utf8": st.none() | TEXT,
                "plain utf8": st.none() | TEXT,
            },
        ),
        max_size=5,
    )
)
def test_bytes_and_text_come_back_as_they_were(
    store: sqlstore.Store, records: list[dict[str, Any]]
) -> None:
    view = store.take(store.extend(records))

    names = ("bytes", "plain bytes", "utf8", "plain utf8")
    found = [{name: record[name] for name in names} for record in view]
    assert found == [{name: record.get(name) for name in names} for record in records]


DTYPES = st.one_of(
    hnp.scalar_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.byte_string_dtypes(min_len=1, max_len=5),
    hnp.unicode_string_dtypes(min_len=1, max_len=5),
)
SHAPES = st.one_of(
    st.sampled_from([(), (0,), (0, 3), (3, 0, 2), (1, 1)]), hnp.array_shapes(max_dims=4, max_side=4)
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Return arrays of every plain dtype, some of them in another order or with gaps."""
    array: np.ndarray[Any, Any] = draw(hnp.arrays(draw(DTYPES), draw(SHAPES)))
    how = draw(st.sampled_from(["as is", "fortran", "transposed", "every second", "reversed"]))
    if how == "fortran":
        return np.asfortranarray(array)
    if how == "transposed":
        return array.T
    if array.ndim and how == "every second":
        return array[..., ::2]
    if array.ndim and how == "reversed":
        return array[::-1]
    return array


@modest
@given(given_=st.lists(st.none() | arrays(), min_size=1, max_size=5))
def test_an_array_keeps_dtype_shape_values_and_order(
    store: sqlstore.Store, given_: list[np.ndarray[Any, Any] | None]
) -> None:
    view = store.take(store.extend({"array": a, "plain array": a} for a in given_))

    for name in ("array", "plain array"):
        for found, array in zip((record[name] for record in view), given_, strict=True):
            if array is None:
                assert found is None
                continue
            assert isinstance(found, np.ndarray)
            assert found.dtype.str == array.dtype.str
            assert found.shape == array.shape
            assert found.tobytes() == array.tobytes()
            is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
            assert found.flags.f_contiguous if is_fortran else found.flags.c_contiguous
            assert found.flags.writeable
            assert found.flags.aligned


@pytest.mark.parametrize(
    "scalar",
    [
        np.float32(1.5), np.bool_(True), np.str_("é"), np.bytes_(b"ab"),
        np.datetime64("2020-01-01"), np.datetime64("NaT"), np.timedelta64(3, "s"), np.complex64(1j),
    ],
)  # fmt: skip
def test_a_numpy_scalar_becomes_an_array_without_dimensions(
    store: sqlstore.Store, scalar: np.generic
) -> None:
    found = kept(store, "array", scalar)

    assert (found.shape, found.dtype) == ((), scalar.dtype)
    assert found.tobytes() == scalar.tobytes()


def test_long_doubles_keep_their_values(store: sqlstore.Store) -> None:
    array = np.array([1, 2], np.longdouble) / 3
    found = kept(store, "array", array)

    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_a_type_with_a_multiplied_unit_is_kept(store: sqlstore.Store) -> None:
    array = np.array(["2020-01-01", "NaT"], "datetime64[25us]")

    assert kept(store, "array", array).dtype == array.dtype


def test_text_of_no_length_is_kept(store: sqlstore.Store) -> None:
    for kind in ("S0", "U0", "V0"):
        found = kept(store, "array", np.zeros((3, 2), [("a", kind)])["a"])

        assert (found.dtype, found.dtype.itemsize, found.shape) == (np.dtype(kind), 0, (3, 2))


def test_a_mask_is_not_dropped_in_silence(store: sqlstore.Store) -> None:
    masked = np.ma.masked_array([1, 2], [True, False])

    with pytest.raises(sqlstore.EncodeError):
        store.extend([{"array": masked}])


def test_what_comes_back_is_the_callers_own(store: sqlstore.Store) -> None:
    (record,) = store.extend([{"array": np.arange(5)}])
    store.get(int(record))["array"][:] = 0

    assert store.get(int(record))["array"].tolist() == [0, 1, 2, 3, 4]


def _wrong_values() -> list[Any]:
    wrong: dict[str, list[object]] = {
        "bytes": ["a", 1, 1.5, [1], np.arange(3), object()],
        "utf8": [b"a", 1, ["a"], "\ud800", bytearray(b"a")],
        "array": [
            1, 1.5, "a", b"a", [1], (1, 2), np.array([{}]), np.array([1], object),
            np.zeros(2, [("a", "f4"), ("b", "O")]), np.array(["a"], np.dtypes.StringDType()),
        ],
        "png": [
            1, "a", [1], b"", b"GIF89a", b"\xff\xd8\xff\xe0 a JPEG", np.zeros((2, 2)),
            np.zeros(4, np.uint8), np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 5), np.uint8),
            np.zeros((0, 2), np.uint8), np.zeros((2, 2, 3), np.uint16), np.zeros((2, 2), np.int8),
            np.zeros((2, 2), bool), np.zeros((1, 2, 2, 3), np.uint8),
            *(Image.new(mode, (2, 2)) for mode in ("1", "P", "PA", "I", "F", "CMYK", "I;16B")),
        ],
    }  # fmt: skip
    return [
        pytest.param(name, value, id=f"{name}-{number}-{type(value).__name__}")
        for name, values in wrong.items()
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(("field", "value"), _wrong_values())
def test_a_wrong_value_is_refused_with_its_place_and_nothing_of_the_record_is_kept(
    store: sqlstore.Store, field: str, value: object
) -> None:
    before = len(store)
    with store.writer() as writer:
        writer.append({"n": 1, "plain bytes": b"before"})
        with pytest.raises(sqlstore.EncodeError) as caught:
            writer.append({"n": 2, "plain bytes": b"wrong", field: value})
        writer.append({"n": 3, "plain bytes": b"after"})

    assert caught.value.where == {"field": field, "row": 1}
    assert isinstance(caught.value, sqlstore.SchemaError)
    assert [record["n"] for record in store[before:]] == [1, 3]
    assert [record["plain bytes"] for record in store[before:]] == [b"before", b"after"]


SHADES = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
DEEP = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5461


def png(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        SHADES[..., 0], SHADES[..., :2], SHADES[..., :3], SHADES, SHADES[:1, :1, 0], DEEP,
        np.asfortranarray(SHADES), SHADES[::-1, ::2, :3], DEEP.T, DEEP.astype(">u2"),
    ],
    ids=["L", "LA", "RGB", "RGBA", "one pixel", "16 bits", "fortran", "strided", "transposed",
         "big-endian"],
)  # fmt: skip
def test_an_image_keeps_every_pixel(store: sqlstore.Store, array: np.ndarray[Any, Any]) -> None:
    found = kept(store, "png", array)

    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)
    assert store.raw(-1, "png") is not None


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_a_pillow_image_keeps_every_pixel(store: sqlstore.Store, mode: str) -> None:
    image = Image.new(mode, (3, 2), 7 if mode in ("L", "I;16") else (7, 8, 9, 10)[: len(mode)])

    np.testing.assert_array_equal(kept(store, "png", image), np.array(image))


def test_the_bytes_of_a_png_are_kept_as_they_are(store: sqlstore.Store) -> None:
    made = png(Image.fromarray(SHADES), compress_level=0)
    for given_ in (made, bytearray(made), memoryview(made)):
        found = kept(store, "png", given_)
        assert store.raw(-1, "png") == made
        np.testing.assert_array_equal(found, SHADES)


def test_a_palette_is_resolved_to_the_colours_that_people_see(store: sqlstore.Store) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)

    assert kept(store, "png", png(image)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    transparent = kept(store, "png", png(image, transparency=0))
    assert transparent.tolist() == [[[10, 20, 30, 0], [40, 50, 60, 255]]]
    two_tones = kept(store, "png", png(Image.new("1", (2, 1), 1)))
    assert two_tones.tolist() == [[255, 255]]


@pytest.mark.parametrize("length", [8, 20, 60])
def test_a_png_cut_short_is_a_decode_error_that_names_the_record(
    store: sqlstore.Store, length: int
) -> None:
    (record,) = store.extend([{"png": png(Image.fromarray(SHADES))[:length]}])

    with pytest.raises(sqlstore.DecodeError, match="PNG") as caught:
        store.get(int(record))
    assert caught.value.where == {"record": record, "field": "png"}


def test_images_need_pillow_and_say_so(
    store: sqlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = store.extend([{"png": SHADES}])
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setattr(fast_images, "decode", lambda *_: None)
    for use in (
        lambda: store.extend([{"png": SHADES}]),
        lambda: store.get(int(record)),
    ):
        with pytest.raises(sqlstore.MissingPackageError, match=r"pip install 'sqlstore\[images\]'"):
            use()


def stored_array(flags: int, name: bytes, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    header = struct.pack("<BBH", flags, len(shape), len(name))
    return header + name + struct.pack(f"<{len(shape)}Q", *shape) + data


def test_an_array_lies_as_the_format_says() -> None:
    array = np.array([[1, 2, 3], [4, 5, 6]], "<i2")
    as_rows = stored_array(0, b"<i2", (2, 3), array.tobytes())
    as_columns = stored_array(1, b"<i2", (2, 3), array.tobytes("F"))

    assert ENCODINGS["array"].encode(array) == as_rows
    assert ENCODINGS["array"].encode(np.asfortranarray(array)) == as_columns
    for data in (as_rows, as_columns, memoryview(as_rows)):
        np.testing.assert_array_equal(ENCODINGS["array"].decode(data), array)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0\0\0", stored_array(2, b"<f8", (1,), bytes(8)),
        stored_array(0, b"<f8", (1,), bytes(7)), stored_array(0, b"<f8", (1,), bytes(9)),
        stored_array(0, b"<f8", (2**63, 0)), stored_array(0, b"<f8", (0, 2**62)),
        stored_array(0, b"<f8", (2**32, 2**32), bytes(8)), stored_array(0, b"|O", (1,), bytes(8)),
        stored_array(0, b"f8,f8", (1,), bytes(16)), stored_array(0, b"(2,)f8", (1,), bytes(16)),
        stored_array(0, b"((((", (1,), bytes(8)), stored_array(0, b"\xff", (1,), bytes(8)),
        stored_array(0, b"", (1,), bytes(8)), stored_array(0, b"|S0", (5,), b"a"),
        stored_array(0, b"|V4", (1,), bytes(3)), stored_array(0, b"<f8", (1,) * 200, bytes(8)),
        stored_array(0, b"[('a', 'O')]", (1,), bytes(8)), stored_array(0, b"[1]", (1,), bytes(8)),
        stored_array(0, b"[" + b"-" * 60_000 + b"1]", (1,)), stored_array(0, b"{}", (1,)),
        stored_array(0, b"{'names': ['a'], 'formats': ['|O']}", (1,), bytes(8)),
        stored_array(0, b"{'names': ['a'], 'formats': [3]}", (1,), bytes(8)),
        stored_array(0, b"{'names': ['a'], 'formats': [('<i4', 3)]}", (1,), bytes(12)),
        stored_array(0, b"{'names': ['a'], 'formats': ['<i4'], 'offsets': [-4]}", (1,), bytes(4)),
        stored_array(0, b"bfloat17", (1,), bytes(2)), stored_array(0, b"float8_e9", (1,), b"a"),
        stored_array(0, b"T", (1,), bytes(16)), stored_array(0, b"a3", (1,), b"abc"),
        stored_array(0, b"float64", (1,), bytes(8)), stored_array(0, b"f", (1,), bytes(4)),
    ],
)  # fmt: skip
def test_bytes_that_are_no_array_are_a_decode_error(data: bytes) -> None:
    with pytest.raises(sqlstore.DecodeError):
        ENCODINGS["array"].decode(data)


@given(data=st.binary(max_size=60))
@settings(max_examples=80, deadline=None)
def test_no_bytes_make_an_encoding_raise_anything_but_a_decode_error(data: bytes) -> None:
    for name in ("bytes", "utf8", "array"):
        try:
            ENCODINGS[name].decode(data)
        except sqlstore.DecodeError:
            continue


def test_bytes_that_are_no_text_are_a_decode_error() -> None:
    with pytest.raises(sqlstore.DecodeError, match="UTF-8"):
        ENCODINGS["utf8"].decode(b"\xff")


def test_everything_was_written_as_verify_expects(store: sqlstore.Store) -> None:
    store.extend([{"bytes": b"last"}])

    assert store.verify().faults == []
