"""When each source was heard, what was cut off or null, and what the watch over quality has told."""

import sqlalchemy as sa
from alembic import op

revision = "202611241050"
down_revision = "202611241045"
branch_labels = None
depends_on = None

_ADDED = ("truncated", "field_values", "null_values", "minutes")


def upgrade() -> None:
    for name in _ADDED:
        op.add_column("quality", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"), schema="ingest")
        op.alter_column("quality", name, server_default=None, schema="ingest")
    op.create_table(
        "quality_occurrences",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False, comment="empty: the source itself"),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), comment="null: it lasts"),
        sa.PrimaryKeyConstraint("source", "kind", "field", "since", name="pk_quality_occurrences"),
        schema="ingest",
    )


def downgrade() -> None:
    op.drop_table("quality_occurrences", schema="ingest")
    for name in _ADDED:
        op.drop_column("quality", name, schema="ingest")
