"""Big datasets of many records: bytes in chunk files, metadata in SQL, out as Arrow.

A store is a folder. The bytes of its records lie in large append-only chunk files; a SQLite
database says where, and holds the typed metadata, so that people filter with SQL first and then
read exactly the records they chose.

`create`, `open`, `rebuild` and `migrate` are the ways in; `Store` and `View` are what they give.
`concat` puts views together, also those of several stores.
`merge` makes one store of several.
`repair` makes a damaged store whole again, and says what is lost.
`absorb` takes over what other tools have changed in the index.
`infer` suggests what to declare for records.
`build` and `import_folder` fill a store from many items, or from a folder of files.
"""

from sqlstore.compaction import ChunkUse, Compaction
from sqlstore.comparison import Comparison
from sqlstore.concat import ConcatView, concat
from sqlstore.copies import Snapshot
from sqlstore.create import create
from sqlstore.describe.description import Description
from sqlstore.describe.summaries import ColumnSummary, FieldSummary, Histogram, Sizes
from sqlstore.diff import Diff
from sqlstore.errors import (
    ChecksumError,
    CommitOutcomeUnknownError,
    CorruptCacheError,
    CorruptChunkError,
    CorruptIndexError,
    CorruptStoreError,
    DecodeError,
    DifferentStoresError,
    DuplicateKeyError,
    EncodeError,
    EncodingUnavailableError,
    ExportError,
    ForkedLogError,
    ForkedStoreError,
    IndexBehindLogError,
    ItemError,
    MergeError,
    MigrationError,
    MigrationRequiredError,
    MissingChunkError,
    MissingPackageError,
    NotAStoreError,
    QueryError,
    ReadOnlyError,
    RecordNotFoundError,
    SchemaError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    SplitError,
    SqlstoreError,
    StaleViewError,
    StorageError,
    StoreBusyError,
    StoreClosedError,
    StoreExistsError,
    StoreFullError,
    StoreNotFoundError,
    StoreTooNewError,
    SubsetExistsError,
    SubsetNotFoundError,
    TruncatedChunkError,
    UnknownNameError,
    VersionError,
)
from sqlstore.export.report import Exported
from sqlstore.index.plan import Plan
from sqlstore.inference import infer
from sqlstore.ingest.build import build
from sqlstore.ingest.export import export_folder
from sqlstore.ingest.folder import import_folder
from sqlstore.ingest.report import BuildReport, FailedItem, FolderReport
from sqlstore.limits import GiB, KiB, MiB
from sqlstore.maintenance.absorb import Absorbed, absorb
from sqlstore.maintenance.migrate import Migration, migrate
from sqlstore.maintenance.rebuild import rebuild
from sqlstore.maintenance.repair import Repaired, repair
from sqlstore.maintenance.report import Fault, Report
from sqlstore.maintenance.verify import verify
from sqlstore.merging.merge import merge
from sqlstore.merging.parts import Merged
from sqlstore.schema import Column, Field, Schema
from sqlstore.splits.folds import Fold, split_names
from sqlstore.store import Store, open
from sqlstore.subsets import Subset
from sqlstore.version import __version__
from sqlstore.view import View
from sqlstore.writer import Writer

__all__ = [
    "Absorbed",
    "BuildReport",
    "ChecksumError",
    "ChunkUse",
    "Column",
    "ColumnSummary",
    "CommitOutcomeUnknownError",
    "Compaction",
    "Comparison",
    "ConcatView",
    "CorruptCacheError",
    "CorruptChunkError",
    "CorruptIndexError",
    "CorruptStoreError",
    "DecodeError",
    "Description",
    "Diff",
    "DifferentStoresError",
    "DuplicateKeyError",
    "EncodeError",
    "EncodingUnavailableError",
    "ExportError",
    "Exported",
    "FailedItem",
    "Fault",
    "Field",
    "FieldSummary",
    "Fold",
    "FolderReport",
    "ForkedLogError",
    "ForkedStoreError",
    "GiB",
    "Histogram",
    "IndexBehindLogError",
    "ItemError",
    "KiB",
    "MergeError",
    "Merged",
    "MiB",
    "Migration",
    "MigrationError",
    "MigrationRequiredError",
    "MissingChunkError",
    "MissingPackageError",
    "NotAStoreError",
    "Plan",
    "QueryError",
    "ReadOnlyError",
    "RecordNotFoundError",
    "Repaired",
    "Report",
    "Schema",
    "SchemaError",
    "Sizes",
    "Snapshot",
    "SnapshotExistsError",
    "SnapshotNotFoundError",
    "SplitError",
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
    "Subset",
    "SubsetExistsError",
    "SubsetNotFoundError",
    "TruncatedChunkError",
    "UnknownNameError",
    "VersionError",
    "View",
    "Writer",
    "__version__",
    "absorb",
    "build",
    "concat",
    "create",
    "export_folder",
    "import_folder",
    "infer",
    "merge",
    "migrate",
    "open",
    "rebuild",
    "repair",
    "split_names",
    "verify",
]


def __dir__() -> list[str]:
    return list(__all__)  # what a shell completes; not the modules
