"""Tables of the correlate service: roll-ups and their dimensions, templates, findings, incidents."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, Integer, SmallInteger, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kit.db import create_metadata

metadata = create_metadata("correlate")
_NOW = text("now()")


class Table(DeclarativeBase):
    """Base of the tables."""

    metadata = metadata
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text}  # noqa: RUF012  SQLAlchemy reads this as it stands


class Source(Table):
    """A sender. Its system and environment are those of its newest block."""

    __tablename__ = "source"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    system: Mapped[str]
    environment: Mapped[str]


class SourceClock(Table):
    """How far a sender has come, in event time, and when it was last heard."""

    __tablename__ = "source_clock"

    source_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    newest_minute: Mapped[int]
    heard_at: Mapped[datetime]


class Service(Table):
    """A service by name; the empty name stands for none."""

    __tablename__ = "service"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Host(Table):
    """A host by name; the empty name stands for none."""

    __tablename__ = "host"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Fingerprint(Table):
    """A distinct masked text and the template that it belongs to. Fingerprints are the unsigned hash read as signed."""

    __tablename__ = "fingerprint"
    __table_args__ = (Index(None, "template"),)

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    fingerprint: Mapped[int] = mapped_column(BigInteger, unique=True)
    text: Mapped[str]
    template: Mapped[int] = mapped_column(BigInteger)


class FingerprintTotal(Table):
    """What was counted of a fingerprint; minutes since 1970."""

    __tablename__ = "fingerprint_total"
    __table_args__ = ({"postgresql_with": {"fillfactor": "70"}},)

    fingerprint_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    events: Mapped[int] = mapped_column(BigInteger)
    first_minute: Mapped[int]
    last_minute: Mapped[int]


class Template(Table):
    """A group of fingerprints; its id is the fingerprint of its founder, its number counts by first sight."""

    __tablename__ = "template"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    text: Mapped[str]


class Series(Table):
    """A combination of dimensions that has been seen."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("source_id", "service_id", "host_id", "severity_number", "fingerprint_id"),)

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    source_id: Mapped[int]
    service_id: Mapped[int]
    host_id: Mapped[int]
    severity_number: Mapped[int] = mapped_column(SmallInteger)
    fingerprint_id: Mapped[int]


class RollUp(Table):
    """Events of a series in a minute, and one of the first of them. Updated in place: the fill factor leaves room."""

    __tablename__ = "roll_up"
    __table_args__ = ({"postgresql_with": {"fillfactor": "80"}},)

    minute: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    series_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    events: Mapped[int]
    first_event_id: Mapped[int] = mapped_column(BigInteger)


class MinuteChange(Table):
    """The transaction that last changed the counts of a minute: who follows the counts reads only what is new."""

    __tablename__ = "minute_change"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    minute: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    changed_in: Mapped[int] = mapped_column(BigInteger)


class DoneBlock(Table):
    """A block that is counted; forgotten some time after the feed has passed it."""

    __tablename__ = "done_block"
    __table_args__ = (Index(None, "done_at"),)

    block_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    done_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class FeedPosition(Table):
    """The cursor up to which every block is counted (one row), and the moment for which that is everything."""

    __tablename__ = "feed_position"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    cursor: Mapped[str]
    as_of: Mapped[datetime]


class Lease(Table):
    """Who may write findings and incidents. Each holder gets a higher token; a write with an older one is refused."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger)
    holder: Mapped[str]
    taken_at: Mapped[datetime]


class Watermark(Table):
    """The newest minute that the detectors have judged (one row); NULL before the first."""

    __tablename__ = "watermark"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    judged_minute: Mapped[int | None]


class Edge(Table):
    """A dependency between services that was learned. `origin` says how: trace or mention; `weight` counts what showed it."""

    __tablename__ = "edge"

    caller_system: Mapped[str] = mapped_column(primary_key=True)
    caller_service: Mapped[str] = mapped_column(primary_key=True)
    callee_system: Mapped[str] = mapped_column(primary_key=True)
    callee_service: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str] = mapped_column(primary_key=True)
    weight: Mapped[float]
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Incident(Table):
    """Findings that belong together. An incident that was merged into another is kept for those who know its id."""

    __tablename__ = "incident"
    __table_args__ = (Index(None, "started_at", "id"), Index(None, "state"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    title: Mapped[str]
    state: Mapped[int] = mapped_column(SmallInteger)
    severity: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    """Event time of the last finding's end: what comes long after it does not belong to the incident."""
    opened_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]
    systems: Mapped[list[str]] = mapped_column(ARRAY(Text))
    services: Mapped[list[str]] = mapped_column(ARRAY(Text))
    finding_count: Mapped[int]
    merged_into: Mapped[UUID | None] = mapped_column(ForeignKey("correlate.incident.id"))


class Finding(Table):
    """Something unusual that a detector found."""

    __tablename__ = "finding"
    __table_args__ = (Index(None, "started_at", "id"), Index(None, "incident_id"), Index(None, "ended_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    detector: Mapped[str]
    system: Mapped[str]
    source: Mapped[str]
    service: Mapped[str]
    template_id: Mapped[str]
    summary: Mapped[str]
    score: Mapped[float]
    severity_number: Mapped[int] = mapped_column(SmallInteger)
    """Highest severity among the events that it is about."""
    started_at: Mapped[datetime]
    """Onset: the first event that is unusual, to the precision of that event's timestamp."""
    ended_at: Mapped[datetime]
    expected: Mapped[float]
    observed: Mapped[float]
    baseline: Mapped[str]
    evidence_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    memory: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """What the next holder of the lease must know to go on with it: window, surprise, keys of sampled events."""
    incident_id: Mapped[UUID | None] = mapped_column(ForeignKey("correlate.incident.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Link(Table):
    """Why two findings belong together."""

    __tablename__ = "link"
    __table_args__ = (Index(None, "to_finding_id"),)

    from_finding_id: Mapped[UUID] = mapped_column(ForeignKey("correlate.finding.id", ondelete="CASCADE"), primary_key=True)
    to_finding_id: Mapped[UUID] = mapped_column(ForeignKey("correlate.finding.id", ondelete="CASCADE"), primary_key=True)
    rule: Mapped[str] = mapped_column(primary_key=True)
    detail: Mapped[str]
    confidence: Mapped[float]
    evidence_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))


class Cause(Table):
    """A candidate root cause of an incident, best rank first; replaced whenever the incident changes."""

    __tablename__ = "cause"

    incident_id: Mapped[UUID] = mapped_column(ForeignKey("correlate.incident.id", ondelete="CASCADE"), primary_key=True)
    rank: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    system: Mapped[str]
    service: Mapped[str]
    summary: Mapped[str]
    score: Mapped[float]
    onset: Mapped[float]
    upstream: Mapped[float]
    strength: Mapped[float]
    started_at: Mapped[datetime]
    evidence_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    finding_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))


class TimelineEntry(Table):
    """One line of an incident's history."""

    __tablename__ = "timeline_entry"
    __table_args__ = (Index(None, "incident_id", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    incident_id: Mapped[UUID] = mapped_column(ForeignKey("correlate.incident.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    kind: Mapped[str]
    text: Mapped[str]
    system: Mapped[str]
    service: Mapped[str]
    actor: Mapped[str]
    event_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))


class EvidenceEvent(Table):
    """A copied event that proves a claim: it outlives the retention of events."""

    __tablename__ = "evidence_event"

    event_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    timestamp_ns: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[str]
    system: Mapped[str]
    service: Mapped[str]
    host: Mapped[str]
    severity_number: Mapped[int] = mapped_column(SmallInteger)
    severity_text: Mapped[str]
    body: Mapped[str]
    line: Mapped[bytes]
    """The canonical line as ingest keeps it."""
