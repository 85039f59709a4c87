"""Tables of masking: rules and exceptions, tokens of one value, hits, sealed values, the audit of all of it."""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, DateTime, Index, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Table, Text, func


def add_masking_tables(metadata: MetaData) -> None:
    """Declares the tables; the masking modules read and write them with SQL of their own."""
    Table(
        "masking_rules",
        metadata,
        Column("name", Text, primary_key=True, comment="of a rule of the team, or of a built-in one that is changed"),
        Column("pattern", Text, nullable=False, comment="empty: that of the built-in rule"),
        Column("validator", Text, nullable=False),
        Column("hints", ARRAY(Text), nullable=False),
        Column("shapes", ARRAY(Text), nullable=False),
        Column("keys", Text, nullable=False),
        Column("enabled", Boolean, nullable=False),
        Column("sealed", Boolean, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("created_by", Text, nullable=False),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("updated_by", Text, nullable=False),
    )
    Table(
        "masking_exceptions",
        metadata,
        Column("source", Text, nullable=False),
        Column("rule", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("created_by", Text, nullable=False),
        PrimaryKeyConstraint("source", "rule"),
    )
    Table(
        "masking_equivalents",
        metadata,
        Column("old_token", Text, nullable=False),
        Column("token", Text, nullable=False),
        Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        PrimaryKeyConstraint("old_token", "token"),
        Index("ix_masking_equivalents_token", "token"),
    )
    Table(
        "masking_hits",
        metadata,
        Column("hour", DateTime(timezone=True), nullable=False),
        Column("rule", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("hits", BigInteger, nullable=False),
        PrimaryKeyConstraint("hour", "rule", "source"),
    )
    Table(
        "sealed_values",
        metadata,
        Column("event_id", BigInteger, nullable=False),
        Column("field", Text, nullable=False),
        Column("token", Text, nullable=False),
        Column("day", Integer, nullable=False, comment="that of the event's block"),
        Column("rule", Text, nullable=False),
        Column("key_id", Text, nullable=False),
        Column("sealed", LargeBinary, nullable=False, comment="nonce and AES-256-GCM of the value; associated data: event id and field"),
        PrimaryKeyConstraint("event_id", "field", "token"),
    )
    Table(
        "masking_audit",
        metadata,
        Column("sequence", BigInteger, primary_key=True, autoincrement=False),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("actor", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("target", Text, nullable=False),
        Column("detail", Text, nullable=False, comment="canonical JSON"),
        Column("request_id", Text, nullable=False),
        Column("previous_hash", LargeBinary, nullable=False),
        Column("hash", LargeBinary, nullable=False, comment="SHA-256 over the hash before it and all of the above"),
    )
