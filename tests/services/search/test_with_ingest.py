"""Search on the real ingest service: what is acknowledged is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from redis.asyncio import Redis

from elis.ingest.v1 import ingest_pb2 as ingest
from elis.ingest.v1 import ingest_pb2_grpc as ingest_rpc
from elis.search.v1 import search_pb2 as pb
from kit.db import open_engine, open_pool
from kit.server import Application, Servicer, cancel_tasks
from services.ingest.announcer import Announcer
from services.ingest.rpc import IngestServicer
from services.ingest.settings import IngestSettings
from tests.fixtures.servers import run_service
from tests.services.ingest.conftest import run_intake
from tests.services.search.corpus import NOON
from tests.services.search.stage import Stage, until_found

SECOND = 1_000_000_000


@asynccontextmanager
async def run_real_ingest(stage: Stage) -> AsyncIterator[str]:
    """Serves the RPCs of ingest on this test's engines; yields the address."""
    settings = IngestSettings(
        database_url=stage.database_url,
        redis_url=stage.redis_url,
        service_secret="s" * 64,
        data_dir=stage.data_dir,
        masking_key="m" * 64,
        seal_key="0" * 64,
    )
    async with open_pool(settings, "ingest") as pool, open_engine(settings, "ingest") as engine, Redis.from_url(stage.redis_url) as redis:
        announcer = Announcer(redis)
        task = asyncio.create_task(announcer.run())
        async with run_intake(settings, pool, announcer) as intake:
            servicer = IngestServicer(intake, pool, engine)
            service = Servicer(ingest.DESCRIPTOR.services_by_name["IngestService"], ingest_rpc.add_IngestServiceServicer_to_server, servicer)
            async with run_service(Application(servicers=[service], verifier=stage.issuer.verifier())) as address:
                yield address
        await cancel_tasks([task])


async def test_what_ingest_acknowledged_is_found_tailed_and_read_alike(stage: Stage) -> None:
    async with (
        run_real_ingest(stage) as address,
        replace(stage, ingest=address).search(tail_heartbeat_interval=0.1) as search,
        stage.issuer.connect(address, "events:write", "events:read") as channel,
    ):
        api = ingest_rpc.IngestServiceStub(channel)
        tail = search.Tail(pb.TailRequest(filter=pb.Filter(query="refused"))).__aiter__()
        assert (await anext(tail)).HasField("heartbeat")
        for request in range(20):
            records = [
                ingest.Record(
                    time_unix_nano=NOON + number // 30 * 86_400 * SECOND + request * 50 + number,
                    body=f"connection {request} refused after {number} ms",
                    severity_number=17,
                    service="billing",
                    attributes_json=b'{"duration_ms":%d}' % number,
                )
                for number in range(50)
            ]
            response = await api.IngestEvents(ingest.IngestEventsRequest(source="shop", records=records))
            assert response.accepted == 50
        await until_found(search, 1000)
        tailed: set[int] = set()
        async with asyncio.timeout(10):
            async for item in tail:
                tailed.update(event.event_id for event in item.events.events)
                if len(tailed) == 1000:
                    break
        query = pb.Filter(query='source:shop service:billing severity:error "connection 7 refused" duration_ms:>=40')
        found = await search.SearchEvents(pb.SearchEventsRequest(filter=query, with_total=True, order=pb.ORDER_OLDEST_FIRST))
        assert [event.body for event in found.events] == [f"connection 7 refused after {number} ms" for number in range(40, 50)]
        assert found.total == 10
        truth = await api.GetEvents(ingest.GetEventsRequest(ids=[event.event_id for event in found.events]))
        assert len(truth.lines) == 10
        assert {event.event_id for event in found.events} <= tailed
        patterns = await search.Patterns(pb.PatternsRequest())
        assert [(pattern.count, pattern.share) for pattern in patterns.patterns] == [(1000, 1.0)]
