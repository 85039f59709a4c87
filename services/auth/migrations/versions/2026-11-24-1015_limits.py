"""Limits of ingest tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "auth0003"
down_revision = "auth0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("events_per_second", "bytes_per_second"):
        op.add_column("api_keys", sa.Column(name, sa.BigInteger(), nullable=True), schema="auth")


def downgrade() -> None:
    for name in ("bytes_per_second", "events_per_second"):
        op.drop_column("api_keys", name, schema="auth")
