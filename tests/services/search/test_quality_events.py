"""Events of data quality are searched for and counted like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry

from elis.ingest.v1 import ingest_pb2 as ingest
from elis.ingest.v1 import ingest_pb2_grpc as ingest_rpc
from elis.search.v1 import search_pb2 as pb
from kit.db import open_engine, open_pool
from kit.server import Application, Servicer
from services.ingest.quality.watch import QualityWatch
from services.ingest.rpc import IngestServicer
from services.ingest.settings import IngestSettings
from tests.fixtures.servers import run_service
from tests.services.ingest.conftest import run_intake
from tests.services.ingest.test_quality_rpc import put_field, put_hour
from tests.services.search.stage import Stage, until_found


async def test_a_drift_is_found_by_its_attributes_and_counted(stage: Stage) -> None:
    secrets = {"service_secret": "s" * 64, "masking_key": "m" * 64, "seal_key": "0" * 64}
    settings = IngestSettings(database_url=stage.database_url, redis_url=stage.redis_url, data_dir=stage.data_dir, **secrets)  # type: ignore[arg-type]
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    async with open_pool(settings, "ingest") as pool, open_engine(settings, "ingest") as engine, run_intake(settings, pool) as intake:
        for when, kind in ((hour - timedelta(hours=1), "number"), (hour, "text")):
            await put_hour(pool, "shop", when, events=60, sampled=60)
            for field in ("order_id", "amount"):
                await put_field(pool, "shop", when, field, kind, 60)
        service = Servicer(
            ingest.DESCRIPTOR.services_by_name["IngestService"], ingest_rpc.add_IngestServiceServicer_to_server, IngestServicer(intake, pool, engine)
        )
        async with (
            run_service(Application(servicers=[service], verifier=stage.issuer.verifier())) as address,
            replace(stage, ingest=address).search() as search,
        ):
            await QualityWatch(pool, intake, CollectorRegistry()).watch(now)
            await until_found(search, 2)
            query = pb.Filter(query="source:elis service:data-quality severity:warn elis.quality.kind:field_type elis.quality.field:order_id")
            found = await search.SearchEvents(pb.SearchEventsRequest(filter=query, with_total=True))
            assert found.total == 1
            [event] = found.events
            assert event.body == "data quality of source shop: a field has become text, it was number (field order_id)"
            assert json.loads(event.attributes_json)["elis.quality.source"] == "shop"
            patterns = await search.Patterns(pb.PatternsRequest(filter=pb.Filter(query="elis.quality.source:shop")))
            assert sum(pattern.count for pattern in patterns.patterns) == 2
