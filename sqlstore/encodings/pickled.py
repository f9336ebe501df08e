"""Python's own pickles: the one place where what was read is run, if the user has allowed it."""

from __future__ import annotations

import pickle
from typing import Any

from sqlstore.encodings.base import Encoding
from sqlstore.errors import DecodeError, EncodeError
from sqlstore.types import Buffer


class Pickle(Encoding):
    """Any object that pickles. Only for stores whose writers are trusted."""

    def encode(self, value: Any) -> Buffer:
        try:
            return pickle.dumps(value, protocol=5)
        except Exception as error:  # an object's own code may raise anything
            raise EncodeError(f"this cannot be pickled: {error}") from error

    def decode(self, data: Buffer) -> Any:
        try:
            return pickle.loads(data)  # noqa: S301 - only if the user has allowed it
        except Exception as error:  # as above
            raise DecodeError(f"this cannot be unpickled: {error}") from error
