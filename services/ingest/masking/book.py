"""The book of masking rules: what is stored becomes what masks, in every process, within seconds and as a whole."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Final

import asyncpg
import structlog

from kit.auth import principal
from kit.errors import InvalidArgument, NotFound
from services.ingest.masking import audit
from services.ingest.masking.masker import Masker
from services.ingest.masking.ruleset import RuleSet
from services.ingest.masking.stored import BUILT_INS, Stored, StoredRule, combine, read_stored
from services.ingest.masking.trial import check_rule
from services.ingest.rejections import storable

log = structlog.get_logger()

MAX_RULES: Final = 200
"""Stored rules; the built-in ones come on top."""
MAX_EXCEPTIONS: Final = 2_000
MIN_REASON: Final = 10
MAX_REASON: Final = 500
MAX_SOURCE: Final = 200


class RuleBook:
    """Reads and changes rules and exceptions. The masker gets a new set only when all of it is valid."""

    def __init__(self, pool: asyncpg.Pool[Any], masker: Masker) -> None:
        self._pool = pool
        self._masker = masker
        self._stored = Stored()

    @property
    def stored(self) -> Stored:
        """What was read last."""
        return self._stored

    async def load(self) -> None:
        """Reads the rules and masks with them from the next batch on.

        Raises InvalidArgument when one of them cannot be used: what masked before goes on, and a process that starts does not.
        """
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            stored = await read_stored(connection)
        if stored != self._stored:
            self._masker.use(stored.to_rule_set())
            self._stored = stored

    async def reload(self) -> None:
        """The same for a process that runs: a rule that this version cannot use is told in the log and changes nothing."""
        try:
            await self.load()
        except InvalidArgument as error:
            log.error("masking rules not loaded; the former ones go on", reason=error.message)

    async def put_rule(self, rule: StoredRule) -> None:
        """Stores a rule, new or in place of that of its name; raises InvalidArgument when it cannot be used."""
        if rule.enabled or rule.name not in BUILT_INS or rule.pattern or rule.keys:
            made = rule.to_rule()
            if made.linear:
                await asyncio.to_thread(check_rule, made)
        elif rule.sealed:
            raise InvalidArgument(f"masking rule {rule.name} is not enabled, so it seals nothing; enable it or take sealed off")
        caller = principal().subject
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", audit.CHAIN_LOCK)
            others = [other for other in (await read_stored(connection)).rules if other.name != rule.name]
            if len(others) >= MAX_RULES:
                raise InvalidArgument(f"there are {MAX_RULES} masking rules already; delete one first")
            RuleSet(combine([*others, rule]))
            await connection.execute(
                """
                INSERT INTO ingest.masking_rules AS r (name, pattern, validator, hints, shapes, keys, enabled, sealed, created_by, updated_by)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
                ON CONFLICT (name) DO UPDATE SET
                    pattern = excluded.pattern, validator = excluded.validator, hints = excluded.hints, shapes = excluded.shapes,
                    keys = excluded.keys, enabled = excluded.enabled, sealed = excluded.sealed, updated_by = excluded.updated_by, updated_at = now()
                """,
                *(rule.name, rule.pattern, rule.validator, rule.hints, rule.shapes, rule.keys, rule.enabled, rule.sealed),
                caller,
            )
            detail = {name: value for name, value in asdict(rule).items() if name not in ("name", "created_by", "updated_by", "created_at", "updated_at")}
            await audit.append(connection, audit.RULE_PUT, rule.name, detail)
        await self.reload()

    async def delete_rule(self, name: str) -> None:
        """Deletes a rule of the team, or what it changed in a built-in one; raises NotFound when nothing is stored under the name."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", audit.CHAIN_LOCK)
            if await connection.fetchval("DELETE FROM ingest.masking_rules WHERE name = $1 RETURNING name", name) is None:
                why = "it is built in and unchanged; disable it instead" if name in BUILT_INS else "there is none of that name"
                raise NotFound(f"masking rule {name[:40]!r} cannot be deleted: {why}", name=name[:40])
            if name not in BUILT_INS:
                await connection.execute("DELETE FROM ingest.masking_exceptions WHERE rule = $1", name)
            await audit.append(connection, audit.RULE_DELETED, name, {})
        await self.reload()

    async def put_exception(self, source: str, rule: str, reason: str) -> None:
        """Stores that a rule does not apply to a source; raises InvalidArgument, or NotFound for an unknown rule."""
        if not 1 <= len(source) <= MAX_SOURCE or "\x00" in source:
            raise InvalidArgument(f"a source has a name of 1 to {MAX_SOURCE} characters")
        told = self._masker.mask_text(check_reason(reason))
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", audit.CHAIN_LOCK)
            if rule not in BUILT_INS and not await connection.fetchval("SELECT true FROM ingest.masking_rules WHERE name = $1", rule):
                raise NotFound(f"there is no masking rule {rule[:40]!r}", name=rule[:40])
            if await connection.fetchval("SELECT count(*) FROM ingest.masking_exceptions WHERE (source, rule) <> ($1, $2)", source, rule) >= MAX_EXCEPTIONS:
                raise InvalidArgument(f"there are {MAX_EXCEPTIONS} exceptions from masking rules already; delete one first")
            await connection.execute(
                """
                INSERT INTO ingest.masking_exceptions (source, rule, reason, created_by) VALUES ($1, $2, $3, $4)
                ON CONFLICT (source, rule) DO UPDATE SET reason = excluded.reason, created_by = excluded.created_by, created_at = now()
                """,
                *(source, rule, told, principal().subject),
            )
            await audit.append(connection, audit.EXCEPTION_PUT, rule, {"source": source, "reason": told})
        await self.reload()

    async def delete_exception(self, source: str, rule: str) -> None:
        """Deletes an exception; raises NotFound when there is none."""
        async with self._pool.acquire() as connection, connection.transaction():
            deleted = await connection.fetchval("DELETE FROM ingest.masking_exceptions WHERE source = $1 AND rule = $2 RETURNING true", source, rule)
            if not deleted:
                raise NotFound(f"the source {source[:40]!r} is not exempt from masking rule {rule[:40]!r}")
            await audit.append(connection, audit.EXCEPTION_DELETED, rule, {"source": source})
        await self.reload()


def check_reason(reason: str) -> str:
    """Returns a reason without blanks around it; raises InvalidArgument when it is too short or too long to say something."""
    stripped = storable(reason.strip())
    if not MIN_REASON <= len(stripped) <= MAX_REASON:
        raise InvalidArgument(f"a reason has {MIN_REASON} to {MAX_REASON} characters, not {len(stripped)}")
    return stripped
