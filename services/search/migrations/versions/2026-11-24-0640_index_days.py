"""Creates the state of the index."""

import sqlalchemy as sa
from alembic import op

revision = "search_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "index_day",
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("engine", "day", name=op.f("pk_index_day")),
        schema="search",
    )


def downgrade() -> None:
    op.drop_table("index_day", schema="search")
