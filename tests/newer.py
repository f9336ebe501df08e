"""A later sqlstore that knows one more revision of the index."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from unittest import mock

from sqlstore.index import versions
from sqlstore.maintenance import migrate as machinery

OLD: Final = versions.head()
NEW: Final = "9000"

ADD: Final = """
    with op.batch_alter_table("commits") as batch:
        batch.add_column(sa.Column("author", sa.TEXT))
    op.create_table("tags", sa.Column("tag", sa.INTEGER, primary_key=True), sqlite_strict=True)
"""
"""An upgrade: one table made anew with a column more, and a new one."""

_REWRITE: Final = """
    op.execute("CREATE TABLE moved AS SELECT * FROM blobs")
    op.execute("DELETE FROM blobs")
    op.execute("INSERT INTO blobs SELECT * FROM moved")
    op.execute("DROP TABLE moved")
"""
"""An upgrade after which the tables are declared as before, so that `verify` knows them."""


def write_revision(folder: Path, upgrade: str) -> Path:
    """Copy the migrations of the project and add a revision."""
    shutil.copytree(
        machinery.migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "versions" / f"{NEW}_test.py").write_text(
        "import os\n"
        "import signal\n\n"
        "import sqlalchemy as sa\n"
        "from alembic import op\n\n"
        f"revision = {NEW!r}\n"
        f"down_revision = {OLD!r}\n\n\n"
        f"def upgrade():{upgrade}"
    )
    return folder


@contextmanager
def revision(folder: Path) -> Iterator[None]:
    """Be that sqlstore inside the block, with the migrations of a folder."""
    known = (*versions.KNOWN_REVISIONS, NEW)
    with (
        mock.patch.object(versions, "KNOWN_REVISIONS", known),
        mock.patch.object(machinery, "migrations_folder", return_value=folder),
    ):
        yield


@contextmanager
def library() -> Iterator[None]:
    """Be a later sqlstore inside the block, with an upgrade of its own."""
    with contextlib.ExitStack() as stack:
        parent = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(revision(write_revision(Path(parent) / "migrations", _REWRITE)))
        yield
