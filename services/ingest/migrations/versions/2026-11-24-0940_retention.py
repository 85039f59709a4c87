"""Blocks in one partition per day and number of days that they are kept; which sources a partition holds."""

import sqlalchemy as sa
from alembic import op

revision = "202611240940"
down_revision = "202611240930"
branch_labels = None
depends_on = None

_COLUMNS = """
    id bigint NOT NULL,
    day integer NOT NULL,
    {keep_days}
    events integer NOT NULL,
    first_timestamp bigint NOT NULL,
    last_timestamp bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    summary bytea NOT NULL,
    lines bytea NOT NULL
"""


def upgrade() -> None:
    op.execute("ALTER TABLE ingest.blocks RENAME TO blocks_by_day")
    op.execute("ALTER TABLE ingest.blocks_by_day RENAME CONSTRAINT pk_blocks TO pk_blocks_by_day")
    _create_blocks("keep_days integer NOT NULL DEFAULT 0,", key="id, day, keep_days", partition="day, keep_days")
    op.execute("COMMENT ON COLUMN ingest.blocks.keep_days IS 'days that it is kept, 0: as the setting says; the partition key too'")
    op.execute("CREATE INDEX ix_blocks_created_at ON ingest.blocks (created_at)")
    op.create_table(
        "held_sources",
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("keep_days", sa.Integer, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("day", "keep_days", "source"),
        schema="ingest",
    )
    # What there is becomes a partition of the new table as it is: no block is copied. Attaching makes the indexes.
    for name in _partitions("blocks_by_day"):
        day = int(name.removeprefix("blocks_"))
        op.execute(f"ALTER TABLE ingest.blocks_by_day DETACH PARTITION ingest.{name}")
        for key in _primary_keys(name):
            op.execute(f"ALTER TABLE ingest.{name} DROP CONSTRAINT {key}")
        op.execute(f"ALTER TABLE ingest.{name} ADD COLUMN keep_days integer NOT NULL DEFAULT 0")
        op.execute(f"ALTER TABLE ingest.{name} RENAME TO {name}_0")
        op.execute(f"ALTER TABLE ingest.blocks ATTACH PARTITION ingest.{name}_0 FOR VALUES FROM ({day}, 0) TO ({day}, 1)")
        # Whose events these are was not noted: the empty name stands for everybody.
        op.execute(f"INSERT INTO ingest.held_sources (day, keep_days, source) VALUES ({day}, 0, '')")  # noqa: S608
    op.execute("DROP TABLE ingest.blocks_by_day")
    op.add_column(
        "sources",
        sa.Column("retention_days", sa.Integer, nullable=False, server_default="0", comment="days that its events are kept; 0: as the setting says"),
        schema="ingest",
    )


def downgrade() -> None:
    op.drop_column("sources", "retention_days", schema="ingest")
    op.drop_table("held_sources", schema="ingest")
    op.execute("ALTER TABLE ingest.blocks RENAME TO blocks_by_class")
    op.execute("ALTER TABLE ingest.blocks_by_class RENAME CONSTRAINT pk_blocks TO pk_blocks_by_class")
    _create_blocks("", key="id, day", partition="day")
    for day in sorted({int(name.split("_")[1]) for name in _partitions("blocks_by_class")}):
        op.execute(f"CREATE TABLE ingest.blocks_{day} PARTITION OF ingest.blocks FOR VALUES FROM ({day}) TO ({day + 1})")
        columns = "id, day, events, first_timestamp, last_timestamp, created_at, summary, lines"
        op.execute(f"INSERT INTO ingest.blocks ({columns}) SELECT {columns} FROM ingest.blocks_by_class WHERE day = {day}")  # noqa: S608
    op.execute("DROP TABLE ingest.blocks_by_class")


def _create_blocks(keep_days: str, *, key: str, partition: str) -> None:
    columns = _COLUMNS.format(keep_days=keep_days)
    op.execute(f"CREATE TABLE ingest.blocks ({columns}, CONSTRAINT pk_blocks PRIMARY KEY ({key})) PARTITION BY RANGE ({partition})")
    op.execute("COMMENT ON COLUMN ingest.blocks.day IS 'days since 1970 of the events in it; the partition key'")
    op.execute("COMMENT ON COLUMN ingest.blocks.summary IS 'zstd of an elis.ingest.v1.BlockSummary'")
    op.execute("COMMENT ON COLUMN ingest.blocks.lines IS 'zstd of the canonical lines, LF after each'")
    # Compressed already: PostgreSQL must not try again.
    op.execute("ALTER TABLE ingest.blocks ALTER COLUMN lines SET STORAGE EXTERNAL, ALTER COLUMN summary SET STORAGE EXTERNAL")


def _partitions(table: str) -> list[str]:
    query = sa.text("SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = to_regclass(:name) ORDER BY 1")
    rows = op.get_bind().execute(query, {"name": f"ingest.{table}"})
    return [name for (name,) in rows]


def _primary_keys(table: str) -> list[str]:
    query = sa.text("SELECT conname::text FROM pg_constraint WHERE conrelid = to_regclass(:name) AND contype = 'p'")
    rows = op.get_bind().execute(query, {"name": f"ingest.{table}"})
    return [name for (name,) in rows]
