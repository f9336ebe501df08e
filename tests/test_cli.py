from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import math
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore.cli import main

ROOT = Path(sqlstore.__file__).parent.parent
DOCS = (ROOT / "docs" / "cli.md").read_text()
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
SUBSET_COMMANDS = ("subsets", "compare")  # see test_cli_subsets.py
SNAPSHOT_COMMANDS = ("snapshot", "snapshots", "diff", "drop-snapshot")  # see test_cli_snapshots.py
COMMANDS = (
    *("info", "head", "sql", "describe", "verify", "rebuild", "repair", "absorb", "migrate"),
    *SUBSET_COMMANDS,
    *SNAPSHOT_COMMANDS,
    *("compact", "merge", "export"),
)
FOLDER_COMMANDS = ("import-folder", "export-folder")  # their tests are in test_export_folder.py
RECORDS: list[dict[str, Any]] = [
    {
        "image": np.zeros((3, 4), np.uint8),
        "song": b"tu-whoo",
        "label": "owl",
        "width": 4,
        "score": 0.5,
        "taken": dt.datetime(2024, 5, 1, 6, 30, tzinfo=dt.UTC),
        "day": dt.date(2024, 5, 1),
        "night": True,
        "hash": b"\xff\x00",
        "extra": {"a": [1, None]},
    },
    {"song": b"", "label": "wren", "width": 12_345, "score": math.nan, "hash": b"", "night": False},
    {"image": np.ones((1, 1), np.float64), "width": 7},
]


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def document(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Result:
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    return make_birds(tmp_path / "birds")


def make_birds(path: Path) -> Path:
    metadata = {
        "label": sqlstore.Column("string", index=True),
        "width": sqlstore.Column("int32", nullable=False),
        "score": "float32",
        "taken": "timestamp[us, UTC]",
        "day": "date32",
        "night": "bool",
        "hash": "binary",
        "extra": "json",
    }
    fields: dict[str, Any] = {"image": "array", "song": sqlstore.Field("bytes", compression=None)}
    with sqlstore.create(path, fields=fields, metadata=metadata, key="width") as store:
        store.extend(RECORDS)
    return path


def in_process(
    *arguments: object, python: Sequence[str] = ("-W", "error"), **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; warnings are errors there, too."""
    command = [sys.executable, *python, "-m", "sqlstore", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT, **options}
    return subprocess.run(command, text=True, check=False, **options)


def damage(store: Path) -> None:
    """Change one byte of a stored value."""
    (chunk,) = (store / "chunks").iterdir()
    data = bytearray(chunk.read_bytes())
    data[data.index(b"tu-whoo")] ^= 1
    chunk.write_bytes(data)


def names(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything() -> dict[Path, int]:
    """Return what lies in the current folder, with the kind of each."""
    return {path: path.stat().st_mode for path in Path().rglob("*")}


def interrupted(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


# info


def test_info_shows_schema_and_size(birds: Path, run: Run) -> None:
    lines = run("info", birds).out.splitlines()
    assert f"store     {birds}" in lines
    assert "records   3" in lines
    assert "key       width" in lines
    assert re.search(r"^size +[\d,]+ bytes \([\d.]+ KiB\)$", "\n".join(lines), re.M)
    assert f"SQLite    {sqlite3.sqlite_version}" in lines
    assert ["image", "array", "lz4"] in [line.split() for line in lines]
    assert ["song", "bytes", "none"] in [line.split() for line in lines]
    assert "width   int32               no        yes    yes" in lines
    assert "label   string              yes       yes    no" in lines


def test_info_as_json_agrees_with_the_library(birds: Path, run: Run) -> None:
    facts = run("info", birds, "--json").document()
    with sqlstore.open(birds) as store:
        assert facts["records"] == len(store)
        assert dt.datetime.fromisoformat(facts["created"]) == store.created
        declared = store.schema
    assert facts["key"] == "width"
    assert facts["fields"] == [
        {"name": "image", "encoding": "array", "compression": "lz4"},
        {"name": "song", "encoding": "bytes", "compression": None},
    ]
    assert [c["name"] for c in facts["columns"]] == list(declared.columns)
    assert facts["columns"][1] == {
        "name": "width",
        "type": "int32",
        "nullable": False,
        "index": True,
        "key": True,
    }
    chunks = list((birds / "chunks").iterdir())
    assert facts["chunks"] == len(chunks)
    assert facts["bytes"] == sum(chunk.stat().st_size for chunk in chunks)
    assert facts["commits"] == 2
    assert facts["sqlstore_version"] == facts["created_by_sqlstore"] == sqlstore.__version__
    assert facts["sqlite_version"] == sqlite3.sqlite_version


def test_info_of_a_store_without_records_fields_or_key(tmp_path: Path, run: Run) -> None:
    sqlstore.create(tmp_path / "empty", metadata={"label": "string"}).close()
    result = run("info", "empty")
    assert result.code == 0
    assert "records   0\nkey       none\n" in result.out
    assert "field" not in result.out


# head


def test_head_shows_values_as_their_types_are(birds: Path, run: Run) -> None:
    assert run("head", birds, "--columns", "width,label,score,taken,night,hash,song").out == (
        "id  width  label  score  taken                      night  hash  song bytes\n"
        "--  -----  -----  -----  -------------------------  -----  ----  ----------\n"
        " 0      4  owl      0.5  2024-05-01 06:30:00+00:00  true   ff00           7\n"
        " 1  12345  wren     nan  NULL                       false                 0\n"
        " 2      7  NULL    NULL  NULL                       NULL   NULL        NULL\n"
        "\n"
        "3 records\n"
    )


def test_head_as_json_is_typed(birds: Path, run: Run) -> None:
    first, second, third = run("head", birds, "--json").document()
    with sqlstore.open(birds) as store:
        image = store.raw(0, "image")
    assert image is not None
    assert first == {
        "id": 0,
        "label": "owl",
        "width": 4,
        "score": 0.5,
        "taken": "2024-05-01T06:30:00+00:00",
        "day": "2024-05-01",
        "night": True,
        "hash": "ff00",
        "extra": {"a": [1, None]},
        "image": len(image),
        "song": 7,
    }
    assert (second["score"], second["hash"], second["image"], second["song"]) == (None, "", None, 0)
    assert {name for name, value in third.items() if value is not None} == {"id", "width", "image"}


def test_head_counts_filters_and_says_out_of_how_many(birds: Path, run: Run) -> None:
    result = run("head", birds, "-n", 1, "--where", "width > 5", "--columns", "id,width")
    assert result.out.splitlines()[2:] == [" 1  12345", "", "1 of 2 records"]
    assert run("head", birds, "-n", 0, "--json").document() == []
    assert run("head", birds, "-n", 0).out.endswith("\n0 of 3 records\n")


def test_head_finds_the_sizes_of_many_records(tmp_path: Path, run: Run) -> None:
    sizes = [i % 7 for i in range(2500)]
    with sqlstore.create(tmp_path / "many", fields={"note": "bytes"}) as store:
        store.extend({"note": bytes(size)} if size else {} for size in sizes)
    rows = run("head", "many", "-n", 9999, "--json").document()
    assert [row["note"] or 0 for row in rows] == sizes


def test_head_takes_names_with_commas_and_repeats(tmp_path: Path, run: Run) -> None:
    with sqlstore.create(tmp_path / "odd", metadata={"a,b": "string", "c": "int8"}) as store:
        store.extend([{"a,b": "x", "c": 1}])
    assert run("head", "odd", "--json", "--columns", 'c, "a,b",c').document() == [
        {"id": 0, "c": 1, "a,b": "x"}
    ]
    assert run("head", "odd", "--columns", "c,c").out.startswith("id  c\n")


# sql


def test_sql_aligns_by_type_and_counts(birds: Path, run: Run) -> None:
    sql = "SELECT width, label AS name, width / 2.0 AS half, NULL AS empty FROM records"
    assert run("sql", birds, sql, "--limit", 2).out == (
        "width  name    half  empty\n"
        "-----  ----  ------  -----\n"
        "    4  owl      2.0  NULL\n"
        "12345  wren  6172.5  NULL\n"
        "\n"
        "2 of 3 rows\n"
    )


def test_sql_as_json_is_a_list_of_objects(birds: Path, run: Run) -> None:
    sql = "SELECT id, hash, taken, day, score, 9e999 AS inf FROM records WHERE id < 2"
    assert run("sql", birds, sql, "--json").document() == [
        {
            "id": 0,
            "hash": "ff00",
            "taken": "2024-05-01T06:30:00+00:00",
            "day": "2024-05-01",
            "score": 0.5,
            "inf": None,
        },
        {"id": 1, "hash": "", "taken": None, "day": None, "score": None, "inf": None},
    ]
    assert run("sql", birds, sql, "--json", "--limit", 1).document()[0]["id"] == 0
    assert run("sql", birds, "SELECT 1 AS a WHERE 0", "--json").document() == []


def test_what_a_result_column_is_called_does_not_change_it(birds: Path, run: Run) -> None:
    sql = "SELECT id AS taken, width AS label, avg(width) AS width FROM records WHERE id = 2"
    assert run("sql", birds, sql, "--json").document() == [{"taken": 2, "label": 7, "width": 7.0}]


def test_columns_may_be_called_as_those_of_the_index(tmp_path: Path, run: Run) -> None:
    metadata = {"uuid": "binary", "bytes": "string", "record": "string", "raw_length": "date32"}
    with sqlstore.create(tmp_path / "odd", fields={"a": "bytes"}, metadata=metadata) as store:
        store.extend([{"a": b"123", "record": "x"}])
    assert run("info", "odd", "--json").document()["records"] == 1
    assert run("head", "odd", "--columns", "record,a", "--json").document() == [
        {"id": 0, "record": "x", "a": 3}
    ]


def test_columns_of_one_name_are_refused_only_where_they_would_be_lost(
    birds: Path, run: Run
) -> None:
    sql = "SELECT 1 AS a, 2 AS a"
    assert run("sql", birds, sql).out == "a  a\n-  -\n1  2\n\n1 row\n"
    refused = run("sql", birds, sql, "--json")
    assert (refused.code, refused.out) == (2, "")
    assert "more than one column is named a" in refused.err


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM records",
        "DROP TABLE blobs",
        "SELECT 1; SELECT 2",
        "SELECT nothing FROM nowhere",
        "SELECT :unbound",
        "SELECT 1 AS a UNION ALL SELECT 'x'",
        "SELECT '\udcff'",  # an argument that is not UTF-8
        "",
    ],
)
def test_sql_that_cannot_be_run_is_the_users_error(birds: Path, run: Run, sql: str) -> None:
    result = run("sql", birds, sql)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("sqlstore: error: ")
    assert run("sql", birds, "SELECT count(*) AS n FROM records", "--json").document()[0]["n"] == 3


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(10**9), 10**9).map(lambda eighths: eighths / 8),
    st.binary(max_size=200),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
)


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_birds(tmp_path_factory.mktemp("cli") / "birds")


def selected(store: Path, values: list[object], *options: str) -> str:
    columns = (f"{literal(value)} AS c{i}" for i, value in enumerate(values))
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(["sql", str(store), f"SELECT {', '.join(columns)}", *options]) == 0
    return output.getvalue()


def literal(value: object) -> str:
    if isinstance(value, str):
        return f"CAST(x'{value.encode().hex()}' AS TEXT)"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if value == -(2**63):
        return f"(-{2**63 - 1} - 1)"
    return "NULL" if value is None else repr(value)


@settings(deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=12), width=st.integers(30, 200))
def test_tables_fit_and_numbers_stay_whole(
    one_store: Path, values: list[object], width: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        *table, blank, count, end = selected(one_store, values).split("\n")
    assert (blank, count, end) == ("", "1 row", "")
    assert all(line.isprintable() and columns_taken(line) <= width for line in table)
    shown = table[1].split()
    assert len(shown) == len(values) or table[3].startswith("no room for: c")
    for value in values[: len(shown)]:
        if isinstance(value, (int, float)):
            assert str(value) in table[2].split()


def columns_taken(line: str) -> int:
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in line
    )


def test_width_is_what_the_terminal_shows(one_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accented = selected(one_store, ["e\u0301" * 30, "梟" * 10]).splitlines()
    assert accented[1] == f"{'-' * 30}  {'-' * 20}"
    monkeypatch.setenv("COLUMNS", "10")
    assert selected(one_store, [2**62, "x"]).splitlines()[2:4] == [str(2**62), "no room..."]


@settings(deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=5))
def test_json_says_exactly_what_is_stored(one_store: Path, values: list[object]) -> None:
    (row,) = json.loads(selected(one_store, values, "--json"))
    expected = [value.hex() if isinstance(value, bytes) else value for value in values]
    assert list(row.values()) == expected
    assert [type(value) for value in row.values()] == [type(value) for value in expected]


# verify, rebuild, migrate


def test_verify_of_a_sound_store(birds: Path, run: Run) -> None:
    assert run("verify", birds).out.startswith("no faults in 3 records")
    report = run("verify", birds, "--json").document()
    assert (report["clean"], report["faults"], report["records"]) == (True, [], 3)


def test_verify_tells_faults_by_its_exit_code(birds: Path, run: Run) -> None:
    damage(birds)
    result = run("verify", birds)
    assert (result.code, result.err) == (1, "")
    assert "fault: the stored bytes are not what was written (record 0, field song" in result.out
    assert result.out.endswith(f"`sqlstore repair --dry-run {birds}` says what can be saved\n")
    result = run("verify", birds, "--json")
    assert result.code == 1
    (fault,) = json.loads(result.out)["faults"]
    assert (fault["record"], fault["field"]) == (0, "song")


def test_verify_checks_the_chunks_of_a_store_that_cannot_be_opened(birds: Path, run: Run) -> None:
    damage(birds)
    (birds / "index.sqlite").unlink()
    result = run("verify", birds)
    assert result.code == 1
    assert "index.sqlite is missing" in result.out
    assert "record 0, field song" in result.out


def test_rebuild_brings_a_lost_index_back(birds: Path, run: Run) -> None:
    (birds / "index.sqlite").unlink()
    lost = run("head", birds)
    assert (lost.code, lost.out) == (3, "")
    assert "run `sqlstore rebuild" in lost.err
    assert run("rebuild", birds).out == "index.sqlite was made anew: 3 records\n"
    assert run("rebuild", birds, "--json").document() == {"records": 3}
    assert run("verify", birds).code == 0


def test_repair_says_what_is_lost_by_its_exit_code(birds: Path, run: Run) -> None:
    (chunk,) = (birds / "chunks").iterdir()
    data = bytearray(chunk.read_bytes())
    data[data.index(b"tu-whoo")] ^= 1
    chunk.write_bytes(data)
    planned = run("repair", str(birds), "--dry-run")
    assert (planned.code, chunk.exists()) == (1, True)
    assert "not done yet" in planned.out
    done = run("repair", str(birds), "--json")
    assert done.code == 1
    (lost,) = json.loads(done.out)["lost_values"]
    assert (lost["field"], lost["chunk"]) == ("song", chunk.name)
    assert run("repair", str(birds)) == run("repair", str(birds), "--dry-run")
    assert run("repair", str(birds)).out == "nothing to repair\n"


def test_migrate_says_what_it_did(birds: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("migrate", birds).out.startswith("nothing to do: the index is at revision ")
    done = sqlstore.migrate(birds)
    assert run("migrate", birds, "--json").document() == {
        "before": done.before,
        "after": done.after,
        "backup": None,
    }
    upgraded = type(done)("0000", "0001", birds / "index.sqlite.0000.backup")
    monkeypatch.setattr("sqlstore.cli.commands.migrate_store", lambda _: upgraded)
    assert run("migrate", birds).out == (
        "index.sqlite went from revision 0000 to 0001; "
        f"as it was, it is kept as {upgraded.backup}\n"
    )
    assert run("migrate", birds, "--json").document()["backup"] == str(upgraded.backup)


def test_a_newer_store_is_read_with_a_warning_and_not_migrated(birds: Path) -> None:
    with contextlib.closing(sqlite3.connect(birds / "index.sqlite")) as index, index:
        index.execute("UPDATE alembic_version SET version_num = '9999'")
    result = in_process("migrate", birds)
    assert (result.returncode, result.stdout) == (2, "")
    result = in_process("head", birds, python=())
    assert result.returncode == 0
    assert result.stderr.startswith("sqlstore: warning: ")
    assert result.stderr.count("\n") == 1


# export


def exported(path: Path) -> pa.Table:
    match path.suffix:
        case ".parquet":
            return pyarrow.parquet.read_table(path)
        case ".csv":
            return pyarrow.csv.read_csv(path)
        case _:
            with path.open("rb") as file:
                return pa.ipc.open_file(file).read_all()


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out.feather", "out"])
def test_export_keeps_ids_values_and_types(birds: Path, run: Run, name: str) -> None:
    options = () if "." in name else ("--format", "arrow")
    result = run("export", birds, name, "--where", "width > 4", *options)
    size = Path(name).stat().st_size
    assert result.out.startswith(f"wrote 2 records to {name}: {size:,} bytes (")
    with sqlstore.open(birds) as store:
        expected = store.where("width > 4").to_arrow()
    # Field by field: in a table NaN is not equal to NaN.
    assert exported(Path(name)).schema.equals(expected.schema)
    assert str(exported(Path(name)).to_pylist()) == str(expected.to_pylist())


def test_export_to_csv(birds: Path, run: Run) -> None:
    document = run("export", birds, "out.CSV", "--json").document()
    text = Path("out.CSV").read_text()
    assert document == {"path": "out.CSV", "format": "csv", "records": 3, "bytes": len(text)}
    assert text.splitlines() == [
        '"id","label","width","score","taken","day","night","hash","extra"',
        '0,"owl",4,0.5,2024-05-01 06:30:00.000000Z,2024-05-01,true,"ff00","{""a"":[1,null]}"',
        '1,"wren",12345,nan,,,false,"",',
        "2,,7,,,,,,",
    ]


def test_export_of_a_store_without_records(tmp_path: Path, run: Run) -> None:
    sqlstore.create(tmp_path / "empty", metadata={"label": "string"}).close()
    for name in ("out.parquet", "out.csv", "out.arrow"):
        assert run("export", "empty", name, "--json").document()["records"] == 0
        assert exported(Path(name)).column_names == ["id", "label"]


def test_export_replaces_a_file_only_by_force(birds: Path, run: Run) -> None:
    Path("out.csv").write_text("mine")
    refused = run("export", birds, "out.csv")
    assert (refused.code, refused.out) == (2, "")
    assert "--force" in refused.err
    assert Path("out.csv").read_text() == "mine"
    assert run("export", birds, "out.csv", "--force").code == 0
    assert exported(Path("out.csv")).num_rows == 3


def test_export_follows_a_link_and_leaves_it_a_link(birds: Path, run: Run) -> None:
    Path("real").mkdir()
    Path("link.csv").symlink_to("real/out.csv")
    assert run("export", birds, "link.csv").code == 0
    assert Path("link.csv").is_symlink()
    assert names(Path("real")) == ["out.csv"]


@pytest.mark.parametrize(
    ("out", "options"),
    [
        ("out.txt", ()),  # no format
        ("missing/out.csv", ()),
        ("folder", ("--format", "csv", "--force")),
        ("pipe", ("--format", "csv", "--force")),
        ("birds/index.sqlite", ("--format", "csv", "--force")),
        ("birds/chunks/out.csv", ()),
        ("out.csv", ("--where", "nonsense =")),
    ],
)
def test_export_refuses_and_leaves_nothing(
    birds: Path, run: Run, out: str, options: tuple[str, ...]
) -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe")
    before = everything()
    result = run("export", birds, out, *options)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("sqlstore: error: ")
    assert everything() == before
    assert run("verify", birds).code == 0


def write_half(then: Callable[[], object]) -> type:
    class Half:
        def __init__(self, file: io.BufferedWriter, _: pa.Schema) -> None:
            file.write(b"half")
            file.flush()
            then()

        def write_batch(self, _: pa.RecordBatch) -> None: ...

        def close(self) -> None: ...

    return Half


def test_an_interrupted_export_leaves_what_was_there(
    birds: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyarrow.csv.CSVWriter", write_half(interrupted))
    assert run("export", birds, "out.csv") == (130, "", "")
    assert names() == ["birds"]
    Path("out.csv").write_text("mine")
    assert run("export", birds, "out.csv", "--force").code == 130
    assert names() == ["birds", "out.csv"]
    assert Path("out.csv").read_text() == "mine"


def test_export_does_not_replace_a_file_that_came_meanwhile(
    birds: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pyarrow.csv.CSVWriter", write_half(lambda: Path("out.csv").write_text("mine"))
    )
    assert run("export", birds, "out.csv").code == 2
    assert Path("out.csv").read_text() == "mine"
    assert names() == ["birds", "out.csv"]


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.arrow"])
def test_export_to_a_full_disk_leaves_nothing(birds: Path, tmp_path: Path, name: str) -> None:
    sqlstore.open(birds).close()  # the cache is made before the disk is full
    program = """
import resource, sys
from sqlstore.cli import main
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
code = main(sys.argv[1:])
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
sys.exit(code)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, "export", birds, tmp_path / name],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == f"sqlstore: error: {tmp_path / name}: File too large\n"
    assert names() == ["birds"]


# What is wrong, and how it is said


@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "merge"])  # it makes one
def test_every_command_says_when_there_is_no_store(run: Run, tmp_path: Path, command: str) -> None:
    named = {one: ["v1"] for one in SNAPSHOT_COMMANDS if one != "snapshots"}
    more = {"sql": ["SELECT 1"], "compare": ["a", "b"], "export": ["out.csv"], **named}.get(
        command, []
    )
    result = run(command, "nowhere", *more)
    assert result == (2, "", f"sqlstore: error: there is no store at {tmp_path / 'nowhere'}\n")
    Path("folder").mkdir()
    assert "is not a store" in run(command, "folder", *more, "--json").err
    assert names() == ["folder"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate", "birds"],
        ["info"],
        ["info", "birds", "--nonsense"],
        ["head", "birds", "--col", "label"],  # no abbreviations
        ["head", "birds", "-n", "-1"],
        ["head", "birds", "-n", "many"],
        ["head", "birds", "--columns", "label,"],
        ["head", "birds", "--columns", ""],
        ["head", "birds", "--columns", "nonsense"],
        ["head", "birds", "--where", ""],
        ["sql", "birds"],
        ["export", "birds", "out.csv", "--format", "xls"],
    ],
)
def test_wrong_usage(birds: Path, run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "sqlstore: error: " in result.err


def test_damage_has_an_exit_code_of_its_own(birds: Path, run: Run) -> None:
    (birds / "index.sqlite").write_bytes(b"no database at all" * 1000)
    for command in (["info"], ["head"], ["sql"], ["export"]):
        more = {"sql": ["SELECT 1"], "export": ["out.csv"]}.get(command[0], [])
        result = run(*command, birds, *more)
        assert (result.code, result.out) == (3, ""), command
        assert result.err.startswith("sqlstore: error: ")
    assert not Path("out.csv").exists()


def test_messages_carry_no_control_characters(run: Run) -> None:
    assert run("info", "evil\x1b[31m\u202e").err.isprintable() is False  # the line end
    assert run("info", "evil\x1b[31m\u202e").err.rstrip("\n").isprintable()


def test_an_interrupt_ends_quietly(birds: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlstore.cli.commands.open_store", interrupted)
    assert run("info", birds) == (130, "", "")


def test_a_bug_keeps_its_traceback(birds: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlstore.cli.commands.open_store", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("info", birds)


# As a process


def test_exit_codes_of_the_process(birds: Path) -> None:
    assert in_process("--version").stdout == f"sqlstore {sqlstore.__version__}\n"
    fine = in_process("sql", birds, "SELECT 1 AS one", "--json")
    assert (fine.returncode, json.loads(fine.stdout), fine.stderr) == (0, [{"one": 1}], "")
    assert in_process("info", "nowhere").returncode == 2
    assert in_process("head", birds, "-n").returncode == 2
    damage(birds)
    assert in_process("verify", birds).returncode == 1
    (birds / "index.sqlite").unlink()
    assert in_process("info", birds).returncode == 3


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_leaves_is_no_error(birds: Path, options: list[str]) -> None:
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
    arguments = ["sql", str(birds), f"{rows} SELECT i FROM n", *options]
    with subprocess.Popen(
        [sys.executable, "-m", "sqlstore", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_said_once(birds: Path, unbuffered: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has /dev/full")
    with Path("/dev/full").open("w") as full:
        environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered}
        result = in_process("info", birds, stdout=full, env=environment)
    assert (result.returncode, result.stderr) == (
        2,
        "sqlstore: error: No space left on device\n",
    )


def test_a_terminal_without_unicode_gets_escapes(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "birds", metadata={"label": "string"}) as store:
        store.extend([{"label": "hibou grand-duc \N{OWL} ñ"}])
    ascii_only = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    result = in_process("head", "birds", env=ascii_only)
    assert result.returncode == 0
    assert r" 0  hibou grand-duc \U0001f989 \xf1" in result.stdout.splitlines()
    result = in_process("head", "birds", "--json", env=ascii_only)
    assert json.loads(result.stdout)[0]["label"] == "hibou grand-duc \N{OWL} ñ"


def test_closed_outputs_do_no_harm(birds: Path) -> None:
    command = shlex.join([sys.executable, "-W", "error", "-m", "sqlstore"])
    for redirected, code in (("info birds >&-", 0), ("info nowhere 2>&-", 2)):
        result = subprocess.run(
            ["sh", "-c", f"{command} {redirected}"],
            capture_output=True,
            env=ENVIRONMENT,
            check=False,
        )
        assert (result.returncode, result.stdout, result.stderr) == (code, b"", b"")


@pytest.mark.parametrize("arguments", [["--version"], ["head", "birds"]])
def test_start_loads_nothing_heavy(birds: Path, arguments: list[str]) -> None:
    heavy = {"alembic", "torch", "tqdm", "pyarrow.parquet", "pyarrow._parquet", "pyarrow.csv"}
    if arguments == ["--version"]:
        heavy.add("pandas")  # Arrow itself imports it, if it is there, to make the first array
    program = (
        "import sys; from sqlstore.cli import main; main(sys.argv[1:]); "
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[]"


# The documentation


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def sections() -> dict[str, str]:
    """Return what `docs/cli.md` says of each command, by the command with its positionals."""
    parts = re.split(r"^## `sqlstore (.+)`$", DOCS, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_command_and_option_is_documented_and_no_other(run: Run) -> None:
    top = run("--help").out
    commands = (*COMMANDS, *FOLDER_COMMANDS)
    assert tuple(re.findall(r"^    ([a-z-]+)(?:  |$)", top, re.M)) == commands
    common = DOCS.partition("## `sqlstore ")[0]
    assert {*options_in(top), "--json", "-m"} == options_in(common)  # the last one is Python's
    for command, (heading, text) in zip(commands, sections().items(), strict=True):
        shown = run(command, "--help").out
        positionals = re.findall(r"^  ([A-Z]+)  ", shown, re.M)
        assert heading == " ".join([command, *positionals])
        examples = "".join(re.findall(r"^\$ .*$", text, re.M))
        own = options_in(shown) - {"-h", "--help", "--json"}
        assert options_in(text) - {"--json"} == own, command
        known = "birds|nests|photos|album|both"
        assert re.search(rf"^\$ sqlstore {command} ({known})\b", examples, re.M)


def stable(text: str) -> str:
    """Return output without what depends on the day and on versions of other software."""
    text = re.sub(r"^(created|format|sqlstore|SQLite)   *\d.*$", r"\1 ...", text, flags=re.M)
    text = re.sub(r'("n_bytes"|"bytes"|"before"|"after"): [^,\n]+', r"\1: ...", text)
    text = re.sub(r"[\d-]{10} [\d:]{8}\+00:00", "(time)", text)
    text = re.sub(r"revision \d+", "revision ...", text)
    text = re.sub(r'("name": "\d{6})-[0-9a-f]{8}', r"\1-...", text)
    text = re.sub(r'("size"|"live"): \d+', r"\1: ...", text)
    return re.sub(r"[\d,]+ bytes( \([\d.]+ .iB\))?", "... bytes", text)


def test_the_examples_in_the_documentation_are_what_happens(run: Run, tmp_path: Path) -> None:
    for program in re.findall(r"```python\n(.*?)```", DOCS, re.S):
        exec(program, {})
    examples = [
        example
        for block in re.findall(r"```console\n(.*?)```", DOCS, re.S)
        for example in re.findall(r"^\$ sqlstore (.*)\n((?:(?!\$ ).*\n)*)", block, re.M)
    ]
    assert {shlex.split(command)[0] for command, _ in examples} == {*COMMANDS, *FOLDER_COMMANDS}
    for command, expected in examples:
        result = run(*shlex.split(command))
        found = (result.out + result.err).replace(str(tmp_path), "/home/ada")
        assert stable(found) == stable(expected), command


def test_every_exit_code_is_documented(run: Run) -> None:
    in_help = re.findall(r"^  (\d+) ", run("--help").out, re.M)
    assert in_help == re.findall(r"^\| (\d+) \|", DOCS, re.M)
