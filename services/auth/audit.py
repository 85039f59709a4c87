"""The audit log: append-only, hash-chained, written in the transaction of the change it tells of.

Each entry's hash covers its content and the hash before it, so one changed byte, one entry left out or put
between others breaks the chain from there on. Only entries cut off at the end leave no gap: keep the last hash,
which `elis admin verify-audit` prints, somewhere else and compare.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import event, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from kit.auth import current_principal
from kit.interceptors import request_id
from services.auth.models import AuditEntry

log = structlog.get_logger()

_ADVISORY_LOCK = 0x61756474  # "audt": writers of the chain wait for each other until they commit
_FIRST = bytes(32)

# Names of the OWASP Logging Vocabulary where it has one.
LOGIN_SUCCEEDED = "authn_login_success"
LOGIN_FAILED = "authn_login_fail"
TOKEN_REUSED = "authn_token_reuse"  # noqa: S105
KEY_CREATED = "authn_token_created"
KEY_REVOKED = "authn_token_revoked"
KEY_UPDATED = "authn_token_updated"
SESSION_ENDED = "session_ended"
USER_CREATED = "user_created"
USER_UPDATED = "user_updated"
ROLE_CHANGED = "privilege_permissions_changed"
PASSWORD_RESET = "authn_password_change"  # noqa: S105
SIGNING_KEY_ROTATED = "crypt_key_rotated"


@dataclass(frozen=True, slots=True)
class ChainReport:
    """Result of reading the whole chain."""

    entries: int
    broken_at: int | None
    """Sequence number of the first entry that does not fit; None when all do."""
    last_hash: str
    """Hex of the last hash that fits."""


async def record(session: AsyncSession, action: str, target: str, detail: dict[str, Any], *, actor: str | None = None) -> None:
    """Appends an entry. The caller of the running RPC is the actor unless one is given.

    Call it last in a transaction: from here to the commit nobody else can append.
    """
    if actor is None:
        caller = current_principal.get()
        actor = caller.subject if caller is not None else ""
    await session.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    last = (await session.execute(select(AuditEntry.sequence, AuditEntry.hash).order_by(AuditEntry.sequence.desc()).limit(1))).first()
    entry = AuditEntry(
        sequence=last.sequence + 1 if last is not None else 1,
        at=datetime.now(UTC),
        actor=actor,
        action=action,
        target=target,
        detail=_canonical(detail),
        request_id=request_id.get(),
        previous_hash=last.hash if last is not None else _FIRST,
    )
    entry.hash = compute_hash(entry)
    session.add(entry)
    await session.flush()
    # A copy in the process log, once it is true: whoever can write to the database cannot reach it there.
    told = {"action": action, "actor": actor, "subject": target, "sequence": entry.sequence, "hash": entry.hash.hex()}
    event.listen(session.sync_session, "after_commit", lambda _: log.info("audit entry", **told), once=True)


def compute_hash(entry: AuditEntry) -> bytes:
    """Returns the hash that belongs to an entry's content."""
    content = {
        "sequence": entry.sequence,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "detail": entry.detail,
        "request_id": entry.request_id,
    }
    return hashlib.sha256(entry.previous_hash + _canonical(content).encode()).digest()


async def verify_chain(session: AsyncSession) -> ChainReport:
    """Reads every entry in order and checks its number, its link and its hash."""
    previous = _FIRST
    count = 0
    rows = await session.stream_scalars(select(AuditEntry).order_by(AuditEntry.sequence).execution_options(yield_per=1_000))
    async for entry in rows:
        if entry.sequence != count + 1 or entry.previous_hash != previous or entry.hash != compute_hash(entry):
            return ChainReport(count, entry.sequence, previous.hex())
        count += 1
        previous = entry.hash
        session.expunge(entry)
    return ChainReport(count, None, previous.hex())


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
