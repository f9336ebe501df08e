"""Revisions of the index: which can be read and written, and how an older one is brought up."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
import warnings
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

import sqlstore
from sqlstore import (
    CorruptIndexError,
    MigrationError,
    MigrationRequiredError,
    StoreTooNewError,
    VersionError,
)
from sqlstore.index import versions
from sqlstore.index.engine import Index
from sqlstore.limits import FORMAT_VERSION
from sqlstore.log.lock import WriterLock
from sqlstore.maintenance import migrate as machinery
from tests.assets import make_store
from tests.newer import ADD, NEW, OLD, revision, write_revision

ASSETS: Final = Path(make_store.__file__).parent


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


def edit(root: Path, *statements: str) -> None:
    for statement in statements:
        query(root / "index.sqlite", statement)


def declared(path: Path) -> dict[str, str]:
    """Return the SQL of everything in an index, by name, with all whitespace made one space."""
    rows = query(path, "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {name: " ".join(sql.split()) for name, sql in rows}


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: sorted(query(path, f"SELECT * FROM {name}"), key=repr)
        for name, sql in declared(path).items()
        if sql.startswith("CREATE TABLE")
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_store.make(tmp_path / "store")
    return tmp_path / "store"


# Which revisions can be read and written


def test_an_unknown_revision_that_says_so_can_be_read_with_one_warning(root: Path) -> None:
    edit(root, f"UPDATE alembic_version SET version_num = '{NEW}'")
    with pytest.warns(UserWarning, match="newer sqlstore") as caught:
        store = sqlstore.open(root)
    with store:
        assert make_store.differences(store) == []
    (warning,) = caught
    assert NEW in str(warning.message)
    assert Path(warning.filename) == Path(__file__)


def test_an_unknown_revision_cannot_be_written(root: Path) -> None:
    edit(root, f"UPDATE alembic_version SET version_num = '{NEW}'")
    before = rows(root / "index.sqlite")
    with pytest.warns(UserWarning, match="not written"):
        store = sqlstore.open(root, mode="a")
    with store, pytest.raises(StoreTooNewError, match="update sqlstore"):
        store.extend([{"path": "new", "width": 1}])
    assert rows(root / "index.sqlite") == before


def test_an_unknown_revision_for_newer_readers_is_refused(root: Path) -> None:
    edit(
        root,
        f"UPDATE alembic_version SET version_num = '{NEW}'",
        f"UPDATE store SET min_reader = {FORMAT_VERSION + 1}",
    )
    with pytest.raises(StoreTooNewError, match="update sqlstore"):
        sqlstore.open(root)
    edit(root, "DELETE FROM store")
    with pytest.raises(StoreTooNewError):
        sqlstore.open(root)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM alembic_version",
        f"INSERT INTO alembic_version VALUES ('{NEW}')",
        "DROP TABLE alembic_version",
    ],
)
def test_an_index_without_one_revision_is_corrupt(root: Path, change: str) -> None:
    edit(root, change)
    with pytest.raises(CorruptIndexError, match=r"revision|alembic_version"):
        sqlstore.open(root)
    with pytest.raises(CorruptIndexError, match=r"revision|alembic_version"):
        sqlstore.migrate(root)


@pytest.fixture
def newer_library(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a later sqlstore, for which the store of the test, made before, is an older one."""
    monkeypatch.setattr(versions, "KNOWN_REVISIONS", (*versions.KNOWN_REVISIONS, NEW))


@pytest.mark.usefixtures("newer_library")
def test_an_older_revision_can_be_read_and_names_what_to_do_to_write(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with sqlstore.open(root, mode="a") as store:
            assert make_store.differences(store) == []
            with pytest.raises(MigrationRequiredError) as caught:
                store.extend([{"path": "new", "width": 1}])
    assert f"sqlstore migrate {root}" in str(caught.value)
    assert f"revision {OLD}" in str(caught.value)


@pytest.mark.usefixtures("newer_library")
def test_a_revision_that_is_too_old_to_read_names_what_to_do(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "OLDEST_READABLE", NEW)
    with pytest.raises(MigrationRequiredError, match="sqlstore migrate"):
        sqlstore.open(root)


# Nothing drifts apart


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(machinery.migrations_folder()))
    return ScriptDirectory.from_config(config)


def test_the_revisions_that_are_known_are_those_in_the_folder() -> None:
    in_order = [script.revision for script in scripts().walk_revisions()]
    assert list(versions.KNOWN_REVISIONS) == in_order[::-1]
    assert scripts().get_current_head() == versions.head()
    assert versions.OLDEST_READABLE in versions.KNOWN_REVISIONS
    assert all(len(revision) <= 32 for revision in versions.KNOWN_REVISIONS)  # VARCHAR(32)


def test_a_created_index_is_what_the_migrations_make(tmp_path: Path) -> None:
    sqlstore.create(tmp_path / "store", metadata={"label": "string"}).close()
    created = declared(tmp_path / "store" / "index.sqlite")
    with contextlib.closing(Index(tmp_path / "migrated", write=True, create=True)) as index:
        machinery._upgrade(index)
        assert versions.revision(index) == versions.head()
    migrated = declared(tmp_path / "migrated")
    assert created.pop("records")  # follows the schema of each store, and no migration
    assert migrated == created


# An upgrade to a revision of the future


def test_an_upgrade_keeps_everything_and_makes_a_backup(root: Path, tmp_path: Path) -> None:
    index = root / "index.sqlite"
    before, before_sql = rows(index), declared(index)
    with revision(write_revision(tmp_path / "100% migrations", ADD)):
        done = sqlstore.migrate(root)
        assert (done.before, done.after) == (OLD, NEW)
        assert done.backup == root / f"index.sqlite.{OLD}.backup"
        again = sqlstore.migrate(root)
        assert (again.before, again.after, again.backup) == (NEW, NEW, None)

        after, after_sql = rows(index), declared(index)
        assert after.pop("alembic_version") == [(NEW,)]
        assert after.pop("tags") == []
        assert after.pop("commits") == [(*row, None) for row in before["commits"]]
        assert after == {k: v for k, v in before.items() if k not in ("alembic_version", "commits")}
        assert "author TEXT" in after_sql["commits"]
        strict = {name for name, sql in before_sql.items() if sql.endswith("STRICT")}
        assert strict | {"tags"} == {n for n, sql in after_sql.items() if sql.endswith("STRICT")}
        assert len(strict) == len(rows(done.backup)) - 1  # all but Alembic's own

        with sqlstore.open(root, mode="a") as store:
            assert make_store.differences(store) == []
            assert len(store.extend([{"path": "new", "width": 1}])) == 1
    assert rows(root / f"index.sqlite.{OLD}.backup") == before
    assert declared(root / f"index.sqlite.{OLD}.backup") == before_sql
    with pytest.warns(UserWarning, match="newer"):
        sqlstore.open(root).close()


def test_the_backup_can_be_put_back(root: Path, tmp_path: Path) -> None:
    with revision(write_revision(tmp_path / "migrations", ADD)):
        backup = sqlstore.migrate(root).backup
    assert backup is not None
    backup.replace(root / "index.sqlite")
    with sqlstore.open(root, mode="a") as store:
        store.extend([{"path": "new", "width": 1}])
        assert store.verify()


def test_an_upgrade_brings_up_snapshots_as_well(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlstore.open(root, "a") as store:
        store.snapshot("v1")
        store.snapshot("v2")
    copies = [root / "snapshots" / f"{name}.sqlite" for name in ("v1", "v2")]
    with (
        sqlstore.open(root, snapshot="v1") as reading,
        revision(write_revision(tmp_path / "migrations", ADD)),
    ):
        monkeypatch.setattr(versions, "OLDEST_READABLE", NEW)
        with pytest.raises(MigrationRequiredError, match=f"sqlstore migrate {root}`"):
            sqlstore.open(root, snapshot="v1")
        sqlstore.migrate(root)
        assert {query(copy, "SELECT * FROM alembic_version")[0][0] for copy in copies} == {NEW}
        assert len(list((root / "snapshots").iterdir())) == 2
        for opened in (reading, sqlstore.open(root, snapshot="v2")):
            with opened:
                assert make_store.differences(opened) == []


RECREATE: Final = """
    with op.batch_alter_table({table!r}, recreate="always") as batch:
        batch.add_column(sa.Column("more", sa.TEXT))
"""


@pytest.mark.parametrize(
    "table", ["store", "fields", "columns", "chunks", "commits", "blobs", "subsets"]
)
def test_an_upgrade_may_recreate_a_table(root: Path, tmp_path: Path, table: str) -> None:
    """As Alembic does for most changes; neither the view nor what cascades may suffer."""
    index = root / "index.sqlite"
    edit(
        root,
        "INSERT INTO subsets VALUES (1, 'mine', NULL, NULL, NULL, 1, '', '', 0)",
        "INSERT INTO subset_records VALUES (1, 0, 3)",
    )
    before, before_sql = rows(index), declared(index)
    locations = query(index, "SELECT * FROM record_locations")
    with revision(write_revision(tmp_path / "migrations", RECREATE.format(table=table))):
        sqlstore.migrate(root)
        after = rows(index)
        assert after.pop("alembic_version") == [(NEW,)]
        assert after.pop(table) == [(*row, None) for row in before[table]]
        assert after.items() <= before.items()
        assert declared(index)[table].endswith("STRICT")
        assert declared(index)["record_locations"] == before_sql["record_locations"]
        assert query(index, "SELECT * FROM record_locations") == locations
        with sqlstore.open(root) as store:
            assert make_store.differences(store) == []


FAILURES: Final = {
    "an exception": "    raise RuntimeError('in mid-upgrade')\n",
    "SQL that fails": "    op.execute('SELECT * FROM nowhere')\n",
    "lost rows": "    op.execute('DELETE FROM blobs WHERE record = 1')\n",
    "rows that point nowhere": "    op.execute('INSERT INTO subset_records VALUES (7, 0, 0)')\n",
    "a broken constraint": (
        "    op.execute('PRAGMA ignore_check_constraints = ON')\n"
        "    op.execute('UPDATE store SET only = 2')\n"
        "    op.execute('PRAGMA ignore_check_constraints = OFF')\n"
    ),
    "a script that does not even begin": "    nonsense(\n",
}


@pytest.mark.parametrize("why", FAILURES)
def test_an_upgrade_that_fails_leaves_the_index_as_it_was(
    root: Path, tmp_path: Path, why: str
) -> None:
    index = root / "index.sqlite"
    before = rows(index), declared(index)
    folder = write_revision(tmp_path / "migrations", ADD + FAILURES[why])
    with (
        revision(folder),
        pytest.raises(MigrationError, match="rolled back") as caught,
    ):
        sqlstore.migrate(root)
    assert caught.value.__cause__ is not None
    assert (rows(index), declared(index)) == before
    with sqlstore.open(root, mode="a") as store:
        store.extend([{"path": "new", "width": 1}])
        assert store.verify()

    with revision(write_revision(tmp_path / "mended", ADD)):
        assert sqlstore.migrate(root).after == NEW
    assert declared(index).keys() == before[1].keys() | {"tags"}


MIGRATE: Final = """
import sys
from pathlib import Path
import sqlstore
from sqlstore.index import versions
from sqlstore.maintenance import migrate
versions.KNOWN_REVISIONS = (*versions.KNOWN_REVISIONS, sys.argv[3])
migrate.migrations_folder = lambda: Path(sys.argv[2])
sqlstore.migrate(sys.argv[1])
"""
DEATHS: Final = {
    "exits": ("    os._exit(9)\n", 9),
    "is killed": ("    os.kill(os.getpid(), signal.SIGKILL)\n", -signal.SIGKILL),
}


@pytest.mark.parametrize("how", DEATHS)
def test_a_process_that_dies_in_mid_upgrade_leaves_a_usable_store(
    root: Path, tmp_path: Path, how: str
) -> None:
    index = root / "index.sqlite"
    before = rows(index), declared(index)
    death, code = DEATHS[how]
    folder = write_revision(tmp_path / "migrations", ADD + death)
    command = [sys.executable, "-c", MIGRATE, str(root), str(folder), NEW]
    assert subprocess.run(command, timeout=60, check=False).returncode == code
    assert (rows(index), declared(index)) == before
    with sqlstore.open(root, mode="a") as store:
        assert make_store.differences(store) == []
        store.extend([{"path": "new", "width": 1}])
        assert store.verify()
    with revision(write_revision(tmp_path / "mended", ADD)):
        assert sqlstore.migrate(root).after == NEW
        with sqlstore.open(root, mode="a") as store:
            assert len(store) == len(make_store.RECORDS) + 1


def test_an_interrupt_in_mid_upgrade_leaves_the_index_as_it_was(root: Path, tmp_path: Path) -> None:
    before = rows(root / "index.sqlite"), declared(root / "index.sqlite")
    folder = write_revision(tmp_path / "migrations", ADD + "    raise KeyboardInterrupt\n")
    with revision(folder), pytest.raises(KeyboardInterrupt):
        sqlstore.migrate(root)
    assert (rows(root / "index.sqlite"), declared(root / "index.sqlite")) == before
    with sqlstore.open(root, mode="a") as store:
        store.extend([{"path": "new", "width": 1}])


def test_an_installation_without_migrations_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "_PACKAGE", tmp_path / "package")
    with pytest.raises(MigrationError, match="install it anew"):
        machinery.migrations_folder()
    beside = tmp_path / "migrations"
    beside.mkdir()
    (beside / "env.py").touch()
    assert machinery.migrations_folder() == beside


def test_a_store_of_this_revision_needs_nothing(root: Path) -> None:
    before = sorted(path.name for path in root.iterdir())
    done = sqlstore.migrate(root)
    assert (done.before, done.after, done.backup) == (OLD, OLD, None)
    assert sorted(path.name for path in root.iterdir()) == before


def test_a_store_of_a_newer_sqlstore_is_not_migrated(root: Path) -> None:
    edit(root, f"UPDATE alembic_version SET version_num = '{NEW}'")
    with pytest.raises(StoreTooNewError, match="update sqlstore"):
        sqlstore.migrate(root)


def test_what_is_no_store_is_not_migrated(root: Path, tmp_path: Path) -> None:
    with pytest.raises(sqlstore.StoreNotFoundError):
        sqlstore.migrate(tmp_path / "nowhere")
    with pytest.raises(sqlstore.NotAStoreError):
        sqlstore.migrate(tmp_path)
    (root / "index.sqlite").unlink()
    with pytest.raises(CorruptIndexError, match="sqlstore rebuild"):
        sqlstore.migrate(root)


def test_a_migration_waits_for_the_writer_that_commits(root: Path, tmp_path: Path) -> None:
    lock = WriterLock(root)
    with revision(write_revision(tmp_path / "migrations", ADD)):
        done: list[str] = []
        thread = threading.Thread(target=lambda: done.append(sqlstore.migrate(root).after))
        with lock.held():
            thread.start()
            thread.join(0.2)  # long enough for a migration that does not wait
            assert query(root / "index.sqlite", "SELECT * FROM alembic_version") == [(OLD,)]
            assert not done
        thread.join(60)
        lock.close()
        assert done == [NEW]


def test_a_writer_waits_for_the_migration(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go = threading.Event(), threading.Event()
    check = machinery._check

    def paused(index: Index, before: dict[str, int]) -> None:
        inside.set()
        assert go.wait(60)
        check(index, before)

    ids: list[int] = []

    def write() -> None:
        with sqlstore.open(root, mode="a") as store:
            ids.extend(store.extend([{"path": "new", "width": 1}]).tolist())

    monkeypatch.setattr(machinery, "_check", paused)
    with revision(write_revision(tmp_path / "migrations", ADD)):
        migration = threading.Thread(target=sqlstore.migrate, args=(root,))
        writer = threading.Thread(target=write)
        migration.start()
        try:
            assert inside.wait(60)
            writer.start()
            writer.join(0.2)  # long enough for a writer that does not wait
            assert not ids
        finally:
            go.set()
        migration.join(60)
        writer.join(60)
        assert ids == [len(make_store.RECORDS)]
        assert versions.head() == NEW
        with sqlstore.open(root) as store:
            assert store.get(ids[0])["path"] == "new"


def test_a_writer_of_an_older_sqlstore_notices_that_the_store_was_migrated(
    root: Path, tmp_path: Path
) -> None:
    """It was opened before, and holds nothing that would keep the migration from happening."""
    folder = write_revision(tmp_path / "migrations", ADD)
    with sqlstore.open(root, mode="a") as store, store.writer() as writer:
        writer.append({"path": "new", "width": 1})
        with revision(folder):
            sqlstore.migrate(root)
        before = rows(root / "index.sqlite")
        with pytest.raises(VersionError):
            writer.commit()
        writer.rollback()
    assert rows(root / "index.sqlite") == before


# Stores that were released


def test_one_store_is_kept_for_every_revision() -> None:
    kept = sorted(path.stem for path in ASSETS.glob("*.zip"))
    assert kept == sorted(versions.KNOWN_REVISIONS)
    assert all(path.stat().st_size < 50_000 for path in ASSETS.glob("*.zip"))


@pytest.mark.parametrize("packed", sorted(ASSETS.glob("*.zip")), ids=lambda path: path.stem)
def test_a_store_of_a_released_revision_is_read_verified_and_migrated(
    packed: Path, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(root)
    assert query(root / "index.sqlite", "SELECT * FROM alembic_version") == [(packed.stem,)]
    n_records = len(make_store.RECORDS)
    with sqlstore.open(root) as store:
        assert make_store.differences(store) == []
        assert store.schema.key == make_store.KEY
        assert list(store.schema.fields) == list(make_store.FIELDS)
        assert list(store.schema.columns) == list(make_store.COLUMNS)
        assert store.to_arrow().num_rows == n_records
        assert store.where("width > 300").ids.tolist() == [1, 6, 7, 8, 9, 10, 11]

    done = sqlstore.migrate(root)
    assert (done.before, done.after) == (packed.stem, versions.head())
    with sqlstore.open(root, mode="a") as store:
        report = store.verify()
        assert report, str(report)
        assert report.records == n_records
        assert store.extend([{"path": "new", "width": 1}]).tolist() == [n_records]
        assert store.verify()

    (root / "index.sqlite").unlink()
    assert sqlstore.rebuild(root) == n_records + 1
    with sqlstore.open(root) as store:
        assert make_store.differences(store[:n_records]) == []
        assert store.get(key="new")["width"] == 1


def test_the_script_that_made_them_does_not_replace_one(capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in ASSETS.glob("*.zip")}
    assert make_store.main() == 1
    assert "not made anew" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in ASSETS.glob("*.zip")} == before
