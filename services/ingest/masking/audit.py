"""The audit of masking: append-only, hash-chained, written in the transaction of what it tells of.

Each entry's hash covers its content and the hash before it, so a changed, missing or added entry breaks the chain from
there on. A trigger refuses to change or delete entries. When an entry cannot be written, nothing happens that it tells of.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from kit.auth import principal
from kit.interceptors import request_id

if TYPE_CHECKING:
    from kit.db import SqlConnection

log = structlog.get_logger()

CHAIN_LOCK: Final = 0x6D61736B  # "mask"
"""Advisory lock of those who append: they wait for each other until they commit."""
_FIRST: Final = bytes(32)

RULE_PUT: Final = "masking_rule_put"
RULE_DELETED: Final = "masking_rule_deleted"
EXCEPTION_PUT: Final = "masking_exception_put"
EXCEPTION_DELETED: Final = "masking_exception_deleted"
VALUE_REVEALED: Final = "sensitive_read"
"""The name that the OWASP Logging Vocabulary has for it."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One link of the chain."""

    sequence: int
    at: datetime
    actor: str
    """Subject of who did it."""
    action: str
    target: str
    detail: str
    """Canonical JSON; never a value that was masked."""
    request_id: str
    previous_hash: bytes
    hash: bytes

    def fits(self) -> bool:
        """Says whether the hash is that of the content."""
        return self.hash == _hash(self.previous_hash, self.sequence, self.at, self.actor, self.action, self.target, self.detail, self.request_id)


async def append(connection: SqlConnection, action: str, target: str, detail: dict[str, Any]) -> None:
    """Appends an entry about the caller of the running RPC, in the caller's transaction. Call it last."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", CHAIN_LOCK)
    last = await connection.fetchrow("SELECT sequence, hash FROM ingest.masking_audit ORDER BY sequence DESC LIMIT 1")
    sequence, previous = (last["sequence"] + 1, last["hash"]) if last is not None else (1, _FIRST)
    content = (sequence, datetime.now(UTC), principal().subject, action, target, _canonical(detail), request_id.get())
    await connection.execute(
        """
        INSERT INTO ingest.masking_audit (sequence, at, actor, action, target, detail, request_id, previous_hash, hash)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        *content,
        previous,
        _hash(previous, *content),
    )
    # A copy in the process log: whoever can write to the database cannot reach it there. An entry whose commit fails is in it too.
    log.info("audit entry", action=action, actor=content[2], subject=target, sequence=sequence, hash=_hash(previous, *content).hex())


async def list_entries(pool: asyncpg.Pool[Any], *, before: int, limit: int) -> list[tuple[AuditEntry, bool]]:
    """Returns entries, newest first, each with whether it fits its hash and the entry before it. `before` is a sequence; 0: the newest."""
    rows = await pool.fetch(
        """
        SELECT sequence, at, actor, action, target, detail, request_id, previous_hash, hash
        FROM ingest.masking_audit WHERE $1 = 0 OR sequence < $1 ORDER BY sequence DESC LIMIT $2
        """,
        before,
        limit + 1,
    )
    entries = [AuditEntry(**row) for row in rows]
    result: list[tuple[AuditEntry, bool]] = []
    for number, entry in enumerate(entries[:limit]):
        older = entries[number + 1] if number + 1 < len(entries) else None
        sequence, previous = (older.sequence, older.hash) if older is not None else (0, _FIRST)
        result.append((entry, entry.fits() and entry.sequence == sequence + 1 and entry.previous_hash == previous))
    return result


def _hash(previous: bytes, sequence: int, at: datetime, actor: str, action: str, target: str, detail: str, request: str) -> bytes:
    content = {
        "sequence": sequence,
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": actor,
        "action": action,
        "target": target,
        "detail": detail,
        "request_id": request,
    }
    return hashlib.sha256(previous + _canonical(content).encode()).digest()


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
