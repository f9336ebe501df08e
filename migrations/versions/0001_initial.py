"""The fixed tables of the index, as of sqlstore 0.1.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

RECORD_LOCATIONS = """
CREATE VIEW record_locations AS
SELECT b.record AS record, f.name AS field, 'chunks/' || c.name AS file, b.offset AS offset,
       b.length AS length, b.raw_length AS raw_length,
       CASE b.compression WHEN 0 THEN 'none' WHEN 1 THEN 'lz4' WHEN 2 THEN 'zstd' WHEN 3 THEN 'gzip'
       ELSE iif(b.compression > 63, 'dictionary ' || (b.compression - 64), NULL) END AS compression,
       b.items AS items, b.checksum AS checksum
FROM fields AS f CROSS JOIN blobs AS b ON b.field = f.number JOIN chunks AS c ON c.chunk = b.chunk
"""


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.INTEGER, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.TEXT, nullable=False)


def upgrade() -> None:
    op.create_table(
        "store",
        sa.Column(
            "only",
            sa.INTEGER,
            sa.CheckConstraint("only = 1", name="only_one_row"),
            primary_key=True,
        ),
        _text("uuid"),
        _integer("format_version"),
        _integer("min_reader"),
        _integer("generation"),
        _integer("next_record_id"),
        _integer("schema_version"),
        _integer("chunk_size"),
        _integer("created_at"),
        _text("library_version"),
        _integer("checkpoint"),
        sqlite_strict=True,
    )
    op.create_table(
        "fields",
        sa.Column("number", sa.INTEGER, primary_key=True),
        sa.Column("name", sa.TEXT, nullable=False, unique=True),
        _text("encoding"),
        sa.Column("compression", sa.TEXT),
        _integer("position"),
        sqlite_strict=True,
    )
    op.create_table(
        "columns",
        sa.Column("number", sa.INTEGER, primary_key=True),
        sa.Column("name", sa.TEXT, nullable=False, unique=True),
        _text("type"),
        _integer("nullable"),
        _integer("indexed"),
        _integer("is_key"),
        _integer("position"),
        sqlite_strict=True,
    )
    op.create_table(
        "chunks",
        sa.Column("chunk", sa.INTEGER, primary_key=True),
        sa.Column("name", sa.TEXT, nullable=False, unique=True),
        _text("uuid"),
        _integer("size"),
        _integer("sealed"),
        _integer("retired"),
        sqlite_strict=True,
    )
    op.create_table(
        "commits",
        sa.Column("number", sa.INTEGER, primary_key=True),
        _text("uuid"),
        _integer("kind"),
        _integer("chunk"),
        _integer("offset"),
        _integer("committed_at"),
        _integer("first_record"),
        _integer("records"),
        sqlite_strict=True,
    )
    op.create_table(
        "blobs",
        _integer("field"),
        _integer("record"),
        _integer("chunk"),
        _integer("offset"),
        _integer("length"),
        _integer("raw_length"),
        _integer("compression"),
        _integer("items"),
        _integer("checksum"),
        sa.PrimaryKeyConstraint("field", "record"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dictionaries",
        sa.Column("number", sa.INTEGER, primary_key=True),
        _integer("field"),
        _integer("chunk"),
        _integer("offset"),
        _integer("length"),
        _integer("crc"),
        sqlite_strict=True,
    )
    op.create_table(
        "subsets",
        sa.Column("number", sa.INTEGER, primary_key=True),
        sa.Column("name", sa.TEXT, nullable=False, unique=True),
        sa.Column("sql", sa.TEXT),
        sa.Column("parameters", sa.TEXT),
        sa.Column("note", sa.TEXT),
        _integer("records"),
        _text("fingerprint"),
        _text("content"),
        _integer("saved_at"),
        sqlite_strict=True,
    )
    op.create_table(
        "subset_records",
        sa.Column(
            "subset",
            sa.INTEGER,
            sa.ForeignKey("subsets.number", ondelete="CASCADE"),
            nullable=False,
        ),
        _integer("position"),
        _integer("record"),
        sa.PrimaryKeyConstraint("subset", "position"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute(RECORD_LOCATIONS)
