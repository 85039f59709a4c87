"""Occurrences: what the watch over quality has told, so that it tells each thing once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.ingest.quality.drift import Finding
from services.ingest.quality.store import SILENT

if TYPE_CHECKING:
    from kit.db import SqlConnection

RETURNED = "returned"
QUIET = timedelta(hours=6)
"""How long the same thing is not told again,"""
SILENCE_QUIET = timedelta(hours=1)
"""and a silence not."""
MAX_FIELDS_TOLD = 10
"""Fields of a source that are told of within QUIET."""


@dataclass(frozen=True, slots=True)
class News:
    """Something to tell."""

    source: str
    finding: Finding
    since: datetime

    @property
    def key(self) -> str:
        """The same wherever and however often it is found."""
        return "\n".join((self.finding.kind, self.source, self.finding.field, self.since.isoformat()))


@dataclass(frozen=True, slots=True)
class Told:
    """Something that was told."""

    source: str
    kind: str
    field: str
    told_at: datetime
    open: bool


async def load_told(connection: SqlConnection, sources: Collection[str], now: datetime) -> list[Told]:
    """Returns what lasts, and what was told lately, of the sources."""
    rows = await connection.fetch(
        "SELECT source, kind, field, told_at, ended_at FROM ingest.quality_occurrences WHERE source = ANY($1) AND (ended_at IS NULL OR told_at > $2)",
        list(sources),
        now - QUIET,
    )
    return [Told(row["source"], row["kind"], row["field"], row["told_at"], row["ended_at"] is None) for row in rows]


async def write_told(connection: SqlConnection, news: Sequence[News], now: datetime) -> None:
    """Notes what was told: a return ends its silence, everything else begins."""
    ended = [(item.source, SILENT, "", now) for item in news if item.finding.kind == RETURNED]
    begun = [(item.source, item.finding.kind, item.finding.field, item.since, now) for item in news if item.finding.kind != RETURNED]
    async with connection.transaction():
        await end_told(connection, ended)
        await connection.executemany(
            "INSERT INTO ingest.quality_occurrences (source, kind, field, since, told_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", begun
        )


async def end_told(connection: SqlConnection, ended: Sequence[tuple[str, str, str, datetime]]) -> None:
    """Notes that things are over: (source, kind, field, when)."""
    await connection.executemany(
        "UPDATE ingest.quality_occurrences SET ended_at = $4 WHERE source = $1 AND kind = $2 AND field = $3 AND ended_at IS NULL", ended
    )


def choose_news(candidates: Sequence[News], told: Sequence[Told], now: datetime) -> list[News]:
    """Returns what to tell: neither what lasts, nor what was told just now, nor too many fields of one source."""
    open_keys = {(item.source, item.kind, item.field) for item in told if item.open}
    recent = {(item.source, item.kind, item.field) for item in told if now - item.told_at < (SILENCE_QUIET if item.kind == SILENT else QUIET)}
    fields: dict[str, int] = {}
    for item in told:
        if item.field and now - item.told_at < QUIET:
            fields[item.source] = fields.get(item.source, 0) + 1
    chosen = []
    for news in candidates:
        key = (news.source, news.finding.kind, news.finding.field)
        if key in open_keys or key in recent:
            continue
        if news.finding.field:
            fields[news.source] = fields.get(news.source, 0) + 1
            if fields[news.source] > MAX_FIELDS_TOLD:
                continue
        chosen.append(news)
    return chosen
