"""Detection: the loop of the replica that holds the lease. Reads roll-ups, judges minutes, stores what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

import asyncpg
import structlog
import zstandard
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from elis.ingest.v1 import ingest_pb2 as ingest
from kit.db import unit_of_work
from services.correlate import records
from services.correlate.analysis import Analyst
from services.correlate.history import History
from services.correlate.incidents import ACKNOWLEDGED
from services.correlate.lease import Hold, Lease, LeaseLost
from services.correlate.miner import Miner
from services.correlate.outages import is_outage
from services.correlate.recent import RecentCounts, save_templates
from services.correlate.seasons import RollupSeasons
from services.correlate.settings import CorrelateSettings
from services.correlate.topology import Topology
from services.correlate.watermark import MAX_SKEW, find_watermark

if TYPE_CHECKING:
    from elis.ingest.v1 import ingest_pb2_grpc as ingest_rpc

log = structlog.get_logger()

MINUTES_PER_ROUND = 30
"""Minutes that are judged before what follows is stored."""
MAX_BLOCK_BYTES = 64 * 1024 * 1024
PATIENCE_SECONDS = 1.0
TEND_SECONDS = 30.0
MAX_FAILURES = 3
"""Attempts in a row that may fail for no outage before minutes are left out."""
IDLE = timedelta(seconds=10)
"""Silence of all sources after which nothing can have been committed that was not seen yet."""


class IngestReader:
    """Reads events from the ingest service."""

    def __init__(self, events: ingest_rpc.IngestServiceAsyncStub) -> None:
        self._ingest = events

    async def read_events(self, ids: Sequence[int]) -> list[bytes]:
        """Returns canonical lines; an id that is not there any more is left out."""
        response: ingest.GetEventsResponse = await self._ingest.GetEvents(ingest.GetEventsRequest(ids=ids))
        return list(response.lines)

    async def read_block(self, block_id: int) -> list[bytes]:
        """Returns the lines of a block; none when it is not there any more."""
        response: ingest.GetBlocksResponse = await self._ingest.GetBlocks(ingest.GetBlocksRequest(ids=[block_id], with_lines=True))
        return [line for block in response.blocks for line in zstandard.decompress(block.lines, MAX_BLOCK_BYTES).splitlines()]


class Detection:
    """Judges minutes while it holds the lease, and waits for it while it does not."""

    def __init__(
        self,
        settings: CorrelateSettings,
        engine: AsyncEngine,
        pool: asyncpg.Pool,
        lease: Lease,
        reader: IngestReader,
        tend: Callable[[AsyncSession], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._pool = pool
        self._lease = lease
        self._reader = reader
        self._tend = tend
        """Work that only the holder does now and then (retention), in a fenced transaction."""
        self._tended_at = 0.0
        self._failures = 0

    async def run(self) -> None:
        """Works until cancelled; starts anew from what is stored whenever a part was away or the lease was lost.

        Minutes that cannot be judged after several attempts are left out, with an error in the log: what is wrong with
        them must stop neither the counting nor the minutes after them.
        """
        while True:
            try:
                async with self._lease.hold() as hold:
                    await self._work(hold)
            except (LeaseLost, records.Overtaken) as reason:
                log.info("detection starts anew", reason=repr(reason))
            except Exception as error:
                if is_outage(error):
                    log.warning("detection waits", reason=repr(error))
                else:
                    self._failures += 1
                    log.error("detection failed", failures=self._failures, exc_info=error)
                await asyncio.sleep(PATIENCE_SECONDS)

    async def _work(self, hold: Hold) -> None:
        declared = [(edge.caller, edge.callee) for edge in self._settings.declared_edges]
        analyst = Analyst(History(self._settings.baseline_minutes + MAX_SKEW), self._reader, Topology(declared), RollupSeasons(self._pool))
        recent = RecentCounts(self._pool, analyst, Miner())
        await recent.restore_templates()
        async with unit_of_work(self._engine) as session:
            judged = await records.read_judged(session)
            if judged is not None:
                await records.restore(session, analyst, judged)
        if judged is not None:
            await recent.load(judged - self._settings.baseline_minutes, judged)
            analyst.mask_findings()
        while True:
            judged = await self._step(hold, analyst, recent, judged)

    async def _step(self, hold: Hold, analyst: Analyst, recent: RecentCounts, judged: int | None) -> int | None:
        """Does one round; returns the newest minute that is judged."""
        hold.check()
        await self._tend_now_and_then(hold)
        watermark = await self._find_watermark(recent, judged)
        if watermark is None:
            await asyncio.sleep(self._settings.detect_interval.total_seconds())
            return judged
        await self._follow_states(analyst)
        await self._follow_templates(hold, recent)
        minutes, until = await self._find_minutes(recent, judged, watermark)
        if minutes and self._failures >= MAX_FAILURES:
            log.error("minutes left out", first=minutes[0], last=minutes[-1])
            await self._leave_out(hold, until)
        elif minutes:
            result = await analyst.judge(minutes)
            async with unit_of_work(self._engine) as session:
                await hold.fence(session)
                await records.save_round(session, result, analyst.topology)
            records.settle_round(result, analyst.topology)
            for case in result.cases:
                log.info("incident changed", incident_id=str(case.id), findings=len(case.findings), severity=case.severity)
        self._failures = 0
        # What a round costs beside its minutes is paid twice a second and not for each minute of a load that runs ahead of the clock.
        if until in (judged, watermark):
            await asyncio.sleep(self._settings.detect_interval.total_seconds())
        return until

    async def _find_watermark(self, recent: RecentCounts, judged: int | None) -> int | None:
        """Returns the newest minute to judge; None when there can be nothing that was not judged."""
        clocks, now = await recent.clocks()
        watermark = find_watermark(clocks, now, self._settings.quiet_after, self._settings.allowed_lateness)
        if watermark is None or (judged is not None and watermark <= judged and now - max(clock.heard_at for clock in clocks) > IDLE):
            return None
        return watermark

    async def _find_minutes(self, recent: RecentCounts, judged: int | None, watermark: int) -> tuple[list[int], int]:
        """Reads counts; returns the minutes to judge (new ones, and those to which stragglers came) and the newest that will be judged then."""
        earliest = watermark - self._settings.baseline_minutes
        if judged is None:
            judged = max(earliest, await recent.oldest_minute()) - 1
        until = max(judged, min(watermark, max(judged, earliest) + MINUTES_PER_ROUND))
        changed = await recent.load(max(judged - MAX_SKEW, until - self._settings.baseline_minutes), until)
        return sorted({*changed, *range(max(judged, earliest) + 1, until + 1)}), until

    async def _leave_out(self, hold: Hold, until: int) -> None:
        async with unit_of_work(self._engine) as session:
            await hold.fence(session)
            await records.mark_judged(session, until)

    async def _tend_now_and_then(self, hold: Hold) -> None:
        if monotonic() - self._tended_at < TEND_SECONDS:
            return
        self._tended_at = monotonic()
        async with unit_of_work(self._engine) as session:
            await hold.fence(session)
            await self._tend(session)

    async def _follow_templates(self, hold: Hold, recent: RecentCounts) -> None:
        moved, texts = await recent.learn_templates()
        if moved or texts:
            async with unit_of_work(self._engine) as session:
                await hold.fence(session)
                await save_templates(session, moved, texts)

    async def _follow_states(self, analyst: Analyst) -> None:
        """Lets go of incidents that were resolved; one that was reopened needs a fresh start."""
        async with unit_of_work(self._engine) as session:
            states = await records.read_states(session)
        for case in list(analyst.cases.cases.values()):
            if case.id not in states:
                analyst.cases.close(case, analyst.findings)
            else:
                case.acknowledged = states[case.id] == ACKNOWLEDGED
        if states.keys() - analyst.cases.cases.keys():
            raise records.Overtaken("an incident was reopened")
