"""Recent counts: reads the roll-ups into the analyst's memory, with the names and templates that they refer to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime

import asyncpg
import structlog
from sqlalchemy import delete, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.correlate import models
from services.correlate.analysis import Analyst
from services.correlate.dimensions import MAX_TEXT, clean
from services.correlate.history import Counted
from services.correlate.miner import Miner
from services.correlate.scene import Track
from services.correlate.topology import Node
from services.correlate.watermark import SourceClock

log = structlog.get_logger()

LATE_IDS = 500
"""Ids of fingerprints that are looked at again."""
MAX_SERIES = 500_000
"""Series that are remembered; forgotten all at once when there are more."""
MAX_MINED = 50_000
"""Fingerprints that the miner compares, the oldest first; later ones stay templates of their own."""


class RecentCounts:
    """Keeps an analyst's history, names and templates in step with the database."""

    def __init__(self, pool: asyncpg.Pool, analyst: Analyst, miner: Miner) -> None:
        self._pool = pool
        self._analyst = analyst
        self._miner = miner
        self._series: dict[int, Track] = {}
        """Series to its track, with the fingerprint in place of the template."""
        self._tracks: dict[int, Track] = {}
        """Series to its track."""
        self._places: set[tuple[Node, str, str]] = set()
        """Nodes with their sources and hosts."""
        self._texts: dict[int, str] = {}
        """Texts of templates whose phrases the analyst does not know yet."""
        self._newest_fingerprint = 0
        self._looked_at = (0, 0)
        """The id behind which fingerprints were looked for last, and how many there were."""
        self._loaded_until = 0
        """Newest minute that was read."""
        self._seen_before = 0
        """Every transaction with a lower number had ended when minutes were last read."""

    async def clocks(self) -> tuple[list[SourceClock], datetime]:
        """Returns the clocks of the sources, and the database's own."""
        rows = await self._pool.fetch("SELECT newest_minute, heard_at, clock_timestamp() AS now FROM correlate.source_clock")
        return [SourceClock(row["newest_minute"], row["heard_at"]) for row in rows], max((row["now"] for row in rows), default=datetime.now(UTC))

    async def oldest_minute(self) -> int:
        """Returns the first minute for which anything was counted; 0 when nothing was."""
        oldest: int | None = await self._pool.fetchval("SELECT min(minute) FROM correlate.roll_up")
        return oldest or 0

    async def load(self, after: int, until: int) -> list[int]:
        """Reads the minutes after one up to another that are new or were changed since the last time; returns those whose counts differ now.

        What a snapshot does not show yet was changed by a transaction whose number is not below that snapshot's oldest
        one under way, so it is found the next time.
        """
        oldest: int = await self._pool.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        touched = await self._pool.fetch(
            "SELECT minute FROM correlate.minute_change WHERE minute > $1 AND minute <= $2 AND changed_in >= $3", after, until, self._seen_before
        )
        minutes = sorted({*range(max(after, self._loaded_until) + 1, until + 1), *(row["minute"] for row in touched)})
        rows = (
            await self._pool.fetch("SELECT minute, series_id, events, first_event_id FROM correlate.roll_up WHERE minute = ANY($1::int[])", minutes)
            if minutes
            else []
        )
        await self._learn_series({row["series_id"] for row in rows})
        tracks = self._tracks
        by_minute: dict[int, list[Counted]] = defaultdict(list)
        for minute, series, events, first_event in rows:
            by_minute[minute].append(Counted(tracks[series], events, first_event))
        changed = [minute for minute in minutes if self._analyst.history.put(minute, by_minute[minute])]
        self._loaded_until, self._seen_before = max(self._loaded_until, until), oldest
        return changed

    async def restore_templates(self) -> None:
        """Takes up the templates that were formed before."""
        rows = await self._pool.fetch(
            """SELECT template.id, template.text, array_agg(fingerprint.fingerprint ORDER BY fingerprint.id) AS members, max(fingerprint.id) AS newest
               FROM correlate.template JOIN correlate.fingerprint ON template = template.id
               GROUP BY template.id ORDER BY template.number LIMIT $1""",
            MAX_MINED,
        )
        for row in rows:
            self._miner.restore(row["id"], row["text"], row["members"])
            self._texts[row["id"]] = row["text"]
            self._newest_fingerprint = max(self._newest_fingerprint, row["newest"])
        self._analyst.merge_templates({}, self._miner.mapping)
        await self._learn_first_seen()

    async def learn_templates(self) -> tuple[dict[int, int], dict[int, str]]:
        """Reads new fingerprints and mines them; returns the templates that were merged away with what took them in, and new texts."""
        # Ids are given before the commit: one of another replica may show up behind newer ones.
        after = self._newest_fingerprint - LATE_IDS
        known = await self._pool.fetchval("SELECT count(*) FROM correlate.fingerprint WHERE id > $1", after)
        if (after, known) == self._looked_at:
            return {}, {}
        rows = await self._pool.fetch("SELECT id, fingerprint FROM correlate.fingerprint WHERE id > $1 ORDER BY id LIMIT $2", after, MAX_MINED)
        self._looked_at = (after, len(rows))
        unknown = [row["id"] for row in rows if row["fingerprint"] not in self._miner]
        if not unknown or len(self._miner) + len(unknown) > MAX_MINED:
            return {}, {}
        fresh = await self._pool.fetch("SELECT id, fingerprint, text FROM correlate.fingerprint WHERE id = ANY($1::int[]) ORDER BY id", unknown)
        for row in fresh:
            self._miner.add(row["fingerprint"], row["text"])
            self._texts[row["fingerprint"]] = row["text"]
            self._newest_fingerprint = max(self._newest_fingerprint, row["id"])
        moved = await asyncio.to_thread(self._miner.revise)
        self._analyst.merge_templates(moved, self._miner.mapping)
        if moved:
            self._tracks = {series: self._mapped(track) for series, track in self._series.items()}
        await self._learn_first_seen()
        return moved, {template: clean(self._miner.text_of(template), MAX_TEXT) for template in moved.values()}

    async def _learn_series(self, wanted: set[int]) -> None:
        if len(self._series) > MAX_SERIES:
            self._series.clear()
            self._tracks.clear()
        unknown = sorted(wanted.difference(self._series))
        if not unknown:
            return
        rows = await self._pool.fetch(
            """SELECT series.id, source.system, source.name AS source, service.name AS service, fingerprint.fingerprint, severity_number, host.name AS host
               FROM correlate.series JOIN correlate.source ON source.id = source_id JOIN correlate.service ON service.id = service_id
               JOIN correlate.host ON host.id = host_id JOIN correlate.fingerprint ON fingerprint.id = fingerprint_id
               WHERE series.id = ANY($1::int[])""",
            unknown,
        )
        places = set()
        for row in rows:
            track = Track(row["system"], row["source"], row["service"], row["fingerprint"], row["severity_number"])
            self._series[row["id"]] = track
            self._tracks[row["id"]] = self._mapped(track)
            places.add(((track.system, track.service or track.source), track.source, row["host"]))
        self._analyst.names.extend(places - self._places)
        self._places |= places

    def _mapped(self, track: Track) -> Track:
        template = self._analyst.templates.get(track.template)
        return track if template is None else track._replace(template=template)

    async def _learn_first_seen(self) -> None:
        rows = await self._pool.fetch(
            """SELECT fingerprint AS template, first_minute AS minute
               FROM correlate.fingerprint JOIN correlate.fingerprint_total ON fingerprint_id = id
               WHERE fingerprint = ANY($1::bigint[])""",
            list(self._texts),
        )
        first_seen = {row["template"]: row["minute"] for row in rows}
        self._analyst.history.learn_first_seen(first_seen)
        for template in [known for known in self._texts if known in first_seen]:
            self._analyst.learn_template(self._texts.pop(template), first_seen[template])


async def save_templates(session: AsyncSession, moved: Mapping[int, int], texts: Mapping[int, str]) -> None:
    """Stores a revision: the fingerprints of merged templates move, and the templates that they leave vanish."""
    if moved:
        await session.execute(
            text(
                """UPDATE correlate.fingerprint SET template = moved.target
                   FROM unnest(cast(:sources AS bigint[]), cast(:targets AS bigint[])) AS moved (source, target) WHERE template = moved.source"""
            ),
            {"sources": list(moved), "targets": list(moved.values())},
        )
        await session.execute(delete(models.Template).where(models.Template.id.in_(moved)))
    for template, words in texts.items():
        await session.execute(update(models.Template).where(models.Template.id == template).values(text=words))
