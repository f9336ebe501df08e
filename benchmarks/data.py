"""The records that are written: bodies of one size and five metadata columns, made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

Kind: TypeAlias = Literal["random", "text"]
Row: TypeAlias = tuple[bytes, str, int, float, int, bool]
"""A record: body, label, width, score, taken, valid."""

NAMES = ("body", "label", "width", "score", "taken", "valid")
METADATA_TYPES = {
    "label": "string",
    "width": "int32",
    "score": "float64",
    "taken": "int64",
    "valid": "bool",
}
ARROW_SCHEMA = pa.schema(
    [
        ("body", pa.binary()),
        ("label", pa.string()),
        ("width", pa.int32()),
        ("score", pa.float64()),
        ("taken", pa.int64()),
        ("valid", pa.bool_()),
    ]
)

_LABELS = ("owl", "wren", "kestrel", "house sparrow", "grey heron", "kingfisher", "swift", "jay")
_VOCABULARY = 2000
_FIRST_TAKEN = 1_700_000_000_000_000


@dataclass(frozen=True)
class Dataset:
    """Records to write, as rows, as mappings and as an Arrow table of one piece."""

    size: int
    rows: list[Row]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_bytes(self) -> int:
        """Return the bytes of the bodies; metadata is not counted."""
        return self.size * len(self)

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """Return a mapping per record."""
        return [dict(zip(NAMES, row, strict=True)) for row in self.rows]

    @cached_property
    def table(self) -> pa.Table:
        """Return the records as columns."""
        columns = zip(*self.rows, strict=True)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, ARROW_SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=ARROW_SCHEMA)

    def pieces(self, batch: int) -> Iterator[pa.RecordBatch]:
        """Return the table in record batches of at most ``batch`` rows, without copying."""
        yield from self.table.to_batches(max_chunksize=batch)


def make(count: int, size: int, kind: Kind, seed: int = 0) -> Dataset:
    """Return records whose bodies cannot be compressed, or compress as text does.

    Parameters
    ----------
    count, size
        How many records, and how many bytes each body has.
    """
    random = np.random.default_rng(seed)
    pool = random.bytes(count * size) if kind == "random" else _text(random, count * size)
    labels = random.choice(_LABELS, count).tolist()
    widths = random.integers(64, 4096, count).tolist()
    scores = random.random(count).tolist()
    taken = (_FIRST_TAKEN + np.cumsum(random.integers(1, 10**6, count))).tolist()
    valid = (random.random(count) < 0.9).tolist()
    bodies = [pool[start : start + size] for start in range(0, count * size, size)]
    return Dataset(size, list(zip(bodies, labels, widths, scores, taken, valid, strict=True)))


def _text(random: np.random.Generator, n_bytes: int) -> bytes:
    """Return lower-case words, frequent ones more often, as many bytes as asked for."""
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz", np.uint8)
    lengths = random.integers(2, 11, _VOCABULARY)
    words = [random.choice(letters, length).tobytes() for length in lengths.tolist()]
    # Zipf's law, roughly: rank r with a probability that falls as 1 / r.
    ranks = np.exp(random.random(n_bytes // 3 + 1) * np.log(_VOCABULARY)).astype(int) - 1
    return b" ".join([words[rank] for rank in ranks.tolist()])[:n_bytes]
