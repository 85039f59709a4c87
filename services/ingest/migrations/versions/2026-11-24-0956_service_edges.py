"""Who calls whom, per minute, learned from traces."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "202611240956"
down_revision = "202611240955"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "service_edges",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("callee", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False, comment="service, database, messaging or external"),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("errors", sa.BigInteger, nullable=False),
        sa.Column("duration_ns", sa.BigInteger, nullable=False, comment="sum over the calls"),
        sa.Column("buckets", postgresql.ARRAY(sa.BigInteger), nullable=False, comment="calls by duration, not cumulative"),
        sa.PrimaryKeyConstraint("minute", "caller", "callee", "kind", name="pk_service_edges"),
        schema="ingest",
    )


def downgrade() -> None:
    op.drop_table("service_edges", schema="ingest")
