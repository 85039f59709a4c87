"""Quality of the events of each source, per hour."""

import sqlalchemy as sa
from alembic import op

revision = "202611241045"
down_revision = "202611241030"
branch_labels = None
depends_on = None

_COUNTS = (
    *("events", "rejected", "duplicates", "unparsed", "missing_time", "future_time", "past_time", "ahead"),
    *("unknown_severity", "repaired", "overflowing", "lag_ms", "timed", "sampled"),
)


def upgrade() -> None:
    op.create_table(
        "quality",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False, comment="of arrival"),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("source", "hour", name="pk_quality"),
        schema="ingest",
    )
    op.create_index("ix_quality_hour", "quality", ["hour"], schema="ingest")
    op.create_table(
        "quality_fields",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False, comment="text, number, boolean, object, list or null"),
        sa.Column("events", sa.BigInteger, nullable=False, comment="of those sampled"),
        sa.PrimaryKeyConstraint("source", "hour", "field", "type", name="pk_quality_fields"),
        schema="ingest",
    )
    op.create_index("ix_quality_fields_hour", "quality_fields", ["hour"], schema="ingest")


def downgrade() -> None:
    op.drop_table("quality_fields", schema="ingest")
    op.drop_table("quality", schema="ingest")
