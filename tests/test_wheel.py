"""The wheel holds all that is needed, and what it holds works without the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

import sqlstore

PROJECT: Final = Path(__file__).parent.parent
PARTS: Final = (
    "sqlstore",
    "migrations",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    ".gitignore",
)

BUILD: Final = """
import sys
from hatchling import build
print(getattr(build, f"build_{sys.argv[1]}")(sys.argv[2]))
"""

# Run with the unpacked wheel alone in front of what is installed.
USE: Final = """
import contextlib, sys
from pathlib import Path
wheel, scratch = map(Path, sys.argv[1:])
sys.path.insert(0, str(wheel))
import sqlstore
assert Path(sqlstore.__file__).is_relative_to(wheel), sqlstore.__file__
with sqlstore.create(scratch / "store", fields={"b": "bytes"}, metadata={"l": "string"}) as store:
    store.extend([{"b": b"1", "l": "one"}])
    assert store.verify()
(scratch / "store" / "index.sqlite").unlink()
assert sqlstore.rebuild(scratch / "store") == 1
assert sqlstore.migrate(scratch / "store").backup is None

from sqlstore.index import versions
from sqlstore.index.engine import Index
from sqlstore.maintenance import migrate
folder = migrate.migrations_folder()
assert folder == wheel / "sqlstore" / "migrations", folder
with contextlib.closing(Index(scratch / "index", write=True, create=True)) as index:
    migrate._upgrade(index)
    assert versions.revision(index) == versions.head()
print("used", sqlstore.__version__)
"""


def run(*command: str, cwd: Path) -> str:
    """Run something in Python with no path of the checkout and return its last line."""
    done = subprocess.run(
        [sys.executable, "-I", *command],
        cwd=cwd,
        check=False,
        timeout=120,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a wheel and an sdist, built from a copy of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "project"
    copy.mkdir()
    for name in PARTS:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(
                source, copy / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True
            )
        elif source.exists():
            shutil.copyfile(source, copy / name)
    cache = copy / "migrations" / "__pycache__"  # as after a migration in the checkout
    cache.mkdir()
    (cache / "env.cpython-311.pyc").write_bytes(b"compiled")
    for kind in ("wheel", "sdist"):
        run("-c", BUILD, kind, str(folder), cwd=copy)
    return folder


def wheel_in(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpack(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder


def python_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


def test_the_wheel_holds_the_package_and_the_migrations(built: Path) -> None:
    wheel = wheel_in(built)
    assert wheel.name == f"sqlstore-{sqlstore.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    package = {f"sqlstore/{name}" for name in python_files(PROJECT / "sqlstore")}
    migrations = {f"sqlstore/migrations/{name}" for name in python_files(PROJECT / "migrations")}
    assert {
        "sqlstore/migrations/env.py",
        "sqlstore/migrations/versions/0001_initial.py",
    } <= migrations
    expected = package | migrations | {"sqlstore/py.typed", "sqlstore/migrations/script.py.mako"}
    info = f"sqlstore-{sqlstore.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == expected
    assert {info + "entry_points.txt", info + "licenses/LICENSE"} <= set(names)


def test_the_wheel_is_used_without_the_checkout(built: Path, tmp_path: Path) -> None:
    wheel = unpack(wheel_in(built), tmp_path / "wheel")
    (tmp_path / "scratch").mkdir()
    used = run("-c", USE, str(wheel), str(tmp_path / "scratch"), cwd=tmp_path)
    assert used == f"used {sqlstore.__version__}"


def test_a_wheel_made_from_the_sdist_is_the_same(built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    run("-c", BUILD, "wheel", str(tmp_path), cwd=source)
    one = unpack(wheel_in(built), tmp_path / "one")
    other = unpack(wheel_in(tmp_path), tmp_path / "other")
    files = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(other) for path in other.rglob("*") if path.is_file()}
    assert all((one / path).read_bytes() == (other / path).read_bytes() for path in files)
