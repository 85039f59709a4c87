"""The index forgets what ingest keeps no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

import pytest

from elis.ingest.v1 import retention_pb2 as pb
from elis.ingest.v1 import retention_pb2_grpc as rpc
from kit.auth import requires
from kit.errors import Unavailable
from kit.server import Application, Servicer
from services.search.conditions import Everything
from services.search.engine import DAY, Engine
from services.search.engines.tantivy.engine import TantivyOptions, open_tantivy
from services.search.lines import decode_line
from services.search.retention import Retention
from services.search.selection import OPEN_END, OPEN_START, Selection
from tests.fixtures.callers import Issuer
from tests.fixtures.servers import run_service
from tests.services.search.corpus import NOON, make_blocks

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

ANYBODY = "*"


class Keeper(rpc.RetentionServiceServicer):
    """Serves what a test says that ingest keeps."""

    def __init__(self) -> None:
        self.held: dict[int, set[str]] = {}
        self.down = False

    @requires("blocks:read")
    async def ListHeldSources(self, request: pb.ListHeldSourcesRequest, _: RpcContext) -> pb.ListHeldSourcesResponse:
        if self.down:
            raise Unavailable("ingest is away")
        held = {day: self.held[day] for day in request.days if day in self.held}
        return pb.ListHeldSourcesResponse(days=[pb.HeldDay(day=day, sources=sources - {ANYBODY}, others=ANYBODY in sources) for day, sources in held.items()])


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with open_tantivy(tmp_path / "search", TantivyOptions(writer_heap_bytes=15_000_000)) as opened:
        yield opened


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
async def retention(keeper: Keeper, engine: Engine, issuer: Issuer) -> AsyncIterator[Retention]:
    servicer = Servicer(pb.DESCRIPTOR.services_by_name["RetentionService"], rpc.add_RetentionServiceServicer_to_server, keeper)
    async with (
        run_service(Application(servicers=[servicer], verifier=issuer.verifier())) as address,
        issuer.connect(address, "blocks:read") as channel,
    ):
        yield Retention(rpc.RetentionServiceStub(channel), engine)


async def left(engine: Engine) -> list[tuple[int, str]]:
    hits = await engine.search(Selection(OPEN_START, OPEN_END, Everything()), newest_first=False, limit=100)
    lines = [decode_line(hit.line) for hit in hits.events]
    return [(line.timestamp // DAY - 20_000, line.source) for line in lines]


async def fill(engine: Engine) -> None:
    today = time_ns()
    events = [{"timestamp": NOON + day * DAY, "source": source} for day in (0, 1, 2) for source in ("chatty", "shop\x00")]
    events += [{"timestamp": today, "observed_at": today, "source": "chatty"}, {"timestamp": NOON + 2 * DAY, "observed_at": today, "source": "late"}]
    await engine.index(make_blocks(events, size=1))
    await engine.commit("p")


async def test_what_ingest_keeps_no_more_is_forgotten(engine: Engine, keeper: Keeper, retention: Retention) -> None:
    await fill(engine)
    today = time_ns() // DAY - 20_000
    # Nothing of the first day, one source of the second, and of the third whoever was there before names were noted.
    keeper.held = {20_001: {"shop\ufffd"}, 20_002: {"shop\ufffd", ANYBODY}}
    await retention.forget()
    assert await left(engine) == [(1, "shop\x00"), (2, "chatty"), (2, "shop\x00"), (2, "late"), (today, "chatty")]
    keeper.held = {}
    await retention.forget()
    assert await left(engine) == [(2, "late"), (today, "chatty")]


async def test_nothing_is_forgotten_while_ingest_is_away(engine: Engine, keeper: Keeper, retention: Retention) -> None:
    await fill(engine)
    keeper.down = True
    with pytest.raises(Unavailable):
        await retention.forget()
    assert len(await left(engine)) == 8
