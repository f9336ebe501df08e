"""Who may call whom: the order of the layers, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import sqlstore

ROOT = Path(sqlstore.__file__).parent
MODULES = {
    ".".join(("sqlstore", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in sorted(ROOT.rglob("*.py"))
    if "migrations" not in path.relative_to(ROOT).parts
}
LAYERS: list[list[str]] = [
    [
        "errors", "limits", "types", "interrupts", "forks", "threads", "version", "checksum",
        "arrow", "positions", "progress", "small", "text", "json_text", "randomness", "algebra",
        "selection",
    ],
    ["columns", "encodings", "dictionaries", "compression", "sequences", "schema"],
    ["log", "index"],
    ["cache"],
    [
        "given", "batch", "rows", "sizes", "columnar", "identity", "replay", "recover", "staged",
        "compressors", "commit", "writer", "edits", "subsets", "processes", "computing", "upsert",
        "duplicates",
        "copies", "snapshots", "diff", "restore", "compaction", "comparison", "copied", "merging",
        "reading", "caches", "opening", "finder", "attached", "source", "pickling", "contents",
        "portions", "tabular", "founding", "export", "describe", "splits", "queried", "view",
        "concat",
        "inference",
        "maintenance",
    ],
    ["store_edits", "store", "create"],
    ["ingest"],
    ["cli", "__init__", "__main__"],
]  # fmt: skip
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
STRANGERS = {
    "log": {"index"}, "index": {"log"}, "cache": {"index"}, "ingest": {"log", "index", "cache"},
}  # fmt: skip
MOST_LINES = 400


def room(module: str) -> str:
    """Return the part of the package that a module belongs to: `log` for `sqlstore.log.files`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"), str(MODULES[module]))


def resolved(name: str) -> str | None:
    """Return the module that a dotted name is, or is in; None if it is not one of ours."""
    while name:
        for candidate in (name, f"{name}.__init__"):
            if candidate in MODULES:
                return candidate
        name = name.rpartition(".")[0]
    return None


def imports(module: str) -> Iterator[str]:
    """Return every module of ours that a module imports, wherever in its text it does."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            found = resolved(name) if name.split(".")[0] == "sqlstore" else None
            if found is not None:
                yield found


def calls(module: str) -> Iterator[str]:
    """Return what a module calls: `os.open` for `os.open(...)`, `.open` for `x.y.open(...)`."""
    for node in ast.walk(tree(module)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node.func, ast.Attribute):
            owner = node.func.value
            yield f"{owner.id if isinstance(owner, ast.Name) else ''}.{node.func.attr}"


def test_every_module_has_its_layer() -> None:
    assert {room(module) for module in MODULES} == set(LEVELS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_layers_above_its_own(module: str) -> None:
    own = room(module)
    for other in imports(module):
        name = room(other)
        if other == "sqlstore.__init__":
            assert own in ("cli", "__main__", "__init__"), f"{module} imports the whole package"
            continue
        assert LEVELS[name] <= LEVELS[own], f"{module} imports {other}"
        assert name not in STRANGERS.get(own, set()), f"{module} knows {other}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: {other for other in imports(module) if other != module} for module in MODULES}
    for module in ("sqlstore.__init__", "sqlstore.__main__"):
        graph.pop(module)
    done: set[str] = set()
    while ready := [m for m in graph if m not in done and not (graph[m] & set(graph)) - done]:
        done.update(ready)
    assert set(graph) - done == set()


OPENING = {
    "open", "os.open", "io.open", "os.fdopen", "mmap.mmap", ".open", "pa.memory_map", "pa.OSFile",
    ".read_bytes", ".write_bytes", ".read_text", ".write_text", "shutil.copyfile", "shutil.copy",
}  # fmt: skip
# `forks` opens nothing but /dev/null, and `planted` the journal of SQLite, which it reads.
MAY_OPEN = {"sqlstore.log.files", "sqlstore.index.planted", "sqlstore.forks"}


# The command line, `ingest` and `export` open files of people, outside of stores.
@pytest.mark.parametrize(
    "module", [m for m in MODULES if room(m) not in ("cli", "ingest", "export")]
)
def test_few_modules_open_files_of_a_store(module: str) -> None:
    found = {
        name
        for name in calls(module)
        if name in OPENING or f".{name.rpartition('.')[2]}" in OPENING - {".open"}
    }
    assert module in MAY_OPEN or found == set(), f"{module} calls {found}"


@pytest.mark.parametrize("module", MODULES)
def test_only_one_module_opens_sqlite(module: str) -> None:
    connecting = {"sqlite3.connect", "sqlite3.Connection", "apsw.Connection", "dbapi2.connect"}
    called = set(calls(module)) & connecting
    assert module == "sqlstore.index.engine" or called == set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module == "sqlite3":
            pytest.fail(f"{module} imports names from sqlite3: it should be seen what they are")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_a_small_room(module: str) -> None:
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES


@pytest.mark.parametrize("module", MODULES)
def test_input_is_checked_by_exceptions_and_nothing_is_run_that_was_read(module: str) -> None:
    for node in ast.walk(tree(module)):
        assert not isinstance(node, ast.Assert), f"{module}:{node.lineno} asserts"
    assert set(calls(module)) & {"eval", "exec", "compile", "__import__", "marshal.loads"} == set()
    dangerous = {"pickle", "cPickle", "dill", "marshal", "shelve"}
    if module == "sqlstore.encodings.pickled":  # what its users must allow by name
        dangerous.discard("pickle")
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & dangerous, module
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in dangerous, module
    for node in ast.walk(tree(module)):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            is_true = isinstance(keyword.value, ast.Constant) and keyword.value.value is not False
            assert not (keyword.arg == "allow_pickle" and is_true), f"{module} allows pickle"


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = (
    "alembic", "pandas", "torch", "sqlalchemy", "PIL", "tqdm", "hypothesis", "sklearn", "zstandard",
    "polars", "duckdb", "matplotlib",
)  # fmt: skip


def test_the_import_is_light() -> None:
    program = f"""
import sys
import sqlstore
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run(program).strip() == "[]"


def test_reading_and_appending_need_no_more(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "array"}, metadata={"n": "int8"}) as store:
        store.extend([{"n": 1}, {"n": 2}])
    program = f"""
import sys
import sqlstore
with sqlstore.open({str(tmp_path / "s")!r}, mode="a") as store:
    store.extend([{{"n": 3}}])
    print(store.where("n > 1").order_by("n DESC").to_arrow()["n"].to_pylist())
    print([record["n"] for record in store], store.sql("SELECT sum(n) AS n FROM records")["n"])
# Arrow itself imports pandas where that is installed.
print([name for name in {HEAVY!r} if name in sys.modules and name != "pandas"])
"""
    output = run(program).splitlines()
    assert output[0] == "[3, 2]"
    assert output[-1] == "[]"
