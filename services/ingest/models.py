"""Tables of the ingest service."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Float, Identity, Index, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Sequence, Table, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from kit.db import create_metadata
from services.ingest.masking.tables import add_masking_tables
from services.ingest.quality.tables import add_quality_tables

SCHEMA = "ingest"
metadata: MetaData = create_metadata(SCHEMA)
add_masking_tables(metadata)
add_quality_tables(metadata)

BLOCK_ID_RANGE = 1_000
"""Block ids that a process takes from the sequence at a time."""
block_ids = Sequence("block_ids", schema=SCHEMA, metadata=metadata, increment=BLOCK_ID_RANGE, start=BLOCK_ID_RANGE)


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Returns the column type."""
        return "xid8"


class Base(DeclarativeBase):
    """Base of the service's mapped tables."""

    metadata = metadata


blocks = Table(
    "blocks",
    metadata,
    Column("id", BigInteger, nullable=False),
    Column("day", Integer, nullable=False, comment="days since 1970 of the events in it; the partition key"),
    Column("keep_days", Integer, nullable=False, server_default="0", comment="days that it is kept, 0: as the setting says; the partition key too"),
    Column("events", Integer, nullable=False),
    Column("first_timestamp", BigInteger, nullable=False),
    Column("last_timestamp", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("summary", LargeBinary, nullable=False, comment="zstd of an elis.ingest.v1.BlockSummary"),
    Column("lines", LargeBinary, nullable=False, comment="zstd of the canonical lines, LF after each"),
    PrimaryKeyConstraint("id", "day", "keep_days"),
    Index("ix_blocks_created_at", "created_at"),
    postgresql_partition_by="RANGE (day, keep_days)",
)
"""The truth: every event, in blocks, in one partition per day and number of days that they are kept."""

held_sources = Table(
    "held_sources",
    metadata,
    Column("day", Integer, nullable=False),
    Column("keep_days", Integer, nullable=False),
    Column("source", Text, nullable=False),
    PrimaryKeyConstraint("day", "keep_days", "source"),
)
"""Whose events a partition of the blocks holds: what the search index may keep of a day. The empty name: anybody's."""

feed = Table(
    "feed",
    metadata,
    Column("xid", Xid8, nullable=False, server_default=func.pg_current_xact_id()),
    Column("id", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    PrimaryKeyConstraint("xid", "id"),
    Index("ix_feed_id", "id", unique=True),
)
"""The order in which blocks are delivered. Small and not partitioned, so that reading it stays cheap."""

request_digests = Table(
    "request_digests",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index("ix_request_digests_expires_at", "expires_at"),
)
"""Requests that were stored, so that a resent one is recognised."""


service_edges = Table(
    "service_edges",
    metadata,
    Column("minute", DateTime(timezone=True), nullable=False),
    Column("caller", Text, nullable=False),
    Column("callee", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="service, database, messaging or external"),
    Column("calls", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("duration_ns", BigInteger, nullable=False, comment="sum over the calls"),
    Column("buckets", ARRAY(BigInteger), nullable=False, comment="calls by duration, not cumulative"),
    PrimaryKeyConstraint("minute", "caller", "callee", "kind"),
)
"""Who calls whom, per minute, learned from traces."""


endpoints = Table(
    "endpoints",
    metadata,
    Column("protocol", Text, nullable=False),
    Column("token_id", Text, nullable=False, comment="empty: requests whose token was not accepted"),
    Column("token_name", Text, nullable=False),
    Column("source", Text, nullable=False, comment="that the token is bound to; empty: the sender names it"),
    Column("last_seen_at", DateTime(timezone=True), nullable=False),
    Column("last_error", Text, nullable=False),
    Column("last_error_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("protocol", "token_id"),
)
"""Who sends: one row per protocol and token."""

endpoint_clients = Table(
    "endpoint_clients",
    metadata,
    Column("protocol", Text, nullable=False),
    Column("token_id", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("last_seen_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("protocol", "token_id", "address", "user_agent"),
)

endpoint_counts = Table(
    "endpoint_counts",
    metadata,
    Column("protocol", Text, nullable=False),
    Column("token_id", Text, nullable=False),
    Column("slot", DateTime(timezone=True), nullable=False, comment="ten seconds that begin here"),
    *(Column(name, BigInteger, nullable=False) for name in ("requests", "refused", "limited", "resent", "events", "duplicates", "rejected", "bytes")),
    PrimaryKeyConstraint("protocol", "token_id", "slot"),
    Index("ix_endpoint_counts_slot", "slot"),
)
"""What came to endpoints, of all replicas."""


class SourceRow(Base):
    """Who sends."""

    __tablename__ = "sources"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    system: Mapped[str] = mapped_column(Text)
    environment: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(Text)
    detected_by: Mapped[str] = mapped_column(Text)
    confidence: Mapped[float] = mapped_column(Float)
    zone: Mapped[str] = mapped_column(Text, server_default="", comment="IANA name; empty: UTC")
    pinned: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}", comment="columns that only UpdateSource changes")
    detections: Mapped[int] = mapped_column(Integer, server_default="0", comment="how often detection was told to start again")
    retention_days: Mapped[int] = mapped_column(Integer, server_default="0", comment="days that its events are kept; 0: as the setting says")
    configured_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), comment="when UpdateSource changed it last")
    events: Mapped[int] = mapped_column(BigInteger, server_default="0")
    rejected: Mapped[int] = mapped_column(BigInteger, server_default="0")
    first_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class RejectionGroupRow(Base):
    """Rejected records of one day that are alike: same source, reason, kind of detail and sender."""

    __tablename__ = "rejection_groups"
    __table_args__ = (Index("ix_rejection_groups_day_source", "day", "source"),)

    id: Mapped[UUID] = mapped_column(PG_UUID(as_uuid=True), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    key: Mapped[bytes] = mapped_column(LargeBinary, unique=True, comment="digest of what is alike")
    day: Mapped[int] = mapped_column(Integer, comment="days since 1970 of the arrival")
    source: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text, comment="of the newest of them")
    token_id: Mapped[str] = mapped_column(Text)
    token_name: Mapped[str] = mapped_column(Text)
    protocol: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    user_agent: Mapped[str] = mapped_column(Text)
    count: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger, comment="of all of them, as they were sent")
    kept: Mapped[int] = mapped_column(BigInteger, comment="those whose bytes were kept")
    kept_bytes: Mapped[int] = mapped_column(BigInteger, comment="as they are stored")
    replayed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    first_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class RejectedEventRow(Base):
    """A record that could not become an event, with its raw bytes sealed."""

    __tablename__ = "rejected_events"

    id: Mapped[UUID] = mapped_column(PG_UUID(as_uuid=True), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    group_id: Mapped[UUID] = mapped_column(PG_UUID(as_uuid=True), index=True)
    detail: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(Integer, comment="bytes as they were sent")
    key_id: Mapped[str] = mapped_column(Text, comment="names the key that sealed them; empty: sealed before keys had names")
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    rejected_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now(), index=True)
    replayed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
