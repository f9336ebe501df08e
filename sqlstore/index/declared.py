"""What may be declared in an index: plain tables and plain SQL indices, and the one view of ours.

SQL that a stranger has put there would run whenever a table is read or written: a view or a trigger
that never ends, a generated column or a check that fills the memory.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from sqlstore.errors import CorruptIndexError

# CROSS JOIN makes SQLite begin with the few fields, and find a record by the key of `blobs`.
RECORD_LOCATIONS: Final = """
CREATE VIEW record_locations AS
SELECT b.record AS record, f.name AS field, 'chunks/' || c.name AS file, b.offset AS offset,
       b.length AS length, b.raw_length AS raw_length,
       CASE b.compression WHEN 0 THEN 'none' WHEN 1 THEN 'lz4' WHEN 2 THEN 'zstd' WHEN 3 THEN 'gzip'
       ELSE iif(b.compression > 63, 'dictionary ' || (b.compression - 64), NULL) END AS compression,
       b.items AS items, b.checksum AS checksum
FROM fields AS f CROSS JOIN blobs AS b ON b.field = f.number JOIN chunks AS c ON c.chunk = b.chunk
"""
REVISION_TABLE: Final = "alembic_version"

_OURS: Final = frozenset(
    {
        "store", "fields", "columns", "chunks", "commits", "records", "blobs", "dictionaries",
        "subsets", "subset_records", REVISION_TABLE,
    }
)  # fmt: skip
_NAME: Final = r'(?:"[^"]*"|\w+)'
_PLAIN_INDEX: Final = re.compile(
    rf"CREATE (?:UNIQUE )?INDEX {_NAME} ON {_NAME}\s*"
    rf"\(\s*{_NAME}(?: ASC| DESC)?(?:\s*,\s*{_NAME}(?: ASC| DESC)?)*\s*\)",
    re.IGNORECASE,
)
_ONLY_CHECK: Final = "CHECK (only = 1)"
_QUOTED: Final = re.compile('"[^"]*"')
_COMPUTES: Final = re.compile(r"\b(?:AS|CHECK|COLLATE|DEFAULT)\b|--|/\*|['`\[]", re.IGNORECASE)
"""What computes something, and what could hide it; names have none of these but in quotes."""


def refuse_strange(connection: sqlite3.Connection, where: object) -> None:
    """Raise if an index is in another encoding, or has anything that might run when it is used.

    Parameters
    ----------
    where
        The path of the index.

    Raises
    ------
    CorruptIndexError
        It is, or it has.
    """
    (encoding,) = connection.execute("PRAGMA encoding").fetchone()
    if encoding != "UTF-8":
        raise CorruptIndexError(f"{where} is in {encoding}; run `sqlstore rebuild`")
    for row in connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall():
        kind, name, sql = (str(one or "").strip() for one in row)
        if not _is_plain(kind, name, sql):
            raise CorruptIndexError(
                f"{where} has something that is not sqlstore's, and might run: the {kind} "
                f"{name[:100]!r}, declared as {sql[:200]!r}; drop it if it is yours, else run "
                "`sqlstore rebuild`, which makes an index from the chunks alone"
            )


def _is_plain(kind: str, name: str, sql: str) -> bool:
    if kind == "index":
        return not sql or _PLAIN_INDEX.fullmatch(sql) is not None
    if kind == "view":
        return name == "record_locations" and squeezed(sql) == squeezed(RECORD_LOCATIONS)
    if kind != "table" or not sql.upper().startswith("CREATE TABLE "):
        return False
    if name.lower() not in _OURS:
        return True  # nobody reads it but who asks for it
    is_strict = name == REVISION_TABLE or sql.upper().endswith("STRICT")
    return is_strict and not _COMPUTES.search(_QUOTED.sub("", sql.replace(_ONLY_CHECK, "")))


def squeezed(sql: str) -> str:
    """Return SQL without what may differ between versions of SQLAlchemy."""
    return "".join(sql.split()).replace('"', "").lower()
