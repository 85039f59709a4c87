"""Records that could not become events: why, from whom, and their raw bytes, sealed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kit.rows import uuid7

if TYPE_CHECKING:
    from kit.db import SqlConnection

MAX_RAW_BYTES = 1024 * 1024
MAX_DETAIL = 500
_NONCE_BYTES = 12


class RejectReason(StrEnum):
    """The closed list of reasons (docs/rejections.md)."""

    RECORD_TOO_LARGE = "record_too_large"
    """The record is larger than `max_record_bytes`."""
    INVALID_DOCUMENT = "invalid_document"
    """A document of `_bulk`, Loki, Fluent or another structured protocol that is not what the protocol says."""
    FRAME_BROKEN = "frame_broken"
    """Bytes of a framed protocol (syslog, Fluent) of which no record can be cut."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One rejected record. `raw` is cut at MAX_RAW_BYTES when it is stored."""

    source: str
    reason: RejectReason
    detail: str
    raw: bytes


class Sealer:
    """Encrypts with AES-256-GCM; the associated data binds the bytes to the row that they belong to."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, raw: bytes, owner: UUID) -> bytes:
        """Returns nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, raw, owner.bytes)

    def open(self, sealed: bytes, owner: UUID) -> bytes:
        """Returns the raw bytes; raises cryptography's InvalidTag when key, row or bytes do not fit."""
        return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.bytes)


async def insert_rejections(connection: SqlConnection, rejections: Sequence[Rejection], sender: str, sealer: Sealer) -> None:
    """Stores rejected records in the caller's transaction."""
    ids = [uuid7() for _ in rejections]
    await connection.execute(
        """
        INSERT INTO ingest.rejected_events (id, source, reason, detail, sender, raw)
        SELECT id, source, reason, detail, $5, raw
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $6::bytea[]) AS rejected (id, source, reason, detail, raw)
        """,
        ids,
        [storable(rejection.source) for rejection in rejections],
        [rejection.reason.value for rejection in rejections],
        [storable(rejection.detail[:MAX_DETAIL]) for rejection in rejections],
        storable(sender),
        [sealer.seal(rejection.raw[:MAX_RAW_BYTES], owner) for owner, rejection in zip(ids, rejections, strict=True)],
    )


def storable(text: str) -> str:
    """Returns text that PostgreSQL can hold: it has no NUL."""
    return text.replace("\x00", "\ufffd")
