"""Rejected records in groups, with their senders in columns and the name of the key that sealed them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "202611240955"
down_revision = "202611240950"
branch_labels = None
depends_on = None

_NOW = sa.func.now()


def upgrade() -> None:
    op.create_table(
        "rejection_groups",
        sa.Column("id", postgresql.UUID(as_uuid=True), primary_key=True),
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False, comment="digest of what is alike"),
        sa.Column("day", sa.Integer, nullable=False, comment="days since 1970 of the arrival"),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False, comment="of the newest of them"),
        sa.Column("token_id", sa.Text, nullable=False),
        sa.Column("token_name", sa.Text, nullable=False),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False, comment="of all of them, as they were sent"),
        sa.Column("kept", sa.BigInteger, nullable=False, comment="those whose bytes were kept"),
        sa.Column("kept_bytes", sa.BigInteger, nullable=False, comment="as they are stored"),
        sa.Column("replayed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.UniqueConstraint("number"),
        sa.UniqueConstraint("key"),
        schema="ingest",
    )
    op.create_index("ix_rejection_groups_day_source", "rejection_groups", ["day", "source"], schema="ingest")
    # What was rejected so far: alike is what has the same texts. The sender was its address and its user agent.
    op.execute(
        """
        INSERT INTO ingest.rejection_groups
            (id, key, day, source, reason, detail, token_id, token_name, protocol,
            address, user_agent, count, bytes, kept, kept_bytes, first_seen_at, last_seen_at)
        SELECT gen_random_uuid(), decode(md5(row(day, source, reason, detail, sender)::text), 'hex'), day, source, reason, detail, '', '', '',
            split_part(sender, ' ', 1), substr(sender, length(split_part(sender, ' ', 1)) + 2),
            count(*), sum(length(raw) - 28), count(*), sum(length(raw)), min(rejected_at), max(rejected_at)
        FROM (SELECT *, floor(extract(epoch FROM rejected_at) / 86400)::int AS day FROM ingest.rejected_events) AS old
        GROUP BY day, source, reason, detail, sender
        """
    )
    op.execute("ALTER TABLE ingest.rejected_events ADD COLUMN group_id uuid, ADD COLUMN size integer, ADD COLUMN replayed_at timestamptz")
    op.execute("ALTER TABLE ingest.rejected_events ADD COLUMN key_id text NOT NULL DEFAULT ''")
    op.execute(
        """
        UPDATE ingest.rejected_events AS old SET size = length(raw) - 28, group_id = (
            SELECT id FROM ingest.rejection_groups
            WHERE key = decode(md5(row(floor(extract(epoch FROM rejected_at) / 86400)::int, old.source, old.reason, old.detail, sender)::text), 'hex'))
        """
    )
    op.execute(
        """
        ALTER TABLE ingest.rejected_events ALTER COLUMN group_id SET NOT NULL, ALTER COLUMN size SET NOT NULL, ALTER COLUMN key_id DROP DEFAULT,
            ALTER COLUMN raw SET STORAGE EXTERNAL, DROP COLUMN source, DROP COLUMN reason, DROP COLUMN sender
        """
    )
    op.execute("COMMENT ON COLUMN ingest.rejected_events.size IS 'bytes as they were sent'")
    op.execute("COMMENT ON COLUMN ingest.rejected_events.key_id IS 'names the key that sealed them; empty: sealed before keys had names'")
    op.create_index("ix_rejected_events_group_id", "rejected_events", ["group_id"], schema="ingest")
    op.create_index("ix_rejected_events_rejected_at", "rejected_events", ["rejected_at"], schema="ingest")


def downgrade() -> None:
    op.execute("DELETE FROM ingest.rejected_events WHERE key_id <> ''")  # compressed and sealed as nothing older can read
    op.execute("ALTER TABLE ingest.rejected_events ADD COLUMN source text, ADD COLUMN reason text, ADD COLUMN sender text")
    op.execute(
        """
        UPDATE ingest.rejected_events AS e SET source = g.source, reason = g.reason, sender = rtrim(g.address || ' ' || g.user_agent)
        FROM ingest.rejection_groups AS g WHERE g.id = e.group_id
        """
    )
    op.execute("ALTER TABLE ingest.rejected_events ALTER COLUMN source SET NOT NULL, ALTER COLUMN reason SET NOT NULL, ALTER COLUMN sender SET NOT NULL")
    op.execute("ALTER TABLE ingest.rejected_events DROP COLUMN group_id, DROP COLUMN size, DROP COLUMN replayed_at, DROP COLUMN key_id")
    op.drop_index("ix_rejected_events_rejected_at", "rejected_events", schema="ingest")
    op.create_index("ix_rejected_events_source", "rejected_events", ["source"], schema="ingest")
    op.drop_table("rejection_groups", schema="ingest")
