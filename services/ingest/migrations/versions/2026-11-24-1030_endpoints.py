"""Who sends, over which protocol and with which token."""

import sqlalchemy as sa
from alembic import op

revision = "202611241030"
down_revision = "202611240956"
branch_labels = None
depends_on = None

_COUNTS = ("requests", "refused", "limited", "resent", "events", "duplicates", "rejected", "bytes")


def upgrade() -> None:
    op.create_table(
        "endpoints",
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("token_id", sa.Text, nullable=False, comment="empty: requests whose token was not accepted"),
        sa.Column("token_name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False, comment="that the token is bound to; empty: the sender names it"),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.Column("last_error_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("protocol", "token_id", name="pk_endpoints"),
        schema="ingest",
    )
    op.create_table(
        "endpoint_clients",
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("token_id", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("protocol", "token_id", "address", "user_agent", name="pk_endpoint_clients"),
        schema="ingest",
    )
    op.create_table(
        "endpoint_counts",
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("token_id", sa.Text, nullable=False),
        sa.Column("slot", sa.DateTime(timezone=True), nullable=False, comment="ten seconds that begin here"),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("protocol", "token_id", "slot", name="pk_endpoint_counts"),
        schema="ingest",
    )
    op.create_index("ix_endpoint_counts_slot", "endpoint_counts", ["slot"], schema="ingest")


def downgrade() -> None:
    for table in ("endpoint_counts", "endpoint_clients", "endpoints"):
        op.drop_table(table, schema="ingest")
