"""An ingest service for tests of the feed: a real gRPC server that hands out prepared blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
import xxhash
import zstandard

from elis.ingest.v1 import ingest_pb2 as pb
from elis.ingest.v1 import ingest_pb2_grpc as rpc
from kit.auth import requires
from kit.errors import Unavailable
from kit.server import Application, Servicer
from tests.fixtures.callers import Issuer
from tests.fixtures.servers import run_service

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

MINUTE = 60_000_000_000
START = 29_000_000 * MINUTE
"""A minute long ago, from which prepared events count."""


class Log:
    """What an ingest service holds: canonical lines in blocks."""

    def __init__(self) -> None:
        self.blocks: list[pb.Block] = []
        self.lines: dict[int, bytes] = {}
        self.down = False
        self.hidden: set[int] = set()

    def add(self, events: Iterable[dict[str, object]], *, block_id: int | None = None) -> pb.Block:
        """Makes a block of events (canonical keys; event ids and fingerprints are filled in; `template` gives the masked text)."""
        number = block_id if block_id is not None else len(self.blocks) + 1
        lines = []
        rows: dict[tuple[int, str, str, str, str, str, int, int], list[int]] = {}
        templates: dict[int, str] = {}
        for ordinal, given in enumerate(events):
            event = {"system": "application", "severity_number": 9, "host": "", "service": "", "environment": "production", **given}
            template = str(event.pop("template", event["body"]))
            fingerprint = xxhash.xxh64_intdigest(template.encode())
            event |= {"event_id": (number << 20) + ordinal, "observed_at": event["timestamp"], "fingerprint": f"{fingerprint:016x}"}
            templates[fingerprint] = template
            timestamp = int(str(event["timestamp"]))
            key = (
                timestamp // MINUTE,
                str(event["source"]),
                str(event["system"]),
                str(event["environment"]),
                str(event["service"]),
                str(event["host"]),
                int(str(event["severity_number"])),
                fingerprint,
            )
            rows.setdefault(key, [0, ordinal])[0] += 1
            line = orjson.dumps({name: value for name, value in event.items() if value != ""})
            lines.append(line)
            self.lines[(number << 20) + ordinal] = line
        timestamps = [orjson.loads(line)["timestamp"] for line in lines]
        block = pb.Block(
            id=number,
            day=timestamps[0] // MINUTE // 1440,
            events=len(lines),
            first_timestamp=min(timestamps),
            last_timestamp=max(timestamps),
            cursor=f"c{len(self.blocks) + 1:08d}",
            lines=zstandard.compress(b"".join(line + b"\n" for line in lines)),
            summary=_summarise(rows, templates),
        )
        block.created_at.FromDatetime(datetime.now(UTC))
        self.blocks.append(block)
        return block


def _summarise(rows: dict[tuple[int, str, str, str, str, str, int, int], list[int]], templates: dict[int, str]) -> pb.BlockSummary:
    sources = sorted({key[1:4] for key in rows})
    services, hosts, prints = (sorted({key[place] for key in rows}) for place in (4, 5, 7))
    return pb.BlockSummary(
        sources=[source for source, _, _ in sources],
        systems=[system for _, system, _ in sources],
        environments=[environment for _, _, environment in sources],
        services=services,  # type: ignore[arg-type]
        hosts=hosts,  # type: ignore[arg-type]
        fingerprints=prints,  # type: ignore[arg-type]
        templates=[templates[int(value)] for value in prints],
        minute=[key[0] for key in rows],
        source=[sources.index(key[1:4]) for key in rows],
        service=[services.index(key[4]) for key in rows],
        host=[hosts.index(key[5]) for key in rows],
        severity_number=[key[6] for key in rows],
        fingerprint=[prints.index(key[7]) for key in rows],
        count=[count for count, _ in rows.values()],
        first_ordinal=[first for _, first in rows.values()],
    )


class IngestPeer(rpc.IngestServiceServicer):
    """Serves a log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    @requires("blocks:read")
    async def ListBlocks(self, request: pb.ListBlocksRequest, context: RpcContext) -> pb.ListBlocksResponse:
        self._check()
        later = [block for block in self._log.blocks if block.cursor > request.after and block.id not in self._log.hidden]
        sent = [_part(block, request.with_lines, request.with_summary) for block in later[: request.limit or 1000]]
        return pb.ListBlocksResponse(blocks=sent, next=sent[-1].cursor if sent else request.after)

    @requires("blocks:read")
    async def GetBlocks(self, request: pb.GetBlocksRequest, context: RpcContext) -> pb.GetBlocksResponse:
        self._check()
        wanted = set(request.ids)
        return pb.GetBlocksResponse(blocks=[_part(block, request.with_lines, request.with_summary) for block in self._log.blocks if block.id in wanted])

    @requires("events:read")
    async def GetEvents(self, request: pb.GetEventsRequest, context: RpcContext) -> pb.GetEventsResponse:
        self._check()
        return pb.GetEventsResponse(lines=[self._log.lines[number] for number in request.ids if number in self._log.lines])

    @requires("events:write")
    async def IngestEvents(self, request: pb.IngestEventsRequest, context: RpcContext) -> pb.IngestEventsResponse:
        raise NotImplementedError

    @requires("events:read")
    async def RecentEvents(self, request: pb.RecentEventsRequest, context: RpcContext) -> pb.RecentEventsResponse:
        raise NotImplementedError

    @requires("sources:read")
    async def ListSources(self, request: pb.ListSourcesRequest, context: RpcContext) -> pb.ListSourcesResponse:
        raise NotImplementedError

    def _check(self) -> None:
        if self._log.down:
            raise Unavailable("ingest is away")


def _part(block: pb.Block, with_lines: bool, with_summary: bool) -> pb.Block:
    part = pb.Block()
    part.CopyFrom(block)
    if not with_lines:
        part.ClearField("lines")
    if not with_summary:
        part.ClearField("summary")
    return part


@asynccontextmanager
async def run_peer(log: Log, issuer: Issuer) -> AsyncIterator[str]:
    """Serves a log; yields the address."""
    servicer = Servicer(pb.DESCRIPTOR.services_by_name["IngestService"], rpc.add_IngestServiceServicer_to_server, IngestPeer(log))
    async with run_service(Application(servicers=[servicer], verifier=issuer.verifier())) as address:
        yield address


def events(*rows: tuple[int, str, str, int], system: str = "application") -> Sequence[dict[str, object]]:
    """Returns events given as (second after START, service, body, severity number); the service's name is its source's too."""
    return [
        {"timestamp": START + second * 1_000_000_000, "source": service, "service": service, "body": body, "severity_number": severity, "system": system}
        for second, service, body, severity in rows
    ]
