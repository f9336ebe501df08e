"""Values of every encoding, and whether what came back is what was given."""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections.abc import Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

OWN: Final = "backwards"


def backwards(text: str) -> bytes:
    return text[::-1].encode("utf-16-le", "surrogatepass")


def forwards(data: bytes) -> str:
    return data.decode("utf-16-le", "surrogatepass")[::-1]


ENCODINGS_OF_OWN: Final = {OWN: (backwards, forwards)}


def picture(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


_NOISE: Final = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
JPEGS: Final = [
    picture(Image.fromarray(_NOISE), "JPEG", quality=30),
    picture(Image.new("L", (5, 3), 77), "JPEG"),
]
PICTURES: Final[list[NDArray[Any]]] = [_NOISE, _NOISE[..., 0], np.full((3, 2), 40_000, np.uint16)]

# Arrays

_BFLOAT: Final = np.dtype(ml_dtypes.bfloat16)
_PAIR: Final = np.dtype([("a", "<i4"), ("b", ">f8")])
DTYPES_OF_ML: Final = sorted(
    name
    for name, kind in vars(ml_dtypes).items()
    if isinstance(kind, type) and issubclass(kind, np.generic)
)
SPECIAL: Final[dict[str, np.dtype[Any]]] = {
    "aligned": np.dtype([("a", "i1"), ("b", "f8"), ("c", "i2")], align=True),
    "other order": np.zeros(1, _PAIR)[["b", "a"]].dtype,
    "gap": np.zeros(1, [("a", "i4"), ("b", "f8"), ("c", "i1")])[["a", "c"]].dtype,
    "overlapping": np.dtype({"names": ["x", "y"], "formats": ["<i4", "<i2"], "offsets": [0, 2]}),
    "room behind": np.dtype({"names": ["a"], "formats": ["<i4"], "offsets": [4], "itemsize": 16}),
    "nested": np.dtype([("in", [("x", "<f4", (2, 3)), ("t", ">M8[25us]")], (2,)), ("s", "S3")]),
    "titles": np.dtype([(("the title", "a"), "i1"), ("é'\"", "U2")]),
    "bfloat16 within": np.dtype([("w", _BFLOAT, (2,)), ("n", "<u2")]),
    "order and title": np.dtype(
        {"names": ["b", "a"], "formats": [_PAIR, "V3"], "offsets": [3, 0], "titles": ["t", None]}
    ),
    "void": np.dtype("V7"),
    "no text": np.dtype([("a", "S0")])["a"],
    "no letters": np.dtype([("a", "U0")])["a"],
    "nothing": np.dtype("V0"),
    "long double": np.dtype(np.longdouble),
    "swapped long double": np.dtype(np.longdouble).newbyteorder(),
    "complex of long doubles": np.dtype(np.clongdouble),
    "any time": np.dtype("M8"),
    "weeks": np.dtype("m8[2W]"),
    "many fields": np.dtype([(f"number {n}", "<i2") for n in range(700)]),
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in DTYPES_OF_ML},
}
_SIMPLE: Final = st.one_of(
    hnp.scalar_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.byte_string_dtypes(min_len=1, max_len=5),
    hnp.unicode_string_dtypes(min_len=1, max_len=5),
    st.builds(lambda size: np.dtype(f"V{size}"), st.integers(1, 9)),
)
DTYPES: Final = st.one_of(
    _SIMPLE,
    st.sampled_from(list(SPECIAL.values())),
    hnp.array_dtypes(_SIMPLE, max_size=3, allow_subarrays=True),
    hnp.nested_dtypes(_SIMPLE, max_leaves=6, max_itemsize=400),
).filter(lambda dtype: dtype.subdtype is None)
SHAPES: Final = st.one_of(
    st.sampled_from([(), (0,), (0, 3), (3, 0, 2), (1, 1)]),
    hnp.array_shapes(max_dims=3, max_side=3),
)


def filled(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int = 0) -> NDArray[Any]:
    """Return an array of any bytes: what they mean does not matter, they are to come back."""
    count = math.prod(shape)
    if not dtype.itemsize:
        empty: NDArray[Any] = np.zeros(shape, [("part", dtype)])["part"]
        return empty
    data = np.random.default_rng(seed).bytes(count * dtype.itemsize)
    return np.frombuffer(data, dtype, count).reshape(shape)


@st.composite
def arrays(draw: st.DrawFn, dtypes: st.SearchStrategy[np.dtype[Any]] = DTYPES) -> NDArray[Any]:
    """Return arrays of every dtype, some of them in another order or with gaps."""
    array = filled(draw(dtypes), draw(SHAPES), draw(st.integers(0, 9)))
    how = draw(st.sampled_from(["as it is", "fortran", "transposed", "second", "reversed"]))
    if how == "fortran" and array.dtype.itemsize:  # NumPy would make text of no length longer
        return np.asfortranarray(array)
    if how == "transposed":
        return array.T
    if array.ndim and how in ("second", "reversed"):
        return array[..., ::2] if how == "second" else array[::-1]
    return array


# Values of every encoding

INTS: Final = st.one_of(
    st.sampled_from([0, 1, -1, 127, 128, 255, 256, -128, -129, 2**63, -(2**63), 2**64, -(2**64)]),
    st.integers(),
    st.integers(-(2**2000), 2**2000),
)
TEXT: Final = st.text(max_size=20) | st.just("é" * 3000)
BYTES: Final = st.binary(max_size=20) | st.just(bytes(5000))
_FLOATS: Final = st.floats(allow_nan=False, allow_infinity=False)
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | _FLOATS | TEXT,
    lambda within: st.lists(within, max_size=3) | st.dictionaries(TEXT, within, max_size=3),
    max_leaves=8,
)
_KEYS: Final = st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT | st.binary(max_size=5)
MSGPACK: Final = st.recursive(
    st.none() | st.floats() | BYTES | _KEYS,
    lambda within: st.lists(within, max_size=3) | st.dictionaries(_KEYS, within, max_size=3),
    max_leaves=8,
)
_SCALARS: Final = st.sampled_from(
    [
        np.float32(1.5), np.int8(-3), np.bool_(True), np.str_("é"), np.str_(""), np.bytes_(b"a"),
        np.datetime64("NaT"), np.timedelta64(3, "s"), ml_dtypes.bfloat16(2), np.float64("nan"),
    ]
)  # fmt: skip
_HASHABLE: Final = st.none() | st.booleans() | INTS | st.floats() | TEXT | BYTES | _SCALARS
TREES: Final = st.recursive(
    _HASHABLE | arrays(st.sampled_from(["<f4", ">i2", "M8[s]"]).map(np.dtype)),
    lambda within: st.one_of(
        st.lists(within, max_size=3),
        st.lists(within, max_size=3).map(tuple),
        st.dictionaries(_HASHABLE | st.tuples(INTS, TEXT), within, max_size=3),
    ),
    max_leaves=8,
)
VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "bytes": BYTES,
    "utf8": TEXT,
    "int": INTS,
    "i64": st.integers(-(2**63), 2**63 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "json": JSON,
    "msgpack": MSGPACK,
    "array": arrays(),
    "npy": arrays(_SIMPLE | st.sampled_from([_PAIR, SPECIAL["nested"], SPECIAL["many fields"]])),
    "tree": TREES,
    "png": st.sampled_from(PICTURES),
    "jpg": st.sampled_from(JPEGS),
    "pickle": TREES | st.sampled_from([{1, 2}, range(3), 1j, Ellipsis, bytearray(b"a")]),
    OWN: TEXT,
}
EMPTY: Final[dict[str, Any]] = {
    "bytes": b"",
    "utf8": "",
    "int": 0,
    "i64": 0,
    "u64": 0,
    "json": {},
    "msgpack": [],
    "array": np.zeros((0, 3), ">f4"),
    "npy": np.zeros((2, 0), "U3"),
    "tree": (),
    "png": np.zeros((1, 1), np.uint8),
    "jpg": picture(Image.new("L", (1, 1)), "JPEG"),
    "pickle": set(),
    OWN: "",
}


def expected(encoding: str, value: Any) -> Any:
    """Return what is to come back of a value."""
    if encoding.startswith("jpg"):
        if isinstance(value, list):
            return [expected("jpg", one) for one in value]
        return None if value is None else np.array(Image.open(io.BytesIO(value)))
    if encoding.startswith("pickle"):  # which may change the byte order of arrays
        return pickle.loads(pickle.dumps(value, 5))
    return value


def same(found: Any, given: Any) -> bool:
    """Return whether two values are the same to the last bit that a user could see."""
    if isinstance(given, (np.longdouble, np.clongdouble)):  # some of their bytes mean nothing
        return type(found) is type(given) and np.array_equal(found, given, equal_nan=True)
    if isinstance(given, (np.ndarray, np.generic)):
        of_a_kind = isinstance(found, np.ndarray) == isinstance(given, np.ndarray)
        return of_a_kind and found.dtype == given.dtype and _same_array(found, given)
    if type(found) is not type(given):
        return False
    if isinstance(given, (list, tuple)):
        return len(found) == len(given) and all(map(same, found, given))
    if isinstance(given, Mapping):
        return same(list(found.items()), list(given.items()))
    if isinstance(given, float):
        # In a tree one NaN is as another, as the page says; zeros keep their sign.
        both_nan = math.isnan(found) and math.isnan(given)
        return both_nan or struct.pack("d", found) == struct.pack("d", given)
    return bool(found == given)


def _same_array(found: Any, given: Any) -> bool:
    """Compare elements, without what lies between the fields of a structure."""
    if found.shape != given.shape:
        return False
    if given.dtype.names:
        return all(_same_array(found[name], given[name]) for name in given.dtype.names)
    return bool(found.tobytes() == given.tobytes())
