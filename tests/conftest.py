"""What several test files share: places of caches, never in the home of who runs the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.small_records import ENOUGH, append, new_store

# A third of the examples that hypothesis draws, where a test does not say how many: there are many.
settings.register_profile("sqlstore", max_examples=30)
settings.load_profile("sqlstore")

# Whoever runs the tests in the background may have Ctrl-C ignored, here and in all that we start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _not_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("private")))
        yield


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the private caches of one test, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "private"))
    return tmp_path / "private" / "sqlstore"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a dictionary for each of its two fields; not to be changed."""
    path = new_store(tmp_path_factory.mktemp("trained") / "s")
    append(path, 0, ENOUGH)
    return path
