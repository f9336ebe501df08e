"""What every encoding is: a value to bytes, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from sqlstore.errors import EncodeError
from sqlstore.types import Buffer


class Encoding(ABC):
    """How the values of a field become bytes and bytes become values.

    Attributes
    ----------
    straight
        Values of exactly this type are stored as they are; None if there is no such type.
    parallel
        Whether decoding lets go of Python's lock, so that threads help.
    gives_arrays
        Whether every value comes back as a NumPy array.
    """

    straight: type | None = None
    parallel: bool = False
    gives_arrays: bool = False

    @abstractmethod
    def encode(self, value: Any) -> Buffer:
        """Return the bytes of a value.

        Raises
        ------
        EncodeError
            The value is not of a kind that this encoding takes.
        """

    @abstractmethod
    def decode(self, data: Buffer) -> Any:
        """Return the value of the bytes.

        Raises
        ------
        DecodeError
            The bytes were not made by this encoding.
        """


def as_bytes(value: object) -> bytes | None:
    """Return bytes that the caller cannot change any more; None if the value is no bytes.

    Raises
    ------
    EncodeError
        It is a memoryview that has been released.
    """
    if type(value) is bytes:
        return value
    if not isinstance(value, (bytes, bytearray, memoryview)):
        return None
    try:
        return bytes(value)
    except ValueError as error:
        raise EncodeError(str(error)) from error
