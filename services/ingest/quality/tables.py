"""Tables of data quality."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, MetaData, PrimaryKeyConstraint, Table, Text

from services.ingest.quality.measure import COUNTS


def add_quality_tables(metadata: MetaData) -> None:
    """Adds the tables to the metadata of the service."""
    Table(
        "quality",
        metadata,
        Column("source", Text, nullable=False),
        Column("hour", DateTime(timezone=True), nullable=False, comment="of arrival"),
        *(Column(name, BigInteger, nullable=False) for name in (*COUNTS, "minutes")),
        PrimaryKeyConstraint("source", "hour"),
        Index("ix_quality_hour", "hour"),
    )
    Table(
        "quality_fields",
        metadata,
        Column("source", Text, nullable=False),
        Column("hour", DateTime(timezone=True), nullable=False),
        Column("field", Text, nullable=False),
        Column("type", Text, nullable=False, comment="text, number, boolean, object, list or null"),
        Column("events", BigInteger, nullable=False, comment="of those sampled"),
        PrimaryKeyConstraint("source", "hour", "field", "type"),
        Index("ix_quality_fields_hour", "hour"),
    )
    Table(
        "quality_occurrences",
        metadata,
        Column("source", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("field", Text, nullable=False, comment="empty: the source itself"),
        Column("since", DateTime(timezone=True), nullable=False),
        Column("told_at", DateTime(timezone=True), nullable=False),
        Column("ended_at", DateTime(timezone=True), comment="null: it lasts"),
        PrimaryKeyConstraint("source", "kind", "field", "since"),
    )
