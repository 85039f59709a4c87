"""Ingest tokens whose Splunk clients use indexer acknowledgement."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "auth0002"
down_revision = "auth0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("ack", sa.Boolean(), nullable=False, server_default=sa.false()), schema="auth")


def downgrade() -> None:
    op.drop_column("api_keys", "ack", schema="auth")
