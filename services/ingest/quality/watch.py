"""The watch over quality: once a minute it looks for silence and drift and tells of them as ordinary events.

One replica at a time does it, under an advisory lock. An event carries a key of what it tells, so that a replica which dies
between telling and noting it down, or two that overlap, store it once.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from kit.errors import ElisError
from services.ingest.batch import Batch
from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.quality.book import KEPT_DAYS
from services.ingest.quality.drift import BEFORE_HOURS, LEAST_EVENTS, LEAST_SAMPLED, Finding, Window, find_drifts
from services.ingest.quality.measure import COUNTS
from services.ingest.quality.occurrences import RETURNED, News, choose_news, end_told, load_told, write_told
from services.ingest.quality.silence import LEAST_WAIT, allowed_wait
from services.ingest.quality.store import OWN_SOURCE, SILENT
from services.ingest.tokens import Agent

if TYPE_CHECKING:
    from kit.db import SqlConnection

log = structlog.get_logger()

WATCH_LOCK: Final = 0x656C6973_0003
"""Advisory lock of the replica that watches."""
SERVICE: Final = "data-quality"
ARRIVAL: Final = Arrival("elis", Agent("elis:data-quality", "data quality", OWN_SOURCE))
SETTLE: Final = timedelta(minutes=10)
"""How long after a start, or after PostgreSQL was away, senders have to come back before they count as silent."""
MISSED_TURN: Final = timedelta(minutes=5)
MAX_TOLD: Final = 100
"""Events of one turn; the rest follows at the next."""
MAX_QUIET_SOURCES: Final = 50_000
MAX_LEARNED: Final = 20
"""Sources whose usual gaps are looked up together."""
LEARNED_FOR: Final = timedelta(hours=6)
LEARNED_LATELY: Final = timedelta(minutes=10)
MAX_COMPARED: Final = 100
"""Sources whose hour is compared with the hours before in one turn; all others follow in turn."""
COMPARED_TOGETHER: Final = 10
MAX_FIELD_ROWS: Final = 20_000
"""Fields and types of so many sources; when there are more, nothing is said of the fields of these."""

_QUIET: Final = "SELECT name, last_seen_at FROM ingest.sources WHERE name <> $1 AND last_seen_at BETWEEN $2 AND $3 ORDER BY last_seen_at DESC LIMIT $4"
_HEARD: Final = "SELECT source, hour, minutes FROM ingest.quality WHERE source = ANY($1) AND hour > $2 AND minutes <> 0 ORDER BY hour"
_RETURNED: Final = """
SELECT o.source, o.since, s.last_seen_at FROM ingest.quality_occurrences o JOIN ingest.sources s ON s.name = o.source
WHERE o.kind = $1 AND o.ended_at IS NULL AND s.last_seen_at > o.since ORDER BY o.source LIMIT $2
"""
_LASTING: Final = "SELECT source FROM ingest.quality_occurrences WHERE kind = $1 AND ended_at IS NULL"
_BUSY: Final = """
SELECT source FROM ingest.quality WHERE hour = $1 AND source > $2 AND source <> $3 AND (sampled >= $4 OR events >= $5) ORDER BY source LIMIT $6
"""
# The names are those of a class, and nobody sends them.
_COUNTS: Final = f"""
SELECT source, hour = $2 AS recent, {", ".join(f"sum({name})::bigint AS {name}" for name in COUNTS)} FROM ingest.quality
WHERE source = ANY($1) AND hour > $2 - make_interval(hours => $3 + 1) AND hour <= $2 GROUP BY 1, 2
"""  # noqa: S608
_TYPES: Final = """
SELECT source, hour = $2 AS recent, field, type, sum(events)::bigint AS events FROM ingest.quality_fields
WHERE source = ANY($1) AND hour > $2 - make_interval(hours => $3 + 1) AND hour <= $2 GROUP BY 1, 2, 3, 4 LIMIT $4
"""
_OPEN: Final = "SELECT kind, count(*) FROM ingest.quality_occurrences WHERE ended_at IS NULL GROUP BY kind"


class QualityWatch:
    """Finds sources that fell silent or drifted, and tells of them through the intake."""

    def __init__(self, pool: asyncpg.Pool[Any], intake: Intake, registry: CollectorRegistry, *, settle: timedelta = SETTLE) -> None:
        self._pool = pool
        self._intake = intake
        self._settle = settle
        self._steady_since: datetime | None = None
        self._last_turn: datetime | None = None
        self._waits: dict[str, tuple[timedelta | None, datetime]] = {}
        """How long a source may be quiet (None: for ever), and when that was learned."""
        self._compared_to = ""
        self._told = Counter("elis_quality_told", "Events of data quality that were told.", ["kind"], registry=registry)
        self._open = Gauge("elis_quality_open", "Silences and drifts that last, as the replica that watches sees them.", ["kind"], registry=registry)

    async def watch(self, now: datetime | None = None) -> None:
        """Takes one turn, unless another replica does; raises asyncpg's errors."""
        now = now or datetime.now(UTC)
        if self._last_turn is None or self._steady_since is None or now - self._last_turn > MISSED_TURN:
            self._steady_since = now
        try:
            async with self._pool.acquire() as connection, _alone(connection) as alone:
                self._open.clear()
                if alone:
                    await self._turn(connection, now, steady=now - self._steady_since >= self._settle)
        except BaseException:
            self._steady_since = None
            raise
        self._last_turn = now

    async def _turn(self, connection: SqlConnection, now: datetime, *, steady: bool) -> None:
        candidates = await _find_returned(connection)
        if steady:
            candidates += await self._find_silent(connection, now)
        drifts, judged = await self._find_drifted(connection, now)
        candidates += drifts
        told = await load_told(connection, {news.source for news in candidates} | judged.keys(), now)
        lasting = {(news.source, news.finding.kind, news.finding.field) for news in drifts}
        over = [
            (item.source, item.kind, item.field, now)
            for item in told
            if item.open and item.kind in judged.get(item.source, ()) and (item.source, item.kind, item.field) not in lasting
        ]
        await end_told(connection, over)
        news = choose_news(candidates, told, now)[:MAX_TOLD]
        if news and await self._tell(news):
            await write_told(connection, news, now)
        for kind, count in await connection.fetch(_OPEN):
            self._open.labels(kind).set(count)

    async def _tell(self, news: list[News]) -> bool:
        """Stores events; returns whether they are stored."""
        batch = Batch()
        for item in news:
            finding = item.finding
            returned = finding.kind == RETURNED
            attributes = {
                "elis.quality.kind": finding.kind,
                "elis.quality.source": item.source,
                **({"elis.quality.field": finding.field} if finding.field else {}),
                "elis.quality.expected": finding.expected,
                "elis.quality.observed": finding.observed,
                "elis.quality.since": item.since.isoformat(),
            }
            batch.append(
                f"data quality of source {item.source}: {finding.text}" + (f" (field {finding.field})" if finding.field else ""),
                source=OWN_SOURCE,
                timestamp=time.time_ns(),
                severity_number=9 if returned else 13,
                severity_text="INFO" if returned else "WARN",
                service=SERVICE,
                attributes=attributes,
            )
        rows = len(batch)
        try:
            keys = [item.key for item in news]
            await self._intake.take(batch, ARRIVAL, default_system="infrastructure", formats=["plain"] * rows, record_keys=keys)
        except ElisError as error:
            log.warning("events of data quality put off", events=rows, reason=str(error))
            return False
        for item in news:
            self._told.labels(item.finding.kind).inc()
        return True

    async def _find_silent(self, connection: SqlConnection, now: datetime) -> list[News]:
        rows = await connection.fetch(_QUIET, OWN_SOURCE, now - timedelta(days=KEPT_DAYS), now - timedelta(minutes=LEAST_WAIT), MAX_QUIET_SOURCES)
        quiet = {row["name"]: row["last_seen_at"] for row in rows}
        self._waits = {name: known for name, known in self._waits.items() if now - known[1] < LEARNED_FOR}
        await self._learn(connection, [name for name in quiet if name not in self._waits], now)
        told = {row["source"] for row in await connection.fetch(_LASTING, SILENT)}
        due = [name for name, last in quiet.items() if name not in told and self._is_silent(name, last, now)]
        # Before it is told, what has happened since it was learned counts too.
        await self._learn(connection, [name for name in due if now - self._waits[name][1] > LEARNED_LATELY], now)
        found = []
        for name in due:
            wait, last = self._waits[name][0], quiet[name]
            if wait is not None and self._is_silent(name, last, now):
                usual, gap = _span_text(wait), _span_text(now - last)
                text = f"silent for {gap}, at most {usual} was expected"
                found.append(News(name, Finding(SILENT, "", f"an event within {usual}", f"none for {gap}", text), last))
        return found

    def _is_silent(self, name: str, last: datetime, now: datetime) -> bool:
        wait, _ = self._waits.get(name, (None, now))
        return wait is not None and last + wait <= now

    async def _learn(self, connection: SqlConnection, names: Sequence[str], now: datetime) -> None:
        """Learns how long sources may be quiet, of at most MAX_LEARNED of them."""
        chosen = names[:MAX_LEARNED]
        if not chosen:
            return
        heard: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for row in await connection.fetch(_HEARD, chosen, now - timedelta(days=KEPT_DAYS)):
            heard[row["source"]].append((int(row["hour"].timestamp()) // 3600, row["minutes"]))
        for name in chosen:
            minutes = allowed_wait(heard[name])
            self._waits[name] = (None if minutes is None else timedelta(minutes=minutes), now)

    async def _find_drifted(self, connection: SqlConnection, now: datetime) -> tuple[list[News], dict[str, set[str]]]:
        """Returns the drifts of the next sources, and which kinds could be judged of each."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        rows = await connection.fetch(_BUSY, hour, self._compared_to, OWN_SOURCE, LEAST_SAMPLED, LEAST_EVENTS, MAX_COMPARED)
        sources = [row["source"] for row in rows]
        self._compared_to = sources[-1] if len(sources) == MAX_COMPARED else ""
        windows = await _load_windows(connection, sources, hour)
        news: list[News] = []
        judged: dict[str, set[str]] = {}
        for source in sources:
            findings, judged[source] = find_drifts(windows[source, True], windows[source, False])
            news += [News(source, finding, hour) for finding in findings]
        return news, judged


async def _load_windows(connection: SqlConnection, sources: Sequence[str], hour: datetime) -> defaultdict[tuple[str, bool], Window]:
    """Returns this hour (True) and the hours before it (False) of each source."""
    windows: defaultdict[tuple[str, bool], Window] = defaultdict(Window)
    if not sources:
        return windows
    for row in await connection.fetch(_COUNTS, sources, hour, BEFORE_HOURS):
        counts = windows[row["source"], row["recent"]].counts
        for name in COUNTS:
            setattr(counts, name, row[name])
    for start in range(0, len(sources), COMPARED_TOGETHER):
        together = sources[start : start + COMPARED_TOGETHER]
        rows = await connection.fetch(_TYPES, together, hour, BEFORE_HOURS, MAX_FIELD_ROWS)
        if len(rows) == MAX_FIELD_ROWS:
            log.warning("too many fields to compare", sources=together)
            continue
        for row in rows:
            windows[row["source"], row["recent"]].fields[row["field"]][row["type"]] = row["events"]
    return windows


async def _find_returned(connection: SqlConnection) -> list[News]:
    found = []
    for row in await connection.fetch(_RETURNED, SILENT, MAX_TOLD):
        gap = _span_text(row["last_seen_at"] - row["since"])
        found.append(News(row["source"], Finding(RETURNED, "", "silent", "sending", f"sends again after {gap} of silence"), row["since"]))
    return found


def _span_text(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes} min" if minutes < 180 else f"{minutes // 60} h"


@asynccontextmanager
async def _alone(connection: SqlConnection) -> AsyncIterator[bool]:
    """Holds the lock of the watch if it is free; yields whether it is held. It ends with the connection at the latest."""
    held = await connection.fetchval("SELECT pg_try_advisory_lock($1)", WATCH_LOCK)
    try:
        yield held
    finally:
        if held and not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", WATCH_LOCK)
