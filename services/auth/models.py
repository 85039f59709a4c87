"""Tables of the auth service."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, LargeBinary, MetaData, Text, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kit.db import create_metadata

SCHEMA = "auth"
metadata: MetaData = create_metadata(SCHEMA)


class Base(DeclarativeBase):
    """Base of the service's mapped tables."""

    metadata = metadata
    type_annotation_map = {str: Text, bytes: LargeBinary, int: BigInteger, datetime: DateTime(timezone=True)}  # noqa: RUF012 - SQLAlchemy reads it as is


class User(Base):
    """A person who signs in."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("role IN ('viewer', 'analyst', 'operator', 'admin')", name="role"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    username: Mapped[str]
    """As it was typed at creation."""
    username_key: Mapped[str] = mapped_column(unique=True)
    """In lower case: what makes it unique and what users are sorted by."""
    display_name: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str]
    disabled: Mapped[bool]
    created_at: Mapped[datetime]
    last_login_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key of an API client or the token of a log agent; only the hash of the secret is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint("kind IN ('api', 'ingest')", name="kind"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    prefix: Mapped[str]
    secret_hash: Mapped[bytes] = mapped_column(unique=True)
    """SHA-256 of the secret."""
    role: Mapped[str]
    """Empty for ingest tokens."""
    source: Mapped[str]
    """The source an ingest token is bound to; empty when the sender names it."""
    ack: Mapped[bool] = mapped_column(server_default=false())
    """Whether Splunk clients of an ingest token use indexer acknowledgement."""
    events_per_second: Mapped[int | None]
    """What an ingest token may send; None: as much as the installation allows."""
    bytes_per_second: Mapped[int | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    @property
    def revoked(self) -> bool:
        """Whether the key was ended by hand."""
        return self.revoked_at is not None

    def is_usable(self, now: datetime) -> bool:
        """Says whether the key still opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class SigningKey(Base):
    """A key pair that signs access tokens; the private half is sealed with a key that is not in the database."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    """The `kid` of its tokens."""
    public_jwk: Mapped[str]
    sealed_private_jwk: Mapped[bytes]
    created_at: Mapped[datetime]
    signs_from: Mapped[datetime]
    """Published before it signs, so that every verifier knows it by then."""
    retired_at: Mapped[datetime | None]
    """When its successor starts to sign; it verifies until the last token signed with it has expired."""


class RefreshFamily(Base):
    """A sign-in: all refresh tokens that follow one login."""

    __tablename__ = "refresh_families"
    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    generation: Mapped[int]
    """Of its newest token."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    """Absolute: rotation does not extend it."""
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str]


class RefreshToken(Base):
    """One refresh token of a family, used or not; only its hash is kept."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index(None, "family_id"),)

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    family_id: Mapped[UUID] = mapped_column(ForeignKey(RefreshFamily.id, ondelete="CASCADE"))
    generation: Mapped[int]
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    successor_salt: Mapped[bytes | None]
    """Random; with the token itself and a key outside the database it gives the successor again."""


class Revocation(Base):
    """Access tokens of a subject issued before `revoked_at` are refused, although they have not expired."""

    __tablename__ = "revocations"
    __table_args__ = (Index(None, "revoked_at"),)

    subject: Mapped[str] = mapped_column(primary_key=True)
    """user:<id>, key:<id> or session:<refresh family id>."""
    revoked_at: Mapped[datetime]


class AuditEntry(Base):
    """One link of the audit chain. A trigger refuses to change or delete it."""

    __tablename__ = "audit_entries"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    """Subject of who did it; empty when nobody was signed in."""
    action: Mapped[str]
    target: Mapped[str]
    detail: Mapped[str]
    """Canonical JSON."""
    request_id: Mapped[str]
    previous_hash: Mapped[bytes]
    hash: Mapped[bytes]
    """SHA-256 over the previous hash and all of the above."""
