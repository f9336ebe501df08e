"""Dictionaries: what the small values of a field have in common, kept once, to compress them with.

Each value is one Zstandard frame of its own, without the magic number, so it is read as fast as any
other. Everything that needs the package zstandard is here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlstore import limits
from sqlstore.errors import DecodeError, MissingPackageError
from sqlstore.types import Buffer

if TYPE_CHECKING:
    from types import ModuleType

DICTIONARY: Final = "dictionary"
"""The compression of a field whose values are compressed with trained dictionaries."""

FIRST: Final = 64
"""What is compressed with dictionary ``n`` of the store has compression ``64 + n``."""

MOST: Final = 192
"""How many dictionaries a store can have: the number of a compression is one byte."""

_LEVEL: Final = 12
_MAGIC: Final = b"\x28\xb5\x2f\xfd"  # of every frame; four bytes count where values take fifty
# Without `k` and `d` it is tried with many of them, which takes five times as long for nothing.
_TRAINING: Final = {"k": 200, "d": 8, "level": _LEVEL}
_HELD_OUT: Final = 4  # every so many samples one is not trained with, to see what is gained
_LONGEST_SAMPLE: Final = 128 * limits.KiB

Compress: TypeAlias = Callable[[Buffer], bytes]
_Decompress: TypeAlias = Callable[..., bytes]


def package() -> ModuleType:
    """Return the package zstandard.

    Raises
    ------
    MissingPackageError
        It is not installed.
    """
    try:
        import zstandard
    except ImportError as error:
        raise MissingPackageError(
            "compression with a dictionary needs zstandard: pip install 'sqlstore[dictionary]'"
        ) from error
    return zstandard


def compressor(data: bytes) -> Compress:
    """Return what compresses a value with a dictionary; not to be used by two threads at once.

    Raises
    ------
    DecodeError
        These bytes are no dictionary.
    """
    zstandard = package()
    try:
        known = zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_FULLDICT)
        known.precompute_compress(level=_LEVEL)
        made = zstandard.ZstdCompressor(level=_LEVEL, dict_data=known, write_dict_id=False)
    except zstandard.ZstdError as error:
        raise DecodeError(f"not a dictionary: {error}") from error
    compress: Callable[[Buffer], bytes] = made.compress
    return lambda raw: compress(raw)[len(_MAGIC) :]


def size_for(raws: Sequence[Buffer]) -> int:
    """Return the size of the dictionary that these values are worth; 0 if none."""
    n_bytes = sum(map(len, raws))
    count = sum(map(bool, map(len, raws)))
    is_enough = count >= limits.DICTIONARY_VALUES and n_bytes >= limits.DICTIONARY_FROM_BYTES
    if not is_enough or n_bytes >= count * limits.DICTIONARY_MEAN_BYTES:
        return 0
    return min(limits.DICTIONARY_BYTES, min(n_bytes, limits.DICTIONARY_SAMPLE_BYTES) // 10)


def trained(raws: Sequence[Buffer], size: int, present: Compress) -> bytes | None:
    """Return a dictionary for values like these.

    Parameters
    ----------
    raws
        The values; some of them are used.
    size
        Of the dictionary, in bytes.
    present
        How they are compressed without it.

    Returns
    -------
    bytes or None
        None if it would not save a tenth of what values take that it was not trained with.
    """
    zstandard = package()
    samples = _samples(raws)
    held_out = samples[::_HELD_OUT]
    del samples[::_HELD_OUT]
    try:
        data: bytes = zstandard.train_dictionary(size, samples, **_TRAINING).as_bytes()
    except zstandard.ZstdError:  # too much alike, or nothing in common
        return None
    compress = compressor(data)
    before, after = (_stored_bytes(held_out, one) for one in (present, compress))
    return data if after * 10 <= before * 9 else None


def _samples(raws: Sequence[Buffer]) -> list[bytes]:
    """Return values from all over, up to a few megabytes."""
    filled = [raw for raw in raws if len(raw)]
    step = max(1.0, sum(map(len, filled)) / limits.DICTIONARY_SAMPLE_BYTES)
    chosen = (filled[int(i * step)] for i in range(int(len(filled) / step)))
    return [bytes(raw[:_LONGEST_SAMPLE]) for raw in chosen]


def _stored_bytes(raws: Sequence[bytes], compress: Compress) -> int:
    return sum(min(len(raw), len(compress(raw))) for raw in raws)


class _OfThread(threading.local):
    """What one thread decompresses with: such an object is not to be used by two at once."""

    def __init__(self) -> None:
        self.ready: dict[int, _Decompress] = {}


class Dictionaries:
    """Decompresses what was compressed with the dictionaries of a store.

    Parameters
    ----------
    load
        Returns the dictionary of a number, checked, or raises what is wrong with it. Each is asked
        for when it is first needed.
    """

    def __init__(self, load: Callable[[int], bytes]) -> None:
        self._load = load
        self._prepared: dict[int, object] = {}
        self._thread = _OfThread()
        self._content_size: Callable[[Buffer], int] = lambda _: -1

    def decompress(self, data: Buffer, number: int, raw_length: int) -> bytes:
        """Return a value.

        Parameters
        ----------
        number
            Of the dictionary.

        Raises
        ------
        DecodeError
            The bytes are not what the dictionary makes of ``raw_length`` bytes.
        CorruptStoreError
            The dictionary is damaged.
        MissingPackageError
            zstandard is not installed.
        """
        decompress = self._thread.ready.get(number) or self._made(number)
        frame = _MAGIC + data
        try:
            size = self._content_size(frame)
            if size != raw_length:  # before memory is reserved for it
                raise DecodeError(f"a frame of {size} bytes instead of {raw_length}")
            return decompress(frame, allow_extra_data=False)
        except (package().ZstdError, MemoryError) as error:  # a lie may ask for 4 GiB
            raise DecodeError(f"cannot decompress: {error}") from error

    def _made(self, number: int) -> _Decompress:
        """Make what this thread decompresses with; the dictionary itself is prepared once."""
        zstandard = package()
        self._content_size = zstandard.frame_content_size
        known = self._prepared.get(number)
        try:
            if known is None:
                data = self._load(number)
                known = zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_FULLDICT)
            made = zstandard.ZstdDecompressor(dict_data=known)
        except zstandard.ZstdError as error:
            raise DecodeError(f"dictionary {number} is none: {error}") from error
        self._prepared[number] = known  # only now, when it will not change any more
        decompress: _Decompress = made.decompress
        self._thread.ready[number] = decompress
        return decompress


def _unknown(number: int) -> bytes:
    raise DecodeError(f"dictionary {number} is not known")


NO_DICTIONARIES: Final = Dictionaries(_unknown)
