"""Big datasets of many records: bytes in chunk files, metadata in SQL, out as Arrow.

A store is a folder. The bytes of its records lie in large append-only chunk files; a SQLite
database says where, and holds the typed metadata, so that people filter with SQL first and then
read exactly the records they chose.

`create`, `open`, `rebuild` and `migrate` are the ways in; `Store` and `View` are what they give.
`infer` suggests what to declare for records.
"""

from sqlstore.create import create
from sqlstore.errors import (
    ChecksumError,
    CommitOutcomeUnknownError,
    CorruptCacheError,
    CorruptChunkError,
    CorruptIndexError,
    CorruptStoreError,
    DecodeError,
    DuplicateKeyError,
    EncodeError,
    EncodingUnavailableError,
    ForkedLogError,
    ForkedStoreError,
    IndexBehindLogError,
    MigrationError,
    MigrationRequiredError,
    MissingChunkError,
    MissingPackageError,
    NotAStoreError,
    QueryError,
    ReadOnlyError,
    RecordNotFoundError,
    SchemaError,
    SqlstoreError,
    StaleViewError,
    StorageError,
    StoreBusyError,
    StoreClosedError,
    StoreExistsError,
    StoreFullError,
    StoreNotFoundError,
    StoreTooNewError,
    TruncatedChunkError,
    UnknownNameError,
    VersionError,
)
from sqlstore.inference import infer
from sqlstore.limits import GiB, KiB, MiB
from sqlstore.maintenance.migrate import Migration, migrate
from sqlstore.maintenance.rebuild import rebuild
from sqlstore.maintenance.report import Fault, Report
from sqlstore.maintenance.verify import verify
from sqlstore.schema import Column, Field, Schema
from sqlstore.store import Store, open
from sqlstore.version import __version__
from sqlstore.view import View
from sqlstore.writer import Writer

__all__ = [
    "ChecksumError",
    "Column",
    "CommitOutcomeUnknownError",
    "CorruptCacheError",
    "CorruptChunkError",
    "CorruptIndexError",
    "CorruptStoreError",
    "DecodeError",
    "DuplicateKeyError",
    "EncodeError",
    "EncodingUnavailableError",
    "Fault",
    "Field",
    "ForkedLogError",
    "ForkedStoreError",
    "GiB",
    "IndexBehindLogError",
    "KiB",
    "MiB",
    "Migration",
    "MigrationError",
    "MigrationRequiredError",
    "MissingChunkError",
    "MissingPackageError",
    "NotAStoreError",
    "QueryError",
    "ReadOnlyError",
    "RecordNotFoundError",
    "Report",
    "Schema",
    "SchemaError",
    "SqlstoreError",
    "StaleViewError",
    "StorageError",
    "Store",
    "StoreBusyError",
    "StoreClosedError",
    "StoreExistsError",
    "StoreFullError",
    "StoreNotFoundError",
    "StoreTooNewError",
    "TruncatedChunkError",
    "UnknownNameError",
    "VersionError",
    "View",
    "Writer",
    "__version__",
    "create",
    "infer",
    "migrate",
    "open",
    "rebuild",
    "verify",
]
