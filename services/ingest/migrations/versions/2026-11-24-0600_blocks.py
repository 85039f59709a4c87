"""Blocks, their feed, request digests, sources and rejected events."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "202611240600"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE ingest.block_ids INCREMENT BY 1000 START WITH 1000")
    op.execute(
        """
        CREATE TABLE ingest.blocks (
            id bigint NOT NULL,
            day integer NOT NULL,
            events integer NOT NULL,
            first_timestamp bigint NOT NULL,
            last_timestamp bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            summary bytea NOT NULL,
            lines bytea NOT NULL,
            CONSTRAINT pk_blocks PRIMARY KEY (id, day)
        ) PARTITION BY RANGE (day)
        """
    )
    op.execute("COMMENT ON COLUMN ingest.blocks.day IS 'days since 1970 of the events in it; the partition key'")
    op.execute("COMMENT ON COLUMN ingest.blocks.summary IS 'zstd of an elis.ingest.v1.BlockSummary'")
    op.execute("COMMENT ON COLUMN ingest.blocks.lines IS 'zstd of the canonical lines, LF after each'")
    # Compressed already: PostgreSQL must not try again.
    op.execute("ALTER TABLE ingest.blocks ALTER COLUMN lines SET STORAGE EXTERNAL, ALTER COLUMN summary SET STORAGE EXTERNAL")
    op.execute(
        """
        CREATE TABLE ingest.feed (
            xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
            id bigint NOT NULL,
            day integer NOT NULL,
            CONSTRAINT pk_feed PRIMARY KEY (xid, id)
        )
        """
    )
    op.create_index("ix_feed_id", "feed", ["id"], unique=True, schema="ingest")
    op.create_table(
        "request_digests",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        schema="ingest",
    )
    op.create_index("ix_request_digests_expires_at", "request_digests", ["expires_at"], schema="ingest")
    op.create_table(
        "sources",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("detected_by", sa.Text, nullable=False),
        sa.Column("confidence", sa.Float, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rejected", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema="ingest",
    )
    op.create_table(
        "rejected_events",
        sa.Column("id", postgresql.UUID(as_uuid=True), primary_key=True),
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("rejected_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("number"),
        schema="ingest",
    )
    op.create_index("ix_rejected_events_source", "rejected_events", ["source"], schema="ingest")


def downgrade() -> None:
    for table in ("rejected_events", "sources", "request_digests", "feed", "blocks"):
        op.drop_table(table, schema="ingest")
    op.execute("DROP SEQUENCE ingest.block_ids")
