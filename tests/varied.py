"""A store in which every encoding meets every compression, and what lies in it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

import sqlstore
from sqlstore import Field, KiB, limits
from sqlstore.encodings import ENCODINGS

_MEDIUM: Final = 5000
_SIZES: Final = (0, None, 1, 11, 12, 13, 14, 300, _MEDIUM)
_SMALL: Final = 37
_LARGE: Final = 3
COUNT: Final = _SMALL + _LARGE
COMMITS: Final = (0, 7, 8, 20, _SMALL, COUNT - 1, COUNT)
"""Where the commits begin and end."""

FIELDS: Final = {
    f"{encoding}_{compression}": Field(encoding, compression)
    for encoding in ("bytes", "utf8", "array", "png")
    for compression in (None, "lz4", "zstd", "gzip")
}
COLUMNS: Final = {"n": "int32", "label": "string", "score": "float64"}
LARGE_BYTES: Final = limits.PARALLEL_BYTES // 2 + KiB
"""So many that two of the large values are decompressed in threads."""
_SIDE: Final = 300  # pixels: three such images of noise are decoded in threads


def _value(field: str, record: int) -> Any:
    """Return a value; every other one gets smaller when it is compressed."""
    encoding, _, compression = field.partition("_")
    shift = list(FIELDS).index(field)
    size = LARGE_BYTES if record >= _SMALL else _SIZES[(record + shift) % len(_SIZES)]
    if size is None:
        return None
    if encoding == "png":
        return _image(record, size if record < _SMALL or compression == "None" else 0)
    noise = np.random.default_rng([shift, record]).integers(0, 128, size, np.uint8)
    plain = np.full(size, 65 + record % 26, np.uint8)
    # The first large value is noise: nothing makes it smaller.
    data = noise if (record % 2 and record < _SMALL) or record == _SMALL else plain
    if encoding == "array":
        return _array(record, data)
    return data.tobytes() if encoding == "bytes" else data.tobytes().decode()


def _array(record: int, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if data.size % 2:
        return data
    grid = data.reshape(-1, 2)
    return np.asfortranarray(grid) if record % 3 == 0 else grid.view(">i2").reshape(-1)


def _image(record: int, size: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(record)
    if size >= LARGE_BYTES:
        return random.integers(0, 255, (_SIDE, _SIDE), np.uint8)
    if size == _MEDIUM:
        return np.zeros((400, 400), np.uint8)  # its file can be compressed further
    shape = [(1 + size % 5, 3), (2, 2, 3), (4, 1, 4)][record % 3]
    return random.integers(0, 255, shape, np.uint8)


def _record(number: int) -> dict[str, Any]:
    return {
        **{name: _value(name, number) for name in FIELDS},
        "n": number,
        "label": None if number % 5 == 1 else f"label {number}",
        "score": number / 4,
    }


RECORDS: Final = [_record(number) for number in range(COUNT)]
RAWS: Final[dict[str, list[bytes | None]]] = {
    name: [
        None if record[name] is None else bytes(ENCODINGS[field.encoding].encode(record[name]))
        for record in RECORDS
    ]
    for name, field in FIELDS.items()
}
"""What every value is once it is encoded, by field."""


def make(root: Path) -> Path:
    """Make the store: several commits in several chunks."""
    with (
        sqlstore.create(root, fields=FIELDS, metadata=COLUMNS, chunk_size=256 * KiB) as store,
        store.writer() as writer,
    ):
        for start, stop in pairwise(COMMITS):
            writer.extend(RECORDS[start:stop])
            writer.commit()
    assert len(list((root / "chunks").iterdir())) > 2
    return root


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Return whether two records are equal, in the order and the types of their values, too."""
    return list(found) == list(expected) and all(
        _same_value(value, expected[name]) for name, value in found.items()
    )


def _same_value(found: Any, expected: Any) -> bool:
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    return type(found) is type(expected) and found == expected
