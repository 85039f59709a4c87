"""What a team says about a source: its time zone, and what neither senders nor detection may change."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "202611240930"
down_revision = "202611240600"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sources", sa.Column("zone", sa.Text, nullable=False, server_default="", comment="IANA name; empty: UTC"), schema="ingest")
    op.add_column(
        "sources",
        sa.Column("pinned", postgresql.ARRAY(sa.Text), nullable=False, server_default="{}", comment="columns that only UpdateSource changes"),
        schema="ingest",
    )
    op.add_column(
        "sources",
        sa.Column("detections", sa.Integer, nullable=False, server_default="0", comment="how often detection was told to start again"),
        schema="ingest",
    )
    op.add_column(
        "sources",
        sa.Column("configured_at", sa.DateTime(timezone=True), comment="when UpdateSource changed it last"),
        schema="ingest",
    )


def downgrade() -> None:
    for column in ("configured_at", "detections", "pinned", "zone"):
        op.drop_column("sources", column, schema="ingest")
