"""Every bound and default in one place."""

from __future__ import annotations

from typing import Final

KiB: Final = 1024
MiB: Final = 1024 * KiB
GiB: Final = 1024 * MiB

MAX_CHUNK_BYTES: Final = 2 * GiB - 1
"""A chunk file stays below 2 GiB, so that Arrow's 32-bit offsets reach every byte of it."""

MIN_CHUNK_SIZE: Final = 1 * KiB
MAX_CHUNK_SIZE: Final = MAX_CHUNK_BYTES
DEFAULT_CHUNK_SIZE: Final = 512 * MiB

MAX_VALUE_BYTES: Final = 2 * GiB - 16 * MiB
"""The largest stored value; what remains of a chunk is for its table and trailer."""

COMMIT_RECORDS: Final = 8192
COMMIT_BYTES: Final = 64 * MiB
COMMIT_SECONDS: Final = 60.0
"""After how many records, bytes and seconds a writer commits by itself."""

LOCK_SECONDS: Final = 30.0
"""How long a lock is waited for before `StoreBusyError`."""

MAX_OPEN_CHUNKS: Final = 64
"""Descriptors of chunk files that a reader keeps open."""

MAX_MAPPED_CHUNKS: Final = 4096
"""Chunk files that a reader keeps mapped; Linux allows a process 65,530 maps."""

MERGE_GAP: Final = 16 * KiB
MERGE_BYTES: Final = 8 * MiB
"""Neighbouring reads become one if at most this lies between them, up to this many bytes."""

BATCH_ROWS: Final = 131_072
BATCH_BYTES: Final = 64 * MiB
"""What leaves a store piece by piece: at most so many records, and so much payload, at a time."""

CHECKPOINT_RECORDS: Final = 131_072
CHECKPOINT_BYTES: Final = 64 * MiB
"""About how many records, and how many bytes of what is said of them, one part of a checkpoint has:
so much at most is lost with one damaged segment table."""

CHECKPOINT_IDS: Final = 1 << 20
"""So many ids a part spans at most, those of deleted records included: as much memory a few bytes
of a stranger's can ask for."""

CACHE_PART_BYTES: Final = 64 * MiB
"""Parts of the metadata mirror are merged up to this size."""

CACHE_BEHIND_RECORDS: Final = 65_536
CACHE_BEHIND_COMMITS: Final = 32
"""How far a writer lets the cache fall behind before it extends it."""

PARALLEL_BYTES: Final = 256 * KiB
"""From this many bytes on, values are decompressed in several threads."""

DICTIONARY_VALUES: Final = 100
DICTIONARY_FROM_BYTES: Final = 64 * KiB
DICTIONARY_MEAN_BYTES: Final = 16 * KiB
"""A dictionary is trained with at least so many values and bytes, of less than this on average."""

DICTIONARY_SAMPLE_BYTES: Final = 4 * MiB
DICTIONARY_BYTES: Final = 112 * KiB
"""It is trained with at most this much, and has at most this size."""

MAX_COLUMNS: Final = 1000
"""Fields and metadata columns together; SQLite's own limit is 2,000 columns in a table."""

MAX_NAME_LENGTH: Final = 128

MAX_SQL_VALUE_BYTES: Final = 256 * MiB
"""The largest text or blob that an SQL filter may compute or read; SQLite's own limit is a GB."""

ROWS_PER_BYTE: Final = 8
"""A segment table has at most so many rows for each of its bytes: a bool takes a bit."""

MAX_LOST_RECORDS: Final = 1 << 22
"""Of one commit that is nowhere to be found, so that only the index says how many it had."""

MAX_LOST_COMMITS: Final = 1 << 18
"""Commits that are nowhere to be found, which a repair takes for lost; more make no sense."""

MAX_NUMBER: Final = 2**63 - 1
"""The largest number of a commit or a record that SQLite and Arrow can hold."""

MOMENTS: Final = range(-62_135_596_800_000_000, 253_402_300_800_000_000)
"""Microseconds since 1970, UTC, of the years 1 to 9999, which Python can show."""

FORMAT_VERSION: Final = 1
"""The version of the chunk files and of the index that this library writes."""
