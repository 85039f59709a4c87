"""When the counts of a minute were last changed."""

import sqlalchemy as sa
from alembic import op

revision = "correlate_0002"
down_revision = "correlate_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "minute_change",
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("changed_in", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("minute", name=op.f("pk_minute_change")),
        schema="correlate",
        postgresql_with={"fillfactor": "50"},
    )


def downgrade() -> None:
    op.drop_table("minute_change", schema="correlate")
