"""Retention: deletes roll-ups and findings that are too old, in batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.correlate.settings import CorrelateSettings

BATCH_MINUTES = 60
"""Minutes of roll-ups that are deleted at a time."""
BATCH_ROWS = 5_000


class Retention:
    """Deletes what is older than the settings say. Findings of incidents and their evidence stay with the incidents."""

    def __init__(self, settings: CorrelateSettings) -> None:
        self._rollups: timedelta = settings.rollup_retention
        self._findings: timedelta = settings.finding_retention

    async def apply(self, session: AsyncSession) -> None:
        """Deletes one batch of each kind; commit is the caller's."""
        now = datetime.now(UTC)
        oldest = await session.scalar(text("SELECT min(minute) FROM correlate.roll_up"))
        limit = int((now - self._rollups).timestamp()) // 60
        if oldest is not None and oldest < limit:
            for table in ("roll_up", "minute_change"):
                await session.execute(text(f"DELETE FROM correlate.{table} WHERE minute < :limit"), {"limit": min(limit, oldest + BATCH_MINUTES)})  # noqa: S608
        await session.execute(
            text(
                """DELETE FROM correlate.finding WHERE id IN
                   (SELECT id FROM correlate.finding WHERE incident_id IS NULL AND ended_at < :limit AND created_at < :limit ORDER BY ended_at LIMIT :batch)"""
            ),
            {"limit": now - self._findings, "batch": BATCH_ROWS},
        )
        await session.execute(
            text(
                """DELETE FROM correlate.evidence_event WHERE event_id IN
                   (SELECT event_id FROM correlate.evidence_event AS evidence
                    WHERE timestamp_ns < :limit AND NOT EXISTS (SELECT FROM correlate.finding WHERE evidence.event_id = ANY(evidence_ids))
                    LIMIT :batch)"""
            ),
            {"limit": int((now - self._findings).timestamp()) * 1_000_000_000, "batch": 100},
        )
