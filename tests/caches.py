"""What the tests of the caches share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from sqlstore.cache import manifest
from sqlstore.cache.manifest import Manifest
from sqlstore.log.reader import ChunkReader
from tests.processes import batches_in


def held(path: Path) -> Manifest:
    """Return what the cache in a store's folder holds."""
    found = manifest.load(path / "cache")
    assert found is not None
    return found


def edition(path: Path) -> Path:
    """Return the folder of the files of that cache."""
    return path / "cache" / held(path).edition


@contextmanager
def results_of(owner: Any, name: str) -> Iterator[list[Any]]:
    """Yield a list of all that a function returns inside the block."""
    real, results = getattr(owner, name), []

    def noted(*arguments: Any, **named: Any) -> Any:
        results.append(real(*arguments, **named))
        return results[-1]

    with mock.patch.object(owner, name, noted):
        yield results


def assert_current(path: Path) -> None:
    """Check that a store is opened and read without a look at more than the first commit."""
    with results_of(ChunkReader, "table") as tables:
        batches_in(path)
    assert len(tables) <= 1
