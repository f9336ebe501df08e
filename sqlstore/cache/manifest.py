"""The manifest of the cache: which commit it has come to, and which files make it up.

It is one small file, replaced in one step after everything that it names has been written. Rows and
parts that it does not count may be there and are ignored.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlstore import limits
from sqlstore.cache.locations import file_name
from sqlstore.cache.segments import Place
from sqlstore.errors import StorageError
from sqlstore.log import files
from sqlstore.log.dictionary import DictionaryPlace, row_of
from sqlstore.log.segment import NO_COMMIT

LAYOUT: Final = 2
"""Of all files of the cache; a manifest of another layout is no manifest."""

_FILE: Final = "manifest.json"
_MOST_BYTES: Final = 64 * limits.MiB
EDITION: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive records in the metadata mirror: one Arrow IPC stream.

    Attributes
    ----------
    first, records
        Their ids.
    size, crc
        Bytes and CRC-32 of the file.
    commit
        The last commit whose values are in it.
    """

    first: int
    records: int
    size: int
    crc: int
    commit: int

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"metadata-{self.first}-{self.records}-{self.commit}.arrow"


@dataclass(frozen=True, slots=True)
class Deleted:
    """The ids of all deleted records: 8 bytes each, ascending.

    Attributes
    ----------
    records, crc
        How many they are, and CRC-32 of the file.
    commit
        The last commit that deleted some.
    """

    records: int
    crc: int
    commit: int

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"deleted-{self.commit}.bin"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the cache holds.

    Attributes
    ----------
    store
        The uuid of the store.
    generation
        As in the table ``store`` of the index: when that changes, the cache begins anew.
    edition
        The folder of the files. A cache that begins anew takes another one, so that nothing is
        changed under those who still read the old one.
    commit, commit_uuid
        The last commit that is in it.
    records, chunks
        How many location rows count in each file, and how many chunks are known.
    parts
        Of the metadata mirror, by record id.
    deleted
        Which records were deleted; None if none was.
    lost
        Commits whose segment table is damaged: where they lie, to say so.
    dictionaries
        Where those lie that values are compressed with.
    replaced
        Pairs: the number of a field, and of the last commit that replaced values of it.
    """

    store: uuid.UUID
    generation: int
    edition: str
    commit: int = 0
    commit_uuid: uuid.UUID = NO_COMMIT
    records: int = 0
    chunks: int = 0
    parts: tuple[Part, ...] = ()
    deleted: Deleted | None = None
    lost: tuple[Place, ...] = ()
    dictionaries: tuple[DictionaryPlace, ...] = ()
    replaced: tuple[tuple[int, int], ...] = ()

    def locations_of(self, field: int) -> str:
        """Return the name of the file with the location rows of a field."""
        return file_name(field, dict(self.replaced).get(field, 0))


def load(folder: Path) -> Manifest | None:
    """Return the manifest of a cache folder, or None if there is none that can be used."""
    try:
        data = files.contents(folder / _FILE, _MOST_BYTES)
        text, _, crc = data.partition(b"\n")
        if int(crc, 16) != zlib.crc32(text):
            return None
        return _parsed(json.loads(text))
    except (StorageError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _parsed(found: dict[str, Any]) -> Manifest | None:
    if found.pop("layout") != LAYOUT or not EDITION.fullmatch(found["edition"]):
        return None
    found["store"] = uuid.UUID(found["store"])
    found["commit_uuid"] = uuid.UUID(found["commit_uuid"])
    counts = [found[name] for name in ("generation", "commit", "records", "chunks")]
    deleted = found["deleted"] or ()
    lists = *found["parts"], *found["dictionaries"], *found["replaced"]
    numbers = itertools.chain(counts, deleted, *lists)
    places_of_lost = [(*place[:5], place[6]) for place in found["lost"]]
    are_names = all(files.CHUNK_NAME.fullmatch(place[5]) for place in found["lost"])
    numbers = itertools.chain(numbers, *places_of_lost)
    if not are_names or not all(map(_is_count, numbers)):
        return None
    found["deleted"] = Deleted(*deleted) if deleted else None
    found["parts"] = tuple(Part(*part) for part in found["parts"])
    found["lost"] = tuple(
        Place(*place[:-2], *(uuid.UUID(one) for one in place[-2:])) for place in found["lost"]
    )
    found["dictionaries"] = tuple(DictionaryPlace(*place) for place in found["dictionaries"])
    found["replaced"] = tuple((field, commit) for field, commit in found["replaced"])
    return Manifest(**found)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def save(folder: Path, manifest: Manifest) -> None:
    """Put a manifest in the place of the one that is there."""
    content: dict[str, Any] = dataclasses.asdict(manifest)
    content["parts"] = [dataclasses.astuple(part) for part in manifest.parts]
    content["deleted"] = manifest.deleted and dataclasses.astuple(manifest.deleted)
    content["lost"] = [dataclasses.astuple(place) for place in manifest.lost]
    content["dictionaries"] = [row_of(place) for place in manifest.dictionaries]
    text = json.dumps({"layout": LAYOUT, **content}, default=str).encode()
    files.put(folder / _FILE, text + b"\n%08x\n" % zlib.crc32(text))


def drop(folder: Path) -> None:
    """Remove the manifest, so that the cache is made anew."""
    with files.storage_errors("remove", folder / _FILE):
        (folder / _FILE).unlink(missing_ok=True)
