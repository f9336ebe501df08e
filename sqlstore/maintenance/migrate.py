"""Bring the index of an older store up to date, with Alembic, all or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlstore import copies
from sqlstore.errors import MigrationError, SqlstoreError, StoreTooNewError
from sqlstore.index import versions
from sqlstore.index.engine import INDEX_NAME, Index
from sqlstore.log import files
from sqlstore.log.lock import WriterLock
from sqlstore.types import StrPath

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PACKAGE: Final = Path(__file__).resolve().parent.parent


def migrations_folder() -> Path:
    """Return where the Alembic scripts lie: in the package, or beside it in a checkout."""
    for candidate in (_PACKAGE / "migrations", _PACKAGE.parent / "migrations"):
        if (candidate / "env.py").is_file():
            return candidate
    raise MigrationError("sqlstore was installed without its migrations; install it anew")


@dataclass(frozen=True, slots=True)
class Migration:
    """What an upgrade did.

    Attributes
    ----------
    before, after
        The revisions; the same if there was nothing to do.
    backup
        A copy of the index as it was, or None if there was nothing to do.
    """

    before: str
    after: str
    backup: Path | None


def migrate(path: StrPath) -> Migration:
    """Bring the index of a store up to the revision of this library.

    A copy of the index is kept beside it. The upgrade is one transaction: it happens as a whole or
    not at all, also if the process is killed. Snapshots are brought up before it, one by one.

    Parameters
    ----------
    path
        The folder of the store.

    Raises
    ------
    StoreTooNewError
        A newer sqlstore wrote it.
    MigrationError
        The upgrade failed; the index is as it was.
    """
    root = Path(path).absolute()
    files.check_has_chunks(root)
    lock = WriterLock(root)
    try:
        with lock.held(), contextlib.closing(Index(root / INDEX_NAME, write=True)) as index:
            before = versions.revision(index)
            if before not in versions.KNOWN_REVISIONS:
                raise StoreTooNewError(
                    f"{root} was written by a newer sqlstore (revision {before}); update sqlstore"
                )
            for path in copies.paths(root):
                _upgrade_copy(path, root)
            if before == versions.head():
                return Migration(before, before, None)
            backup = root / f"{INDEX_NAME}.{before}.backup"
            with files.storage_errors("remove", backup):
                backup.unlink(missing_ok=True)
            index.copy_to(backup)
            _upgrade(index)
            return Migration(before, versions.revision(index), backup)
    finally:
        lock.close()


def _upgrade_copy(path: Path, root: Path) -> None:
    """Put an upgraded copy in the place of that of a snapshot, which somebody may be reading."""
    with contextlib.closing(Index(path, root=root)) as old:
        if versions.revision(old) == versions.head():
            return
        with copies.replacing(path) as temporary:
            old.copy_to(temporary)
            with contextlib.closing(Index(temporary, root=root, write=True)) as copy:
                _upgrade(copy)


def _upgrade(index: Index) -> None:
    from alembic import command  # imported only when an upgrade really runs
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    # Batch operations drop and recreate tables, which must not cascade. Inside a transaction this
    # pragma would be ignored.
    index.run("PRAGMA foreign_keys = OFF")
    # Else a table that the view names could not be recreated under its name.
    index.run("PRAGMA legacy_alter_table = ON")
    tables = _row_counts(index)
    with _transaction(index) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _check(index, tables)


@contextmanager
def _transaction(index: Index) -> Iterator[Connection]:
    """Hold one explicit transaction that SQLAlchemy ends, with every error as `MigrationError`."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    driver = index.connection
    engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool)
    with engine.connect() as connection:
        # Not left to the driver: it would run DDL outside of any transaction, and a crash in the
        # middle would leave a store that can neither be used nor upgraded.
        index.run("BEGIN EXCLUSIVE")
        try:
            yield connection
            connection.commit()
        except Exception as error:
            connection.rollback()
            raise MigrationError(f"the upgrade of {index.path} was rolled back: {error}") from error
        finally:
            if index.connection.in_transaction:
                index.rollback()


def _row_counts(index: Index) -> dict[str, int]:
    names = [name for (name,) in index.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    kept = [name for name in names if name not in ("alembic_version", "sqlite_sequence")]
    return {name: index.rows(f'SELECT count(*) FROM "{name}"')[0][0] for name in kept}


def _check(index: Index, before: dict[str, int]) -> None:
    """Refuse an upgrade that lost rows or left damage."""
    after = _row_counts(index)
    lost = [name for name, count in before.items() if after.get(name, count) < count]
    if lost:
        raise SqlstoreError(f"rows were lost in {', '.join(lost)}")
    if index.rows("PRAGMA foreign_key_check"):
        raise SqlstoreError("rows point to rows that are gone")
    if index.rows("PRAGMA integrity_check(1)") != [("ok",)]:
        raise SqlstoreError("the integrity check failed")
