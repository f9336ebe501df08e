"""`sqlstore.export_folder`, and both commands: folders come back as they were."""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

import sqlstore
from sqlstore.cli import main
from tests.trees import copy_library, image, make_tree, mixed_files, read_tree

FILES: Final = int(os.environ.get("SQLSTORE_FILES", "1000"))
"""How many files of Python's standard library are imported; there are more than 5,000."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", mixed_files())


@pytest.fixture
def store(tree: Path, tmp_path: Path) -> Path:
    sqlstore.import_folder(tree, tmp_path / "s")
    return tmp_path / "s"


def test_files_come_back_with_content_and_time(tree: Path, store: Path, tmp_path: Path) -> None:
    with sqlstore.open(store) as opened:
        done = sqlstore.export_folder(opened, tmp_path / "new" / "out")
        assert done == sqlstore.Exported(8, 8, sum(map(len, mixed_files().values())))
        assert read_tree(tmp_path / "new" / "out") == read_tree(tree)
        some = opened.where("label = 'a'")
        sqlstore.export_folder(some, tmp_path / "some")
        assert set(read_tree(tmp_path / "some")) == {"a/b.TXT", "a/b/c/deep.py", "a/image.png"}
        assert sqlstore.export_folder(opened[:0], tmp_path / "none").files == 0


def test_what_is_there_is_replaced_only_when_asked(store: Path, tmp_path: Path) -> None:
    out = make_tree(tmp_path / "out", {"z.tar.gz": b"mine", "other": b"mine"})
    (out / "README").symlink_to("other")
    with sqlstore.open(store) as opened:
        with pytest.raises(FileExistsError, match="README is there already"):
            sqlstore.export_folder(opened, out)
        assert sorted(read_tree(out)) == ["other", "z.tar.gz"]
        sqlstore.export_folder(opened, out, overwrite=True)
    files = {name: data for name, (data, _) in read_tree(out).items()}
    assert files == {**mixed_files(), "other": b"mine"}


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../../x", "a//b", "./a", "a/", "..", ".", "", "a\0b"]
)
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    metadata = {"path": "string"}
    with sqlstore.create(tmp_path / "s", fields={"file": "bytes"}, metadata=metadata) as store:
        store.extend([{"path": "fine", "file": b""}, {"path": path, "file": b"evil"}])
        with pytest.raises(sqlstore.SchemaError, match="leads out of the folder"):
            sqlstore.export_folder(store, tmp_path / "out", overwrite=True)
    assert [one.name for one in tmp_path.iterdir()] == ["s"]


def test_a_link_among_the_folders_is_not_followed(store: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    with (
        sqlstore.open(store) as opened,
        pytest.raises(NotADirectoryError, match="a is a link or a file"),
    ):
        sqlstore.export_folder(opened, tmp_path / "out", overwrite=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_no_imported_folder_is_told(store: Path, tmp_path: Path) -> None:
    with sqlstore.open(store) as opened:
        with pytest.raises(sqlstore.SchemaError, match=r"'README' is there twice"):
            sqlstore.export_folder(opened.take([0, 1, 0]), tmp_path / "out")
        with pytest.raises(sqlstore.SchemaError, match=r"no column 'path'"):
            sqlstore.export_folder(opened.select("file"), tmp_path / "out")
    fields, metadata = {"file": "bytes"}, {"path": "string"}
    with sqlstore.create(tmp_path / "t", fields=fields, metadata=metadata) as other:
        other.extend([{"path": "a", "file": b"x"}])
        sqlstore.export_folder(other, tmp_path / "out")
        other.extend([{"path": "b"}])
        with pytest.raises(sqlstore.SchemaError, match=r"no file \(record 1\)"):
            sqlstore.export_folder(other[1:], tmp_path / "out")
    assert list(read_tree(tmp_path / "out")) == ["a"]


# A tree of real files


def test_the_standard_library_comes_back_as_it_was(tmp_path: Path) -> None:
    library = copy_library(tmp_path / "library", FILES)
    for workers in (1, 4):
        path, out = tmp_path / f"s{workers}", tmp_path / f"out{workers}"
        report = sqlstore.import_folder(
            library, path, workers=workers, start_method="forkserver", hidden=True
        )
        assert report.stored == len(read_tree(library)) >= min(FILES, 5000)
        with sqlstore.open(path) as store:
            checked = store.verify()
            assert checked, checked
            assert checked.records == report.stored
            sqlstore.export_folder(store, out)
        names = list(read_tree(library))
        assert filecmp.cmpfiles(library, out, names, shallow=False)[0] == names
        assert read_tree(out) == read_tree(library)


def test_an_import_that_is_killed_is_completed(tmp_path: Path) -> None:
    library = copy_library(tmp_path / "library", FILES)
    program = """
import os, signal, sys
from sqlstore.ingest import files, folder
from sqlstore.ingest.walk import FolderItem

class Deadly(files.ReadFile):
    def __call__(self, item):
        Deadly.left -= 1
        if not Deadly.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(item)

Deadly.left = int(sys.argv[3])
folder.ReadFile = Deadly
folder.import_folder(sys.argv[1], sys.argv[2])
"""
    path = tmp_path / "s"
    count = left = len(read_tree(library))
    for _ in range(2):
        command = [sys.executable, "-c", program, str(library), str(path), str(left // 2)]
        assert subprocess.run(command, check=False).returncode == -9
        with sqlstore.open(path) as store:
            assert 0 < len(store) < count
            left = count - len(store)
    report = sqlstore.import_folder(library, path)
    assert (report.stored, report.skipped) == (left, count - left)
    with sqlstore.open(path) as store:
        assert store.verify()
        sqlstore.export_folder(store, tmp_path / "out")
    assert read_tree(tmp_path / "out") == read_tree(library)


# The commands


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


def test_the_commands_there_and_back(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out = tmp_path / "s", tmp_path / "out"
    arguments = ["import-folder", tree, store, "--compression", "zstd", "--exclude", "z*"]
    assert run(capsys, *arguments) == (0, f"{store}: 7 stored\n", "")
    assert run(capsys, *arguments) == (0, f"{store}: 0 stored, 7 there already\n", "")
    code, shown, _ = run(capsys, "export-folder", store, out)
    assert (code, shown.partition(":")[0]) == (0, f"wrote 7 files to {out}")
    assert set(read_tree(out)) == set(mixed_files()) - {"z.tar.gz"}
    code, shown, error = run(capsys, "export-folder", store, out)
    assert (code, shown) == (2, "")
    assert error == f"sqlstore: error: {out}/README is there already\n"
    where = ["--where", "suffix = '.png'", "--json"]
    code, shown, _ = run(capsys, "export-folder", store, out, "--overwrite", *where)
    assert json.loads(shown)["files"] == 2
    assert run(capsys, "export-folder", store, store / "out")[0] == 2


def test_an_import_of_nothing_and_an_interrupted_one_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, store = make_tree(tmp_path / "t", {"a.txt": b"a"}), tmp_path / "s"
    code, shown, error = run(capsys, "import-folder", tree, store, "--pattern", "*.jpg")
    assert (code, shown) == (0, f"{store}: 0 stored\n")
    assert error == "sqlstore: warning: there was no file to import\n"

    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("sqlstore.ingest.folder.import_folder", interrupted)
    code, shown, error = run(capsys, "import-folder", tree, store)
    assert (code, shown) == (130, "")
    assert error.endswith("what is stored stays, and the same command goes on\n")


def test_failures_and_what_is_left_out_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"a.png": image("png"), "b.png": b"oops", **{f".{i}": b"" for i in range(7)}}
    tree = make_tree(tmp_path / "t", files)
    (tree / "link").symlink_to("a.png")
    (tmp_path / "m.csv").write_text("path,score\na.png,1\ngone.png,2\n")
    arguments: list[Any] = ["import-folder", tree, tmp_path / "s", "--metadata", tmp_path / "m.csv"]
    code, shown, error = run(capsys, *arguments)
    assert (code, shown) == (2, "")
    assert error.startswith("sqlstore: error: EncodeError: these bytes are not a PNG file")
    assert error.endswith(
        "(item b.png); --on-error skip goes on after files that cannot be stored\n"
    )
    code, shown, error = run(capsys, *arguments, "--on-error", "skip")
    assert (code, shown) == (1, f"{tmp_path / 's'}: 0 stored, 1 there already, 1 failed\n")
    assert error.splitlines() == [
        "sqlstore: error: b.png: EncodeError: these bytes are not a PNG file (field file)",
        "sqlstore: warning: left out as hidden: .0, .1, .2, .3, .4 and 2 more",
        "sqlstore: warning: left out as symlink: link",
        "sqlstore: warning: in the metadata, but not in the folder: gone.png",
        "sqlstore: warning: 1 file without metadata",
    ]
    code, shown, _ = run(capsys, *arguments, "--on-error", "skip", "--json")
    told = json.loads(shown)
    assert (code, told["failed"][0]["item"], told["unmatched"]) == (1, "b.png", ["gone.png"])
    assert len(told["left_out"]["hidden"]) == 7


def test_commands_say_what_is_wrong(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["import-folder", tmp_path / "no", tmp_path / "s"], "there is no folder at"),
        (["import-folder", tree, tmp_path / "s", "--workers", "0"], "1 or more"),
        (["import-folder", tree, tree / "s"], "must not lie in each other"),
        (["export-folder", tmp_path / "no", tmp_path / "out"], "there is no store at"),
    ):
        code, shown, error = run(capsys, *arguments)
        assert (code, shown) == (2, "")
        assert message in error
    assert not (tmp_path / "s").exists()
    code, _, _ = run(
        capsys, "import-folder", tree, tmp_path / "s", "--compression", "none", "--hidden",
        "--field-encoding", "bytes", "--pattern", "*.py",
    )  # fmt: skip
    with sqlstore.open(tmp_path / "s") as store:
        assert (code, len(store)) == (0, 1)
        assert store.schema.fields["file"].compression is None
