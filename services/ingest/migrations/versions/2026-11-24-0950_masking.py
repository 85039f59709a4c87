"""Masking rules and exceptions, tokens of one value, hits, sealed values and their audit."""

import sqlalchemy as sa
from alembic import op

revision = "202611240950"
down_revision = "202611240940"
branch_labels = None
depends_on = None

_NOW = sa.func.now()


def upgrade() -> None:
    op.create_table(
        "masking_rules",
        sa.Column("name", sa.Text, primary_key=True, comment="of a rule of the team, or of a built-in one that is changed"),
        sa.Column("pattern", sa.Text, nullable=False, comment="empty: that of the built-in rule"),
        sa.Column("validator", sa.Text, nullable=False),
        sa.Column("hints", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("shapes", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("keys", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("sealed", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("updated_by", sa.Text, nullable=False),
        schema="ingest",
    )
    op.create_table(
        "masking_exceptions",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("source", "rule"),
        schema="ingest",
    )
    op.create_table(
        "masking_equivalents",
        sa.Column("old_token", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.PrimaryKeyConstraint("old_token", "token"),
        schema="ingest",
    )
    op.create_index("ix_masking_equivalents_token", "masking_equivalents", ["token"], schema="ingest")
    op.create_table(
        "masking_hits",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("hits", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hour", "rule", "source"),
        schema="ingest",
    )
    op.create_table(
        "sealed_values",
        sa.Column("event_id", sa.BigInteger, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("day", sa.Integer, nullable=False, comment="that of the event's block"),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False, comment="nonce and AES-256-GCM of the value; associated data: event id and field"),
        sa.PrimaryKeyConstraint("event_id", "field", "token"),
        schema="ingest",
    )
    op.create_table(
        "masking_audit",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False, comment="canonical JSON"),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False, comment="SHA-256 over the hash before it and all of the above"),
        schema="ingest",
    )
    op.execute(
        """
        CREATE FUNCTION ingest.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit of masking is append-only'; END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ingest.masking_audit
        FOR EACH STATEMENT EXECUTE FUNCTION ingest.refuse_audit_change()
        """
    )


def downgrade() -> None:
    for table in ("masking_audit", "sealed_values", "masking_hits", "masking_equivalents", "masking_exceptions", "masking_rules"):
        op.drop_table(table, schema="ingest")
    op.execute("DROP FUNCTION ingest.refuse_audit_change()")
