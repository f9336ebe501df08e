"""Hostile values: places and lengths, compressions that lie, arrays, structures and text."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import lz4.block
import msgpack
import numpy as np
import pyarrow as pa

from sqlstore.log.ipc import VALUE_TYPE
from tests.hostile import forge
from tests.hostile.case import hostile, hostile_each

_ZSTD = pa.Codec("zstd")
_HUGE = 4_000_000_000
_NO_VALUE = "record 6: (Truncated|Corrupt|Checksum|Decode)"


def _cases(group: str, field: str, cases: dict[str, tuple[bytes, dict[str, int], str]]) -> None:
    variants = {what: ((stored, said), gets) for what, (stored, said, gets) in cases.items()}
    hostile_each(group, variants, partial(_put, field))


def _put(field: str, value: tuple[bytes, dict[str, int]], store: Path, outside: Path) -> None:
    stored, said = value
    forge.value(store, field, stored, **said)


_cases(
    "place",
    "f",
    {
        "behind the end of the file": (b"abc", {"offset": 2**31}, "TruncatedChunkError"),
        "an offset of 2**32 - 1": (b"abc", {"offset": 2**32 - 1}, "TruncatedChunkError"),
        "a length of 4 GB": (b"abc", {"length": _HUGE}, "TruncatedChunkError"),
        "offset and length beyond 32 bits": (
            b"abc",
            {"offset": 2**32 - 1, "length": 2**32 - 1},
            "TruncatedChunkError",
        ),
        "other bytes than the checksum says": (b"abc", {"crc": 5}, "ChecksumError"),
        "the header of the chunk": (
            b"",
            {"offset": 0, "length": 64, "raw_length": 64},
            "ChecksumError|outside of its segment",
        ),
        "items where there are none": (b"abc", {"items": _HUGE}, "mmap: fetch: ok"),
        "longer when not compressed": (b"abc", {"raw_length": _HUGE}, "DecodeError: 3 bytes"),
        "an unknown compression": (b"abc", {"compression": 63}, "compression 63 is not known"),
        "a dictionary that is not there": (b"abc", {"compression": 255}, "dictionary 191 is not"),
        "no value, and no compression": (b"", {"compression": 254}, "dictionary 190 is not"),
    },
)


@hostile("place: 2,000 records share one body", "verify: .*cover")
def _(store: Path, outside: Path) -> None:
    count = 2000
    start = forge.chunks(store)[0].stat().st_size
    body = b"x" * 5000
    column = pa.StructArray.from_arrays(
        [
            pa.array(np.full(count, number, np.uint32))
            for number in (start, len(body), len(body), 0, zlib.crc32(body))
        ]
        + [pa.array(np.zeros(count, np.uint8))],
        fields=list(VALUE_TYPE),
    )
    forge.commit(
        store,
        forge.rows(forge.columns(count, f0=column)),
        bodies=body,
        records=count,
    )


# Compression


def _lz4(raw: bytes) -> bytes:
    compressed: bytes = lz4.block.compress(raw, store_size=False)
    return compressed


def _zstd(raw: bytes) -> bytes:
    compressed: bytes = _ZSTD.compress(raw, asbytes=True)
    return compressed


def _gzip(raw: bytes) -> bytes:
    made = zlib.compressobj(9, wbits=31)
    return made.compress(raw) + made.flush()


_BOMB = bytes(200 << 20)
_HOW = {"lz4": ("l", 1, _lz4), "zstd": ("z", 2, _zstd), "gzip": ("g", 3, _gzip)}

for _name, (_field, _number, _made) in _HOW.items():
    _small = _made(bytes(1000))
    _cases(
        f"compression {_name}",
        _field,
        {
            "says 4 GB": (
                _small,
                {"compression": _number, "raw_length": _HUGE},
                "DecodeError: .*(cannot hold|bytes)",
            ),
            "says less than there is": (
                _small,
                {"compression": _number, "raw_length": 10},
                "DecodeError",
            ),
            "says nothing": (_small, {"compression": _number, "raw_length": 0}, "DecodeError"),
            "is no such thing": (
                b"\xff" * 40,
                {"compression": _number, "raw_length": 900},
                "DecodeError: cannot decompress",
            ),
            "200 MB that are not told": (
                _made(_BOMB),
                {"compression": _number, "raw_length": 1000},
                "DecodeError",
            ),
        },
    )


_cases(
    "compression zstd",
    "z",
    {
        "a frame that says 4 GB": (
            # Magic number, single segment with an 8-byte size, and an empty last block.
            b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", _HUGE) + b"\x01\x00\x00",
            {"compression": 2, "raw_length": _HUGE},
            "DecodeError: .*cannot hold",
        ),
    },
)


# Sequences


def _footer(*entries: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("<III", *entry) for entry in entries)


_ITEM = b"item"
_CRC = zlib.crc32(_ITEM)
_SEQUENCES: dict[str, tuple[bytes, dict[str, int]]] = {
    "4 billion items": (_footer((4, 4, _CRC)), {"items": _HUGE}),
    "items that end behind the end": (_footer((2**32 - 1, 4, _CRC)), {"items": 1}),
    "items that end before they begin": (
        _footer((4, 4, _CRC), (2, 4, _CRC), (4, 4, _CRC)),
        {"items": 3},
    ),
    "an item of 4 GB": (_footer((4, _HUGE, _CRC)), {"items": 1, "raw_length": _HUGE}),
    "an item that is another": (_footer((4, 4, 5)), {"items": 1, "raw_length": 4}),
}
_cases(
    "sequence",
    "s",
    {
        what: (
            _ITEM + footer,
            {"crc": zlib.crc32(footer), **said},
            "record 6: (Checksum|Decode|Truncated)Error",
        )
        for what, (footer, said) in _SEQUENCES.items()
    },
)


# Arrays


def _array(name: str, shape: tuple[int, ...], data: bytes = b"", flags: int = 0) -> bytes:
    head = struct.pack("<BBH", flags, len(shape) % 256, len(name.encode()))
    return head + name.encode() + struct.pack(f"<{len(shape)}Q", *shape) + data


def _npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header.encode() + data


class _Payload:
    """Something that runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/sqlstore-was-here",)


PICKLED = pickle.dumps(_Payload())
_NO_ARRAY = "record 6: DecodeError: not an array"
_NO_NPY = "record 6: DecodeError: not an npy file"
_npy_pickled = io.BytesIO()
np.lib.format.write_array(_npy_pickled, np.array([_Payload()], object), allow_pickle=True)

_cases(
    "array",
    "a",
    {
        "of Python objects": (_array("|O", (1,), PICKLED), {}, _NO_ARRAY),
        "of structures with objects": (
            _array("[('x', '|O')]", (1,), PICKLED.ljust(8)[:8]),
            {},
            _NO_ARRAY,
        ),
        "a shape that overflows": (_array("<f8", (2**32, 2**32, 2**3)), {}, _NO_ARRAY),
        "a shape of 2**63 - 1": (_array("<f8", (2**63 - 1,)), {}, _NO_ARRAY),
        "nothing times 2**62": (_array("<f8", (2**62, 0, 2**62)), {}, _NO_ARRAY),
        "255 dimensions": (_array("<f8", (1,) * 255, bytes(8)), {}, _NO_ARRAY),
        "a dtype that is a program": (
            _array("[__import__('os').system('touch x')]", (1,), b"x"),
            {},
            _NO_ARRAY,
        ),
        "a dtype of 30,000 sums": (_array("[1" + "+1" * 30_000 + "]", (1,), b"x"), {}, _NO_ARRAY),
        "a dtype of 60,000 signs": (_array("[" + "-" * 60_000 + "1]", (1,), b"x"), {}, _NO_ARRAY),
        "a dtype in 150 brackets": (_array("[" * 150 + "]" * 150, (1,), b"x"), {}, _NO_ARRAY),
        "an element of 2 GB": (_array("|V2147483647", (1,), b"x"), {}, _NO_ARRAY),
        "fields that lie outside": (
            _array(
                "{'names': ['x'], 'formats': ['<f8'], 'offsets': [2000000000], 'itemsize': 8}",
                (1,),
                bytes(8),
            ),
            {},
            _NO_ARRAY,
        ),
        "a subarray of 2**40": (
            _array("[('x', '<f8', (1099511627776,))]", (1,), bytes(8)),
            {},
            _NO_ARRAY,
        ),
        "a name longer than the value": (struct.pack("<BBH", 0, 1, 65535) + b"<f8", {}, _NO_ARRAY),
        "nothing at all": (b"", {}, _NO_ARRAY),
    },
)
_cases(
    "npy",
    "npy",
    {
        "with a pickle in it": (_npy_pickled.getvalue(), {}, _NO_NPY),
        "with a pickle in it, version 2": (
            _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", PICKLED, (2, 0)),
            {},
            _NO_NPY,
        ),
        "a header that is a program": (
            _npy("__import__('os').system('touch x')\n"),
            {},
            _NO_NPY,
        ),
        "a header of 4 GB": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1), {}, _NO_NPY),
        "a shape of 64 GB": (
            _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (8589934592,)}\n"),
            {},
            _NO_NPY,
        ),
        "a shape of 900 MB, version 2": (
            _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (115200000,)}\n", b"", (2, 0)),
            {},
            _NO_NPY,
        ),
        "a shape below zero": (
            _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -8)}\n", bytes(64)),
            {},
            _NO_NPY,
        ),
    },
)


# Structures, text and images


def _deep_tree() -> bytes:
    text = b"[" * 100_000 + b"]" * 100_000
    return struct.pack("<I", len(text)) + text


def _tree(node: object, leaves: bytes = b"") -> bytes:
    text = json.dumps(node).encode()
    return struct.pack("<I", len(text)) + text + leaves


_LEAF = _array("|O", (1,), PICKLED)

_cases(
    "tree",
    "t",
    {
        "100,000 lists in each other": (_deep_tree(), {}, "DecodeError: not a tree"),
        "a leaf of 2**60 bytes": (_tree({"bytes": 2**60}), {}, "DecodeError: not a tree"),
        "a leaf below zero": (_tree({"bytes": -5}), {}, "DecodeError: not a tree"),
        "a kind that is not there": (_tree({"__class__": "x"}), {}, "DecodeError: not a tree"),
        "a structure of 4 GB": (struct.pack("<I", _HUGE), {}, "DecodeError: not a tree"),
        "an array of objects": (
            _tree({"array": len(_LEAF)}, _LEAF),
            {},
            "DecodeError: not an array",
        ),
        "keys that are lists": (_tree({"dict": [[[1], 2]]}), {}, "DecodeError: not a tree"),
    },
)
_cases(
    "json",
    "j",
    {
        "100,000 lists in each other": (b"[" * 100_000, {}, "DecodeError: not JSON"),
        "an integer of a million digits": (b"1" * 1_000_000, {}, "DecodeError: not JSON"),
        "bytes that are no text": (b'"\xff\xfe\x80"', {}, "DecodeError: not JSON"),
    },
)
_cases(
    "msgpack",
    "m",
    {
        "a list of 4 billion": (b"\xdd\xff\xff\xff\xff", {}, "DecodeError: not MessagePack"),
        "bytes of 4 GB": (b"\xc6\xff\xff\xff\xff", {}, "DecodeError: not MessagePack"),
        "100,000 lists in each other": (b"\x91" * 100_000, {}, "DecodeError: not MessagePack"),
        "a kind of somebody's own": (
            msgpack.packb(msgpack.ExtType(5, PICKLED)),
            {},
            "mmap: fetch: ok",
        ),
    },
)
_cases("utf8", "u", {"bytes that are no text": (b"\xff\xfe\xed\xa0\x80", {}, "not UTF-8")})


def _png(width: int, height: int, data: bytes, *more: tuple[bytes, bytes]) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), *more, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in parts
    )


_cases(
    "png",
    "image",
    {
        "30,000 x 30,000 pixels": (_png(30_000, 30_000, b""), {}, "DecodeError: not a PNG image"),
        "2**31 - 1 pixels a side": (
            _png(2**31 - 1, 2**31 - 1, b""),
            {},
            "DecodeError: not a PNG image",
        ),
        "8,000 x 8,000 pixels that are not there": (
            _png(8000, 8000, zlib.compress(b"\0")),
            {},
            "DecodeError: not a PNG image|image file is truncated",
        ),
        "text that is 200 MB": (
            _png(1, 1, zlib.compress(bytes(4)), (b"zTXt", b"x\0\0" + zlib.compress(_BOMB, 9))),
            {},
            "DecodeError: not a PNG image",
        ),
    },
)
