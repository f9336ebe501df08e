"""`verify`: a clean store is clean, and every way in which index and log can differ is named."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

import sqlstore
from sqlstore import (
    CorruptIndexError,
    CorruptStoreError,
    Fault,
    Field,
    KiB,
    SqlstoreError,
    verify,
)
from sqlstore.log import chain
from sqlstore.log.chain import Link
from sqlstore.log.reader import ChunkReader
from sqlstore.log.table import Values
from sqlstore.maintenance import check_log
from tests.assets import make_store

N_RECORDS: Final = len(make_store.RECORDS)

# A process of its own, as somebody who looks at the index with `sqlite3` would be. Without `site`,
# which it has no use for, it starts in a fraction of the time.
EDIT: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    done = connection.execute(statement)
    if not statement.startswith(("CREATE", "ALTER", "DROP", "PRAGMA")):
        assert done.rowcount > 0, statement
connection.close()
"""


def edit(root: Path, *statements: str) -> None:
    """Change the index behind sqlstore's back."""
    command = [sys.executable, "-I", "-S", "-c", EDIT, str(root / "index.sqlite"), *statements]
    subprocess.run(command, check=True, timeout=60)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verify") / "store"
    make_store.make(root)
    return root


@pytest.fixture
def root(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "store"))


def faults(root: Path) -> Iterator[Fault]:
    report = verify(root)
    assert not report
    return iter(report.faults)


def check_reads_right_or_refuses(root: Path) -> None:
    """Read all raw values and records: what does not raise is what was written."""
    try:
        store = sqlstore.open(root)
    except SqlstoreError:
        return
    with store:
        for number, expected in enumerate(make_store.RECORDS):
            try:
                found = store.get(number)
            except SqlstoreError:
                continue
            for name, value in expected.items():
                assert make_store.same(found[name], value), (number, name)
            for name in ("plain", "squeezed"):
                assert store.raw(number, name) == expected[name]


def test_a_clean_store_is_clean_and_everything_in_it_was_looked_at(root: Path) -> None:
    with sqlstore.open(root) as store:
        report = store.verify()
    assert report
    assert not report.faults
    assert not report.notes
    n_values = sum(
        record[name] is not None for record in make_store.RECORDS for name in make_store.FIELDS
    )
    assert (report.records, report.values) == (N_RECORDS, n_values)
    assert report.commits == len(make_store.COMMITS) + 1
    assert report.chunks == len(list((root / "chunks").iterdir())) > 1
    with sqlstore.open(root) as store:
        stored = store.sql("SELECT sum(length) AS n FROM record_locations")["n"][0].as_py()
    assert report.n_bytes == stored
    assert str(report).startswith(f"no faults in {N_RECORDS} records, {n_values} values")
    assert report.as_dict()["clean"] is True


def test_a_report_says_what_and_where(root: Path) -> None:
    edit(root, "DELETE FROM blobs WHERE record = 3 AND field = 0")
    report = verify(root)
    assert not report
    assert report.as_dict()["clean"] is False
    (fault,) = [fault for fault in report.faults if fault.record == 3]
    assert report.as_dict()["faults"][0].keys() >= {"message", "record", "field", "chunk"}
    assert "(record 3, field plain)" in str(fault)
    assert f"fault: {fault}" in str(report)


def test_an_empty_store_is_clean(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "store", metadata={"label": "string"}) as store:
        report = store.verify()
    assert report
    assert (report.records, report.values, report.commits, report.chunks) == (0, 0, 1, 1)


def test_verify_changes_nothing(root: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        files = [path for path in root.rglob("*") if path.is_file()]
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in files}

    before = state()
    verify(root)
    edit(root, "UPDATE blobs SET offset = offset + 1 WHERE record = 3")
    damaged = state()
    verify(root)
    assert before.keys() == damaged.keys()
    assert state() == damaged


def test_commits_that_come_while_the_store_is_open_are_verified_too(root: Path) -> None:
    with sqlstore.open(root) as reader:
        with sqlstore.open(root, mode="a") as store:
            store.extend([{"path": "new", "width": 1}])
        report = reader.verify()
    assert report
    assert report.records == N_RECORDS + 1


# Rows of the index. What a commit wrote is in the log, so every other row is one too many.

BLOB_COLUMNS: Final = (
    "chunk",
    "offset",
    "length",
    "raw_length",
    "compression",
    "items",
    "checksum",
)


@pytest.mark.parametrize("column", BLOB_COLUMNS)
def test_a_changed_location_is_named(root: Path, column: str) -> None:
    edit(root, f"UPDATE blobs SET {column} = {column} + 1 WHERE record = 4 AND field = 3")
    (fault,) = faults(root)
    assert (fault.record, fault.field) == (4, "grid")
    assert column in fault.message
    assert "rebuild" in fault.message
    with sqlstore.open(root) as store:  # what is read comes from the log
        assert make_store.differences(store) == []


def test_swapped_locations_are_named(root: Path) -> None:
    edit(
        root,
        "UPDATE blobs SET record = -1 WHERE record = 4 AND field = 0",
        "UPDATE blobs SET record = 4 WHERE record = 5 AND field = 0",
        "UPDATE blobs SET record = 5 WHERE record = -1 AND field = 0",
    )
    assert {(f.record, f.field) for f in faults(root)} == {(4, "plain"), (5, "plain")}
    check_reads_right_or_refuses(root)


def test_a_missing_location_is_named(root: Path) -> None:
    edit(root, "DELETE FROM blobs WHERE record = 4 AND field = 3")
    assert (4, "grid") in {(f.record, f.field) for f in faults(root)}
    with sqlstore.open(root) as store:
        assert make_store.differences(store) == []


def blob(field: int, record: int) -> str:
    return f"INSERT INTO blobs VALUES ({field}, {record}, 0, 64, 1, 1, 0, 0, 0)"


def test_a_location_that_no_commit_wrote_is_named(root: Path) -> None:
    assert make_store.RECORDS[2]["plain"] is None
    edit(root, blob(0, 2))
    assert (2, "plain") in {(f.record, f.field) for f in faults(root)}
    with sqlstore.open(root) as store:
        assert store.raw(2, "plain") is None


@pytest.mark.parametrize(("field", "record"), [(99, 3), (0, N_RECORDS), (0, N_RECORDS + 7)])
def test_a_location_of_a_record_or_field_that_does_not_exist_is_named(
    root: Path, field: int, record: int
) -> None:
    edit(root, blob(field, record))
    assert record in {fault.record for fault in faults(root)}
    check_reads_right_or_refuses(root)


METADATA_CHANGES: Final = {
    "path": "'other'",
    "label": "'other'",
    "flag": "1 - flag",
    **{f"int{bits}": "17" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": "17" for bits in (8, 16, 32, 64)},
    "single": "0.25",
    "double": "0.25",
    "thumb": "x'00'",
    "day": "17",
    "local": "17",
    "taken": "17",
    "shown": "17",
    "extra": "'null'",
    "width": "17",
}


@pytest.mark.parametrize("column", METADATA_CHANGES)
@pytest.mark.parametrize("to", ["a value", "nothing"])
def test_changed_metadata_is_named(root: Path, column: str, to: str) -> None:
    record = 0  # has a value in every column
    value = METADATA_CHANGES[column] if to == "a value" else "NULL"
    if value == "NULL" and column in ("path", "width"):
        edit(root, f"DELETE FROM records WHERE id = {record}")  # the index refuses NULL there
        assert record in {fault.record for fault in faults(root)}
    else:
        edit(root, f"UPDATE records SET {column} = {value} WHERE id = {record}")
        (fault,) = faults(root)
        assert (fault.record, fault.field) == (record, column)
    with sqlstore.open(root) as store:
        assert make_store.differences(store) == []


def test_metadata_that_a_record_does_not_have_is_named(root: Path) -> None:
    edit(root, "UPDATE records SET double = 1.5 WHERE id = 2")
    (fault,) = faults(root)
    assert (fault.record, fault.field) == (2, "double")


def test_a_record_that_lost_its_row_is_named(root: Path) -> None:
    edit(root, "DELETE FROM records WHERE id = 5")
    assert 5 in {fault.record for fault in faults(root)}
    with sqlstore.open(root) as store:
        assert make_store.differences(store) == []  # only a filter misses it
        assert len(store.where("id = 5")) == 0


def test_a_record_under_another_id_is_named(root: Path) -> None:
    edit(root, f"UPDATE records SET id = {N_RECORDS + 10} WHERE id = 5")
    assert {5, N_RECORDS + 10} <= {fault.record for fault in faults(root)}


@pytest.mark.parametrize("record", [N_RECORDS, N_RECORDS + 10, -1])
def test_a_record_that_no_commit_wrote_is_named(root: Path, record: int) -> None:
    edit(root, f"INSERT INTO records (id, path, width) VALUES ({record}, 'mine', 1)")
    assert record in {fault.record for fault in faults(root)}
    check_reads_right_or_refuses(root)


COMMIT_COLUMNS: Final = (
    "number",
    "kind",
    "chunk",
    "offset",
    "committed_at",
    "first_record",
    "records",
)


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize("column", COMMIT_COLUMNS)
def test_a_changed_commit_is_named(root: Path, column: str, number: int) -> None:
    edit(root, f"UPDATE commits SET {column} = {column} + 7 WHERE number = {number}")
    assert any("commit" in fault.message for fault in faults(root))
    check_reads_right_or_refuses(root)


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize("text", ["", "no uuid", "00000000-0000-0000-0000-000000000007"])
def test_another_uuid_of_a_commit_is_named(root: Path, text: str, number: int) -> None:
    edit(root, f"UPDATE commits SET uuid = '{text}' WHERE number = {number}")
    assert any(f"commit {number} " in fault.message for fault in faults(root))
    check_reads_right_or_refuses(root)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_missing_commit_is_named(root: Path, number: int) -> None:
    edit(root, f"DELETE FROM commits WHERE number = {number}")
    assert any(f"commit {number} " in fault.message for fault in faults(root))
    check_reads_right_or_refuses(root)


def test_that_all_commits_are_missing_is_named(root: Path) -> None:
    edit(root, "DELETE FROM commits")
    assert any("holds no commit" in fault.message for fault in faults(root))
    check_reads_right_or_refuses(root)


def test_a_commit_that_is_not_in_the_log_is_named(root: Path) -> None:
    edit(
        root,
        "INSERT INTO commits SELECT number + 1, '00000000-0000-0000-0000-000000000007', kind, "
        "chunk, offset + 4096, committed_at, first_record + records, 1 "
        "FROM commits ORDER BY number DESC LIMIT 1",
    )
    assert any(f"commit {len(make_store.COMMITS) + 2} " in fault.message for fault in faults(root))
    check_reads_right_or_refuses(root)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE chunks SET size = size - 1 WHERE chunk = 1",
        "UPDATE chunks SET size = size + 1 WHERE chunk = 1",
        "UPDATE chunks SET size = 64 WHERE chunk = 1",
        "UPDATE chunks SET uuid = '00000000-0000-0000-0000-000000000007' WHERE chunk = 1",
        "UPDATE chunks SET uuid = 'no uuid' WHERE chunk = 1",
        "UPDATE chunks SET chunk = 77 WHERE chunk = 1",
        "UPDATE chunks SET name = '000009-00000000.chunk' WHERE chunk = 1",
        "UPDATE chunks SET name = '../index.sqlite' WHERE chunk = 1",
        "DELETE FROM chunks WHERE chunk = 1",
        "DELETE FROM chunks WHERE chunk = 0",
        "INSERT INTO chunks VALUES (77, '000077-00000000.chunk', 'no uuid', 64, 0, 0)",
    ],
)
def test_a_changed_chunk_is_named(root: Path, change: str) -> None:
    edit(root, change)
    assert any(fault.chunk is not None for fault in faults(root))
    check_reads_right_or_refuses(root)


@pytest.mark.parametrize(
    "change",
    [
        "uuid = '00000000-0000-0000-0000-000000000007'",
        "uuid = 'no uuid'",
        "format_version = 2",
        "min_reader = 0",
        "next_record_id = next_record_id + 1",
        "next_record_id = next_record_id - 1",
        "next_record_id = 0",
        "schema_version = 1",
        "chunk_size = chunk_size + 1",
        "created_at = 0",
        "library_version = '9.9'",
    ],
)
def test_another_description_of_the_store_is_named(root: Path, change: str) -> None:
    edit(root, f"UPDATE store SET {change}")
    assert any("index" in fault.message for fault in faults(root))
    check_reads_right_or_refuses(root)


def test_a_store_without_description_is_refused(root: Path) -> None:
    edit(root, "DELETE FROM store")
    with pytest.raises(CorruptIndexError, match="which store"):
        sqlstore.open(root, mode="a")
    sqlstore.rebuild(root)
    assert verify(root)


# The schema is read from the index, but what a commit holds is not the index's to say.


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE fields SET number = 77 WHERE name = 'grid'",
        "UPDATE fields SET name = 'grit' WHERE name = 'grid'",
        "UPDATE fields SET encoding = 'utf8' WHERE name = 'grid'",
        "UPDATE fields SET encoding = 'arrax' WHERE name = 'grid'",
        "UPDATE fields SET compression = 'zstd' WHERE name = 'grid'",
        "UPDATE fields SET compression = 'none' WHERE name = 'grid'",
        "UPDATE fields SET position = 77 WHERE name = 'plain'",
        "DELETE FROM fields WHERE name = 'grid'",
        "INSERT INTO fields VALUES (77, 'more', 'bytes', NULL, 77)",
        "UPDATE columns SET number = 77 WHERE name = 'width'",
        "UPDATE columns SET name = 'breadth' WHERE name = 'width'",
        "UPDATE columns SET type = 'int64' WHERE name = 'width'",
        "UPDATE columns SET type = 'string' WHERE name = 'extra'",
        "UPDATE columns SET type = 'int33' WHERE name = 'width'",
        "UPDATE columns SET nullable = 1 WHERE name = 'width'",
        "UPDATE columns SET indexed = 0 WHERE name = 'width'",
        "UPDATE columns SET is_key = 0 WHERE name = 'path'",
        "UPDATE columns SET position = 77 WHERE name = 'path'",
        "DELETE FROM columns WHERE name = 'width'",
        "INSERT INTO columns VALUES (77, 'more', 'int32', 1, 0, 0, 77)",
    ],
)
def test_another_schema_is_named_and_never_read_by(root: Path, change: str) -> None:
    edit(root, change)
    try:
        store = sqlstore.open(root)
    except CorruptIndexError:
        return
    with store:
        assert not store.verify()
        for number, expected in enumerate(make_store.RECORDS):
            for name in {*make_store.FIELDS} & {*store.schema.fields}:
                try:
                    raw = store.raw(number, name)
                    value = store.select(name)[number][name]
                except SqlstoreError:
                    continue
                assert (raw is None) == (expected[name] is None), (number, name)
                assert make_store.same(value, expected[name]), (number, name)
            for name in {*make_store.COLUMNS} & {*store.schema.columns}:
                try:
                    value = store.select(name)[number][name]
                except SqlstoreError:
                    continue
                assert make_store.same(value, expected[name]), (number, name)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("commits", "first_record"),
        ("commits", "records"),
        ("commits", "kind"),
        ("commits", "offset"),
        ("chunks", "size"),
        ("store", "next_record_id"),
        ("store", "chunk_size"),
    ],
)
@pytest.mark.parametrize("value", [-1, 2**62, 2**63 - 1, -(2**63)])
def test_absurd_numbers_in_the_index_give_errors_of_ours(
    root: Path, table: str, column: str, value: int
) -> None:
    row = {"commits": "number = 4", "chunks": "chunk = 1", "store": "1"}[table]
    edit(root, f"UPDATE {table} SET {column} = {value} WHERE {row}")
    check_reads_right_or_refuses(root)
    try:
        with sqlstore.open(root) as store:
            assert not store.verify()
            len(store)
            store.to_arrow()
            list(store.where("width > 300"))
    except SqlstoreError:
        pass


# Damaged pages hold what no statement could have put there.

HELD: Final = {
    "store": "uuid format_version min_reader generation next_record_id schema_version chunk_size "
    "created_at library_version",
    "fields": "name encoding position",
    "columns": "name type nullable indexed is_key position",
    "chunks": "name uuid size sealed",
    "commits": "uuid kind chunk offset committed_at first_record records",
    "blobs": "chunk offset length raw_length compression items checksum",
}


def put_what_does_not_fit(root: Path, table: str, column: str, value: str) -> None:
    """Set a column to a value that its declaration does not allow; of unique names only one."""

    def declare(sql: str) -> None:
        with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, table))
            connection.commit()

    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as connection:
        query = "SELECT sql FROM sqlite_schema WHERE name = ?"
        (declared,) = connection.execute(query, (table,)).fetchone()
    lax, count = re.subn(rf'("?\b{column}\b"?) (INTEGER|TEXT) NOT NULL', r"\1 ANY", declared)
    assert count == 1
    declare(lax)
    which = f"WHERE rowid = (SELECT max(rowid) FROM {table})" if column == "name" else ""
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as connection:
        change = f"UPDATE {table} SET {column} = {value} {which}"
        assert connection.execute(change).rowcount > 0
        connection.commit()
    declare(declared)


@pytest.mark.parametrize(
    ("table", "column"), [(table, name) for table, names in HELD.items() for name in names.split()]
)
def test_what_a_column_cannot_hold_gives_errors_of_ours(
    root: Path, table: str, column: str
) -> None:
    value = random.choice(["NULL", "'x'", "x'ff'", "0.5"])
    print(value)  # shown when the test fails
    put_what_does_not_fit(root, table, column, value)
    assert not verify(root)
    check_reads_right_or_refuses(root)
    with contextlib.suppress(SqlstoreError), sqlstore.open(root) as store:
        list(store.where("width > 300"))
        store.get(key="")
    with contextlib.suppress(SqlstoreError), sqlstore.open(root, mode="a") as store:
        store.extend([{"path": "new", "width": 1}])
    (root / "index.sqlite").unlink()
    assert sqlstore.rebuild(root) in (N_RECORDS, N_RECORDS + 1)
    with sqlstore.open(root) as store:
        assert make_store.differences(store[:N_RECORDS]) == []
        assert store.verify()


# Things in the index that are not sqlstore's

FOREIGN: Final = {
    "a table": "CREATE TABLE mine (x)",
    "a view": "CREATE VIEW mine AS SELECT 1",
    "an index": "CREATE INDEX mine ON blobs (length)",
    "a trigger": "CREATE TRIGGER mine AFTER INSERT ON records BEGIN DELETE FROM blobs; END",
    "a column": "ALTER TABLE records ADD COLUMN mine TEXT",
    "a virtual table": "CREATE VIRTUAL TABLE mine USING fts5(x)",
}
MIGHT_RUN: Final = {"a view", "a trigger", "a virtual table"}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_not_ours_in_the_index_is_named(root: Path, what: str) -> None:
    edit(root, FOREIGN[what])
    assert any("mine" in fault.message for fault in faults(root))
    if what in MIGHT_RUN:
        with pytest.raises(CorruptIndexError, match=r"might run: the .* 'mine'"):
            sqlstore.open(root)
    else:
        with sqlstore.open(root) as store:
            assert make_store.differences(store) == []
    sqlstore.rebuild(root)
    assert verify(root)


@pytest.mark.parametrize("kind", ["VIEW record_locations", "INDEX index_1", "TABLE subsets"])
def test_what_the_index_lacks_is_named(root: Path, kind: str) -> None:
    name = kind.split()[1]
    with sqlstore.open(root) as store:
        assert store.sql("SELECT 1 AS x FROM main.sqlite_schema WHERE name = :n", n=name).num_rows
    edit(root, f"DROP {kind}")
    assert any("lacks" in fault.message and name in fault.message for fault in faults(root))


def test_a_table_in_the_place_of_a_view_is_named(root: Path) -> None:
    columns = "record, field, file, offset, length, raw_length, compression, items, checksum"
    edit(root, "DROP VIEW record_locations", f"CREATE TABLE record_locations ({columns})")
    assert any("record_locations" in fault.message for fault in faults(root))


# Without a usable index, the log is verified by itself


def test_a_missing_index_is_a_fault_and_the_log_is_verified(root: Path) -> None:
    (root / "index.sqlite").unlink()
    report = verify(root)
    (fault,) = report.faults
    assert "missing" in fault.message
    assert "rebuild" in fault.message
    assert (report.records, report.commits) == (N_RECORDS, len(make_store.COMMITS) + 1)


@pytest.mark.parametrize(
    ("chunk", "part"),
    # Not the very last trailer: without one, bytes at the end are those of a crashed writer.
    [(0, "header"), (1, "header"), (2, "header"), (0, "trailer"), (1, "trailer")],
)
def test_damage_to_a_chunk_is_a_fault_without_an_index_too(
    root: Path, chunk: int, part: str
) -> None:
    victim = sorted((root / "chunks").iterdir())[chunk]
    data = bytearray(victim.read_bytes())
    data[10 if part == "header" else -1] ^= 1
    victim.write_bytes(data)
    (root / "index.sqlite").unlink()
    report = verify(root)
    assert any("missing" in fault.message for fault in report.faults)
    assert any(fault.chunk is not None for fault in report.faults), str(report)


def test_an_index_of_noise_is_a_fault(root: Path) -> None:
    (root / "index.sqlite").write_bytes(b"not a database, but as long as one" * 1000)
    report = verify(root)
    assert not report
    assert report.records == N_RECORDS


def test_an_index_of_another_store_is_a_fault(root: Path, tmp_path: Path) -> None:
    make_store.make(tmp_path / "other")
    (root / "index.sqlite").unlink()
    shutil.copyfile(tmp_path / "other" / "index.sqlite", root / "index.sqlite")
    check_reads_right_or_refuses(root)
    assert not verify(root)


def test_a_chunk_that_was_begun_and_never_committed_to_is_a_note(root: Path) -> None:
    (root / "chunks" / "000009-00000000.chunk").write_bytes(b"")
    (root / "chunks" / "000009-00000001.chunk").write_bytes(b"SQLSTORE")
    (root / "chunks" / "000009-00000002.chunk").write_bytes(bytes(300))
    (root / "chunks" / "notes.txt").write_text("not a chunk")
    report = verify(root)
    assert report
    assert len(report.notes) == 3


def test_an_index_that_is_much_older_is_a_fault(root: Path) -> None:
    shutil.copyfile(root / "index.sqlite", root / "older")
    with sqlstore.open(root, mode="a") as store:
        for number in range(3):
            store.extend([{"path": f"new {number}", "width": 1}])
    (root / "older").replace(root / "index.sqlite")
    last = len(make_store.COMMITS) + 1
    for number in (last + 2, last + 3):  # the one before might be under way
        assert any(f"commit {number} " in fault.message for fault in faults(root))
    sqlstore.rebuild(root)
    assert verify(root)


@pytest.mark.parametrize("chunk_size", [16 * KiB, 1 * KiB])
def test_a_commit_that_the_index_does_not_have_yet_is_a_note(
    tmp_path: Path, chunk_size: int
) -> None:
    """As after a crash between trailer and COMMIT, or with an older copy of the index."""
    root = tmp_path / "store"
    make_store.make(
        root, chunk_size=chunk_size
    )  # the next commit goes into the last chunk, or a new one
    shutil.copyfile(root / "index.sqlite", root / "older")
    with sqlstore.open(root, mode="a") as store:
        store.extend([{"path": "new", "width": 1}])
    (root / "older").replace(root / "index.sqlite")
    report = verify(root)
    assert report
    (note,) = report.notes
    assert f"commit {len(make_store.COMMITS) + 2} " in note
    with sqlstore.open(root, mode="a") as store:
        store.extend([{"path": "newer", "width": 2}])
        assert len(store) == N_RECORDS + 2
        assert store.verify()


def test_a_store_written_by_a_newer_revision_is_verified_with_a_warning(root: Path) -> None:
    edit(root, "UPDATE alembic_version SET version_num = '9999'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        report = verify(root)
    assert report.records == N_RECORDS


# Commits whose checksums are right and whose tables lie, as only a broken or hostile writer makes
# them. The index that a rebuild makes of them tells the same lies.


def forge(root: Path, change: Callable[[list[dict[str, Any]]], None], **trailer: Any) -> Link:
    """Put another table and trailer in the place of those of the last commit."""
    path = sorted((root / "chunks").iterdir())[-1]
    reader = ChunkReader(root)
    chunk = reader.header(path.name).chunk
    link = chain.walk(reader, path.name, chunk).links[-1]
    batch = reader.table(link.chunk, link.trailer)
    reader.close()
    rows = batch.to_pylist()
    change(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=batch.schema))
    data = sink.getvalue().to_pybytes()
    start = link.trailer.table_start
    changes = {"table_end": start + len(data), "table_crc": zlib.crc32(data), **trailer}
    forged = dataclasses.replace(link.trailer, **changes)
    path.write_bytes(path.read_bytes()[:start] + data + forged.pack(chunk))
    return Link(link.chunk, forged)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Return a store of two records in one commit."""
    root = tmp_path / "store"
    fields = {"a": Field("bytes", "lz4"), "b": Field("utf8", None)}
    with sqlstore.create(root, fields=fields, metadata={"n": "int8"}) as store:
        store.extend([{"a": b"a" * 100, "b": "one", "n": 1}, {"a": b"b" * 100, "b": "two"}])
    return root


LIES: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    "another raw length": lambda value: value.update(raw_length=99),
    "no compression": lambda value: value.update(compression=0),
    "an unknown compression": lambda value: value.update(compression=77),
    "another compression": lambda value: value.update(compression=2),
    "a huge raw length": lambda value: value.update(raw_length=2**32 - 1),
    "an offset before the segment": lambda value: value.update(offset=0),
    "an offset behind the file": lambda value: value.update(offset=2**32 - 1),
    "a length behind the file": lambda value: value.update(length=2**31),
    "another checksum": lambda value: value.update(crc=7),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_table_that_lies_about_a_value_is_a_fault(two: Path, lie: str) -> None:
    link = forge(two, lambda rows: LIES[lie](rows[1]["f0"]))
    assert sqlstore.rebuild(two) == 2
    report = verify(two)
    (fault,) = [fault for fault in report.faults if fault.record is not None]
    assert (fault.record, fault.field, fault.chunk) == (1, "a", link.chunk)
    with sqlstore.open(two) as store:
        assert store[0] == {"a": b"a" * 100, "b": "one", "n": 1}
        assert store.select("b")[1] == {"b": "two"}
        with pytest.raises(CorruptStoreError) as caught:
            store.raw(1, "a")
        assert caught.value.where["record"] == 1
        assert caught.value.where["field"] == "a"


def test_bytes_that_no_value_claims_are_a_fault(two: Path) -> None:
    def forget(rows: list[dict[str, Any]]) -> None:
        rows[1]["f1"] = None

    link = forge(two, forget)
    sqlstore.rebuild(two)
    (fault,) = faults(two)
    assert (fault.chunk, fault.offset) == (link.chunk, link.trailer.bodies_start)
    assert "cover" in fault.message
    with sqlstore.open(two) as store:
        assert store[1] == {"a": b"b" * 100, "b": None, "n": None}


@pytest.mark.parametrize("records", [0, 1, 3])
def test_a_table_of_another_length_is_a_fault(two: Path, records: int) -> None:
    link = forge(two, lambda _: None, records=records)
    assert any(fault.chunk == link.chunk for fault in faults(two))
    with pytest.raises(CorruptStoreError):
        sqlstore.rebuild(two)
    shutil.rmtree(two / "cache")
    with pytest.raises(CorruptStoreError):
        sqlstore.open(two)


def test_values_are_read_in_pieces(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = verify(two)
    monkeypatch.setattr(check_log, "_GROUP", 10)
    pieces = verify(two)
    assert pieces
    assert pieces == whole


def test_one_chunk_for_each_commit_is_clean(tmp_path: Path) -> None:
    make_store.make(tmp_path / "store", chunk_size=1 * KiB)
    report = verify(tmp_path / "store")
    assert report
    assert report.chunks == report.commits


def test_a_commit_is_compared_with_no_edits_but_those_of_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every append with every replacement took minutes where there were some hundreds of each."""
    n = 12
    with sqlstore.create(tmp_path / "s", fields={"f": "utf8"}) as store:
        with store.writer(commit_records=1) as writer:
            writer.extend({"f": f"{i}"} for i in range(n))
        for turn in range(2):
            for i in range(n):
                store[[i]].replace("f", [f"{i} replaced {turn}"])
        looked_at: list[slice] = []
        real = Values.rows

        def rows(values: Values, chosen: slice) -> Values:
            looked_at.append(chosen)
            return real(values, chosen)

        monkeypatch.setattr(Values, "rows", rows)
        report = store.verify()
    assert report, report
    assert looked_at == [slice(0, 1)] * n
