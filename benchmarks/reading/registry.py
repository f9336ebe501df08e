"""The systems that are compared: a module each, imported when it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from benchmarks.reading.protocol import System, writer_of
from benchmarks.reading.results import OURS

FOLDER = "benchmarks.reading.systems"

MODULES = {
    OURS: "sqlstore",
    "bare": "",
    "arrow_file": "pyarrow",
    "parquet_table": "pyarrow",
    "sqlite_blobs": "",
    "one_file_each": "",
    "lmdb_system": "lmdb",
    "hdf5": "h5py",
    "granular_system": "granular",
    "acumenindexer": "acumenindexer",
    "splitdataloader": "splitdataloader",
    "ra_pickles": "ra-pickles",
    "arrayrecord": "array_record",
    "lance": "pylance",
    "mosaicml": "mosaicml-streaming",
    "litdata": "litdata",
    "webdataset": "webdataset",
    "huggingface": "datasets",
}
"""The package that each module measures, or "" for what Python and NumPy can do alone."""


@dataclass(frozen=True)
class Entry:
    """A system, and the module that a fresh process imports to have it."""

    module: str
    system: type[System]

    @property
    def name(self) -> str:
        """Return the name in the tables."""
        return self.system.name


def load(wanted: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """Return the systems of some modules, and notes about packages and their versions.

    A package that is not installed costs no more than its own rows.
    """
    entries: list[Entry] = []
    missing, found = [], []
    for module in wanted:
        try:
            systems = import_module(f"{FOLDER}.{module}").SYSTEMS
        except ImportError as error:
            missing.append(f"{MODULES[module]} ({error})")
            continue
        entries += [Entry(module, system) for system in systems]
        found.append(_version(MODULES[module]))
    notes = [f"with {', '.join(dict.fromkeys(filter(None, found)))}"]
    if missing:
        notes.append(f"left out, not installed: {', '.join(missing)}")
    return entries, notes


def one(module: str, class_name: str) -> type[System]:
    """Return one system by the names of its module and class."""
    system: type[System] = getattr(import_module(f"{FOLDER}.{module}"), class_name)
    return system


def folder_name(system: type[System]) -> str:
    """Return the name of the folder that a system reads."""
    return writer_of(system).__name__


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}" if package else ""
    except PackageNotFoundError:
        return package
