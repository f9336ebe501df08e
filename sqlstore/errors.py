"""Every error that sqlstore raises, in one tree.

::

    SqlstoreError                                     catch-all
    ├── StoreNotFoundError       (FileNotFoundError)  no store at this path
    ├── StoreExistsError         (FileExistsError)    create() over something that is there
    ├── NotAStoreError                                a folder or file, but not ours
    ├── StoreClosedError         (ValueError)         used after close()
    ├── ReadOnlyError            (PermissionError)    a write to something opened for reading
    ├── StoreBusyError           (TimeoutError)       a lock was not free in time; try again
    ├── ForkedStoreError         (RuntimeError)       a writer used in a forked child
    ├── MissingPackageError      (ImportError)        an extra is not installed
    ├── StorageError             (OSError)            the file system refused; errno is kept
    │   ├── StoreFullError                            no space left; the last commit is intact
    │   └── CommitOutcomeUnknownError                 a commit may or may not have happened
    ├── SchemaError              (ValueError)         a record or schema is not what was declared
    │   ├── UnknownNameError                          no such field or metadata column
    │   ├── EncodingUnavailableError                  an encoding that is not registered or allowed
    │   ├── DuplicateKeyError                         the unique key is already taken
    │   └── EncodeError                               a value does not fit its field's encoding
    ├── QueryError               (ValueError)         SQL or a bound value that cannot be run
    ├── DifferentStoresError     (ValueError)         an operator between views of several stores
    ├── ExportError              (ValueError)         records cannot be written so, or to there
    ├── MergeError               (ValueError)         stores that cannot become one like this
    ├── SplitError               (ValueError)         sizes, folds or columns of no split
    ├── RecordNotFoundError      (LookupError)        no record with this id or key
    ├── SubsetNotFoundError      (LookupError)        no subset of this name
    ├── SubsetExistsError        (ValueError)         a subset of this name is there already
    ├── SnapshotNotFoundError    (LookupError)        no snapshot of this name
    ├── SnapshotExistsError      (ValueError)         a snapshot of this name is there already
    ├── ItemError                                     a function of yours failed at an item
    ├── StaleViewError                                a pickled view's ids are not kept any more
    ├── VersionError                                  store and library do not fit together
    │   ├── MigrationRequiredError                    older store: run `sqlstore migrate`
    │   ├── StoreTooNewError                          written by a newer sqlstore
    │   └── MigrationError                            an upgrade failed and was rolled back
    └── CorruptStoreError                             what is stored is not what was committed
        ├── CorruptIndexError                         index.sqlite: run `sqlstore rebuild`
        ├── CorruptCacheError                         cache/: made anew by itself, or delete it
        ├── IndexBehindLogError                       index.sqlite is older than the chunks
        ├── ForkedLogError                            two commits claim the same predecessor
        ├── CorruptChunkError                         a chunk's header, segment table or trailer
        │   ├── MissingChunkError                     a chunk file is gone
        │   └── TruncatedChunkError                   a chunk file is too short
        ├── ChecksumError                             a stored value is not what was written
        └── DecodeError                               its checksum is right, its encoding is not

A message says what went wrong, where, and what to do. Damage never derives from ``ValueError`` or
``KeyError``, so code that expects those cannot swallow it. Every error pickles and can be made from
one string, because that is how worker processes carry it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ChecksumError",
    "CommitOutcomeUnknownError",
    "CorruptCacheError",
    "CorruptChunkError",
    "CorruptIndexError",
    "CorruptStoreError",
    "DecodeError",
    "DifferentStoresError",
    "DuplicateKeyError",
    "EncodeError",
    "EncodingUnavailableError",
    "ExportError",
    "ForkedLogError",
    "ForkedStoreError",
    "IndexBehindLogError",
    "ItemError",
    "MergeError",
    "MigrationError",
    "MigrationRequiredError",
    "MissingChunkError",
    "MissingPackageError",
    "NotAStoreError",
    "QueryError",
    "ReadOnlyError",
    "RecordNotFoundError",
    "SchemaError",
    "SnapshotExistsError",
    "SnapshotNotFoundError",
    "SplitError",
    "SqlstoreError",
    "StaleViewError",
    "StorageError",
    "StoreBusyError",
    "StoreClosedError",
    "StoreExistsError",
    "StoreFullError",
    "StoreNotFoundError",
    "StoreTooNewError",
    "SubsetExistsError",
    "SubsetNotFoundError",
    "TruncatedChunkError",
    "UnknownNameError",
    "VersionError",
]


class SqlstoreError(Exception):
    """Base of every error that sqlstore raises.

    Parameters
    ----------
    message
        What went wrong and what to do about it.
    **where
        Where it happened, such as ``record=4711, field="image", chunk="000012-5f3a9c1e.chunk"``.
        Kept in the attribute ``where`` and shown after the message.

    Attributes
    ----------
    committed
        Where an error ends a series of commits, as in ``Store.extend``: the ids (int64) of the
        records that were committed before it. None elsewhere.
    """

    committed: NDArray[np.int64] | None = None

    def __init__(self, message: str = "", **where: object) -> None:
        super().__init__(message)
        self.message = message
        self.where = where

    def __str__(self) -> str:
        where = ", ".join(f"{key} {value}" for key, value in self.where.items())
        return f"{self.message} ({where})" if where else self.message

    def __reduce__(self) -> tuple[object, ...]:
        made_of = type(self), self.message, self.where, getattr(self, "errno", None)
        return _restore, made_of, self.__dict__


def _restore(
    kind: type[SqlstoreError], message: str, where: dict[str, object], errno: int | None
) -> SqlstoreError:
    error = kind(message, **where)
    if isinstance(error, OSError):
        error.errno = errno
    return error


class StoreNotFoundError(SqlstoreError, FileNotFoundError):
    """There is no store at this path."""


class StoreExistsError(SqlstoreError, FileExistsError):
    """``create`` was asked for a path at which something lies already."""


class NotAStoreError(SqlstoreError):
    """The path exists, but what lies there is not a store."""


class StoreClosedError(SqlstoreError, ValueError):
    """A store or writer was used after it was closed."""


class ReadOnlyError(SqlstoreError, PermissionError):
    """Something that is opened for reading, or may only be read, was to be written."""


class StoreBusyError(SqlstoreError, TimeoutError):
    """A lock was not free within the time allowed; trying again may succeed."""


class ForkedStoreError(SqlstoreError, RuntimeError):
    """A writer was used in a forked child of the process that opened it."""


class MissingPackageError(SqlstoreError, ImportError):
    """An optional package is needed that is not installed."""


class StorageError(SqlstoreError, OSError):
    """The operating system refused to read or write; ``errno`` says why."""


class StoreFullError(StorageError):
    """No space is left; what was committed before is intact."""


class CommitOutcomeUnknownError(StorageError):
    """A commit failed so late that it may or may not have happened; reopen the store to see."""


class SchemaError(SqlstoreError, ValueError):
    """A schema is not valid, or a record does not fit it."""


class UnknownNameError(SchemaError):
    """No field or metadata column has this name."""


class EncodingUnavailableError(SchemaError):
    """A field has an encoding that is not registered with this store, or is not allowed."""


class DuplicateKeyError(SchemaError):
    """A record with the same unique key exists."""


class EncodeError(SchemaError):
    """A value does not fit the encoding of its field."""


class QueryError(SqlstoreError, ValueError):
    """SQL text, an expression or a bound value cannot be run."""


class DifferentStoresError(SqlstoreError, ValueError):
    """An operator was used between views of different stores; `sqlstore.concat` takes them."""


class ExportError(SqlstoreError, ValueError):
    """Records cannot be exported as they are asked for, or not to this place."""


class MergeError(SqlstoreError, ValueError):
    """Stores cannot be merged like this: a source is the target, or it is too much at once."""


class SplitError(SqlstoreError, ValueError):
    """Records cannot be split like this: sizes, number of folds or columns are wrong."""


class RecordNotFoundError(SqlstoreError, LookupError):
    """No record has this id or key."""


class SubsetNotFoundError(SqlstoreError, LookupError):
    """No subset has this name."""


class SubsetExistsError(SqlstoreError, ValueError):
    """A subset of this name is there already."""


class SnapshotNotFoundError(SqlstoreError, LookupError):
    """No snapshot has this name."""


class SnapshotExistsError(SqlstoreError, ValueError):
    """A snapshot of this name is there already, or of one that file systems take for the same."""


class ItemError(SqlstoreError):
    """What ``build`` or ``add_column`` calls has failed at an item, or at a record."""


class StaleViewError(SqlstoreError):
    """The ids of a pickled view, which lay in a file, are gone; make the view anew."""


class VersionError(SqlstoreError):
    """The store and this library do not fit together."""


class MigrationRequiredError(VersionError):
    """The store was written by an older sqlstore; ``sqlstore migrate`` brings it up to date."""


class StoreTooNewError(VersionError):
    """The store was written by a newer sqlstore than this one can deal with."""


class MigrationError(VersionError):
    """An upgrade of the index failed; it was rolled back."""


class CorruptStoreError(SqlstoreError):
    """What is stored is not what was committed."""


class CorruptIndexError(CorruptStoreError):
    """``index.sqlite`` is damaged or missing; ``sqlstore rebuild`` makes it from the chunks."""


class CorruptCacheError(CorruptStoreError):
    """What is derived from the log under ``cache`` is damaged; it may be deleted at any time."""


class IndexBehindLogError(CorruptStoreError):
    """``index.sqlite`` is older than the chunks and cannot be rolled forward."""


class ForkedLogError(CorruptStoreError):
    """Two commits in the chunks claim the same predecessor."""


class CorruptChunkError(CorruptStoreError):
    """A chunk's header, segment table or trailer is damaged."""


class MissingChunkError(CorruptChunkError):
    """A chunk file is gone."""


class TruncatedChunkError(CorruptChunkError):
    """A chunk file is shorter than what was committed to it."""


class ChecksumError(CorruptStoreError):
    """The stored bytes of a value are not those that were written."""


class DecodeError(CorruptStoreError):
    """The stored bytes of a value are right, but its encoding or compression cannot read them."""


# A traceback shows `sqlstore.SchemaError`, the name people import.
for _name in __all__:
    globals()[_name].__module__ = "sqlstore"
