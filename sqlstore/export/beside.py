"""Files that are written beside their places under other names, and renamed when all are done."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from sqlstore.errors import ExportError, SqlstoreError
from sqlstore.types import StrPath


class Beside:
    """Writes files that appear under their names, synced, when the block is left without an error.

    Parameters
    ----------
    overwrite
        Replace files that are there.

    Attributes
    ----------
    n_bytes
        The size of the files that are complete.
    """

    def __init__(self, *, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._partials: list[tuple[Path, Path]] = []
        self.n_bytes = 0

    def __enter__(self) -> Beside:
        return self

    @contextmanager
    def file(self, target: Path) -> Iterator[IO[bytes]]:
        """Give a file to write, which is closed when the block is left."""
        partial = target.with_name(f".export-{secrets.token_hex(4)}.partial")
        self._partials.append((partial, target))
        with _said_of(target), partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            self.n_bytes += file.tell()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                for _, target in self._partials:  # somebody may have been faster
                    check_free(target, overwrite=self._overwrite)
                for partial, target in self._partials:
                    with _said_of(target):
                        partial.replace(target)
        finally:
            for partial, _ in self._partials:
                partial.unlink(missing_ok=True)


@contextmanager
def _said_of(target: Path) -> Iterator[None]:
    """Let what the system refuses name the file that people know."""
    try:
        yield
    except SqlstoreError:
        raise  # it was to be read, and says where
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error


def place_of(path: StrPath, store: Path) -> Path:
    """Return where a file is to be: where a link leads, and not inside the store itself.

    Raises
    ------
    ExportError
        It is inside the store.
    """
    target = Path(os.path.realpath(path))
    if target.is_relative_to(os.path.realpath(store)):
        raise ExportError(f"{path} is inside the store; export to another folder")
    return target


def check_free(target: Path, *, overwrite: bool) -> None:
    """Raise if something is in the place of a file that may not be replaced.

    Raises
    ------
    FileExistsError
        A file is.
    ExportError
        Something is that is no file.
    """
    if not target.exists():
        return
    if not target.is_file():
        raise ExportError(f"{target} is there already, and it is not a file")
    if not overwrite:
        raise FileExistsError(f"{target} is there already; `overwrite=True` replaces it")
