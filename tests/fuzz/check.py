"""Reads a damaged store, compares what it gets, and says by which check the damage was caught."""

from __future__ import annotations

import contextlib
import faulthandler
import shutil
import warnings
import zlib
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import sqlstore
from sqlstore import (
    CorruptStoreError,
    NotAStoreError,
    QueryError,
    RecordNotFoundError,
    SqlstoreError,
    StorageError,
    Store,
    VersionError,
    verify,
)
from tests.fuzz import cases, small

_ALLOWED: Final = (CorruptStoreError, NotAStoreError, VersionError, StorageError)
"""What damage may look like: an index may seem to be no index, or one of another version."""


class ViolationError(AssertionError):
    """Something was wrong and not noticed, or noticed by no error of ours."""


class Checked:
    """What happened to one damaged store.

    Attributes
    ----------
    caught
        The first of `open`, `read` and `filter` that has refused something; empty for none.
    misled
        Where the index led to other records than an intact one.
    """

    def __init__(self, root: Path, expected: small.Expected) -> None:
        self._root, self._expected = root, expected
        self.caught = ""
        self.misled: list[str] = []

    def run(self) -> str:
        """Return what caught the damage.

        Raises
        ------
        ViolationError
            Wrong bytes, or a misled filter that `verify` does not find, or a strange error.
        """
        with self._attempt("open"), sqlstore.open(self._root) as store:
            self._read(store)
            self._filter(store)
        report = verify(self._root)
        if report and self.misled:
            raise ViolationError(f"verify finds nothing, but misled: {self.misled}")
        if not report and not all(fault.message for fault in report.faults):
            raise ViolationError("verify does not say what is wrong")
        return self.caught or ("nothing: all is right" if report else "verify")

    @contextlib.contextmanager
    def _attempt(self, what: str) -> Iterator[None]:
        try:
            yield
        except RecordNotFoundError as error:
            self.misled.append(f"{what}: {error}")
        except _ALLOWED as error:
            self.caught = self.caught or what
            if not (error.where or self._root.name in str(error) or "index" in str(error)):
                raise ViolationError(f"{what} does not say where: {error!r}") from error
        except SqlstoreError as error:
            if what != "filter" or not isinstance(error, QueryError):
                raise ViolationError(f"{what} raised {error!r}") from error
            # A table that lacks a column says so; that it is damage, `verify` must say.
            self.caught = self.caught or what
            self.misled.append(f"{what}: {error}")

    def _read(self, store: Store) -> None:
        records = self._expected.records
        if store.ids.tolist() != list(records):
            self.misled.append(f"records {store.ids.tolist()}")
        with self._attempt("read"):
            for row in store.select("id", *small.COLUMNS).to_arrow().to_pylist():
                one = records.get(row["id"], {})
                self._same(row, {name: one.get(name) for name in small.COLUMNS} | {"id": row["id"]})
        positions = {record: place for place, record in enumerate(store.ids.tolist())}
        for (record, name), value in self._expected.raws.items():
            with self._attempt("read"):
                if record not in positions:
                    continue
                is_sequence = small.FIELDS[name].is_sequence
                give = store.raw_items if is_sequence else store.raw
                self._same(give(positions[record], name), value)
        for record, one in records.items():
            with self._attempt("read"):
                self._same(store.get(record), one)

    def _filter(self, store: Store) -> None:
        records = self._expected.records
        for condition, ids in self._expected.found.items():
            with self._attempt("filter"):
                view = store.where(condition)
                if view.ids.tolist() != ids:
                    self.misled.append(condition)
                for record, found in zip(view.ids.tolist(), view, strict=True):
                    self._same(found, records[record])

    def _same(self, found: Any, value: Any) -> None:
        if found != value:
            raise ViolationError(f"wrong bytes: {found!r} instead of {value!r}")


class Bench:
    """Damages a copy of the store, one case after the other.

    Parameters
    ----------
    template
        An intact store, with the older index beside it.
    folder
        Where the copy lies.
    """

    def __init__(self, template: Path, folder: Path) -> None:
        self._template, self._folder = template, folder
        self._expected = small.expected()
        self._root = folder / "fuzzed"

    def run(self, case: str) -> str:
        """Return what caught the damage."""
        shutil.rmtree(self._folder, ignore_errors=True)
        ignored = () if zlib.crc32(case.encode()) % 4 == 0 else ("cache",)
        self._folder.mkdir(parents=True)
        shutil.copytree(self._template, self._root, ignore=shutil.ignore_patterns(*ignored))
        cases.apply(case, paths(self._root), self._template.with_name(small.STALE))
        return Checked(self._root, self._expected).run()


def paths(root: Path) -> dict[str, Path]:
    """Return the files of a store by what cases call them."""
    chunks = sorted((root / "chunks").iterdir())
    return {"index": root / "index.sqlite"} | {f"chunk{n}": path for n, path in enumerate(chunks)}


def serve(connection: Connection, template: Path, folder: Path) -> None:
    """Run the cases that come, and answer each with what caught it, or what is wrong."""
    faulthandler.enable()
    warnings.simplefilter("ignore")  # a damaged revision looks like one of a newer sqlstore
    bench = Bench(template, folder)
    while (case := connection.recv()) is not None:
        try:
            connection.send((bench.run(case), ""))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            connection.send(("violation", f"{type(error).__name__}: {error}"))
