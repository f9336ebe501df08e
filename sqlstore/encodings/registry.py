"""The encodings that one opened store knows: those that come with sqlstore, and its user's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from sqlstore.encodings.arrays import Array, Npy
from sqlstore.encodings.base import Encoding
from sqlstore.encodings.images import Jpg, Png
from sqlstore.encodings.pickled import Pickle
from sqlstore.encodings.plain import Bytes, FixedInt, Int, Json, MessagePack, Own, Utf8
from sqlstore.encodings.trees import Tree
from sqlstore.errors import EncodingUnavailableError, SchemaError
from sqlstore.types import Buffer

OwnEncoding: TypeAlias = tuple[Callable[[Any], Buffer], Callable[[bytes], Any]]
"""A function from a value to bytes, and one back."""

PICKLE: Final = "pickle"
ENCODINGS: Final[Mapping[str, Encoding]] = {
    "bytes": Bytes(),
    "utf8": Utf8(),
    "int": Int(),
    "i64": FixedInt("<q"),
    "u64": FixedInt("<Q"),
    "json": Json(),
    "msgpack": MessagePack(),
    "array": Array(),
    "npy": Npy(),
    "tree": Tree(),
    "png": Png(),
    "jpg": Jpg(),
    PICKLE: Pickle(),
}
"""Every encoding that comes with sqlstore, by its name in a schema."""

_MEANT: Final = {
    "jpeg": "jpg",
    "str": "utf8",
    "string": "utf8",
    "text": "utf8",
    "image": "png` or `jpg",
    "ndarray": "array",
    "numpy": "array",
    "binary": "bytes",
}
"""What stands for names that people try."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,63}", re.IGNORECASE)


class Encodings:
    """Finds the encoding of a field.

    Parameters
    ----------
    own
        Encodings of the user's own: a pair of functions by name.
    allow_pickle
        Whether the encoding ``pickle`` may be used: who can write to a store with it can run any
        code in whoever reads it.

    Raises
    ------
    SchemaError
        A name is taken or no name, or what belongs to it is no pair of functions.
    """

    def __init__(
        self, own: Mapping[str, OwnEncoding] | None = None, *, allow_pickle: bool = False
    ) -> None:
        self.allow_pickle = allow_pickle
        self._own: dict[str, OwnEncoding] = {}
        for name, pair in (own or {}).items():
            _check_own(name, pair)
            self._own[name] = (pair[0], pair[1])  # a list could not be hashed
        self._known = {**ENCODINGS, **{name: Own(*pair) for name, pair in self._own.items()}}
        if not allow_pickle:
            del self._known[PICKLE]

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._own, self.allow_pickle)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Encodings) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return frozenset(self._own.items()), self.allow_pickle

    def of(self, name: str, field: str) -> Encoding:
        """Return the encoding of a name.

        Parameters
        ----------
        field
            The name of the field, for the message of an error.

        Raises
        ------
        EncodingUnavailableError
            It is not registered, or not allowed.
        """
        found = self._known.get(name)
        if found is not None:
            return found
        if name == PICKLE:
            raise EncodingUnavailableError(
                "pickle runs what others have written: pass allow_pickle=True if you trust them",
                field=field,
            )
        meant = f"; perhaps you mean `{_MEANT[name]}`" if name in _MEANT else ""
        raise EncodingUnavailableError(
            f"{name!r} is not an encoding{meant}; the encodings are {', '.join(ENCODINGS)}; one of "
            f"your own is passed as encodings={{{name!r}: (encode, decode)}}",
            field=field,
        )


def _again(own: Mapping[str, OwnEncoding], allow_pickle: bool) -> Encodings:
    return Encodings(own, allow_pickle=allow_pickle)


def _check_own(name: object, pair: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SchemaError(f"{name!r} is no name for an encoding: letters, digits, _ . + -")
    if name in ENCODINGS:
        raise SchemaError(f"the encoding {name!r} comes with sqlstore; take another name")
    is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(callable, pair))
    if not is_pair:
        raise SchemaError(f"the encoding {name!r} is a pair of functions: (encode, decode)")
