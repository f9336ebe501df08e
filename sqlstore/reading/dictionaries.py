"""The dictionaries of a store, read from its chunks when they are first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlstore.cache.manifest import Manifest
from sqlstore.cache.segments import Place, dictionaries_of
from sqlstore.dictionaries import Dictionaries
from sqlstore.errors import DecodeError
from sqlstore.log.dictionary import DictionaryPlace, checked
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind
from sqlstore.reading.chunks import Chunks


class StoredDictionaries(Dictionaries):
    """The dictionaries that a cache names.

    Parameters
    ----------
    manifest
        Of the cache.
    chunks
        Give the bytes.
    reader
        Reads the table of a commit that was damaged when the cache was made.
    """

    def __init__(self, manifest: Manifest, chunks: Chunks, reader: ChunkReader) -> None:
        super().__init__(self.stored)
        self._places: Mapping[int, DictionaryPlace] = {
            place.number: place for place in manifest.dictionaries
        }
        self._lost: Sequence[Place] = [
            place for place in manifest.lost if place.kind == CommitKind.DICTIONARY
        ]
        self._chunks = chunks
        self._reader = reader

    def stored(self, number: int) -> bytes:
        """Return a dictionary that is what was written.

        Raises
        ------
        CorruptStoreError
            It is not, or nobody knows where it lies.
        """
        place = self._places.get(number)
        if place is None:
            for lost in self._lost:
                dictionaries_of(self._reader, lost)  # raises what is wrong
            raise DecodeError(f"dictionary {number} is not known")
        data = self._chunks.piece(place.chunk, place.offset, place.length)
        return checked(data, place, self._chunks.name(place.chunk))

    def are_those_of(self, manifest: Manifest) -> bool:
        """Return whether a cache names the same dictionaries."""
        lost = [place for place in manifest.lost if place.kind == CommitKind.DICTIONARY]
        return tuple(self._places.values()) == manifest.dictionaries and lost == self._lost
