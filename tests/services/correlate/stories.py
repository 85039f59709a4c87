"""Simulated stories as blocks: the events of the simulator, taken through the parsing, masking and fingerprints of ingest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, cast

import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from elis.ingest.v1 import ingest_pb2 as pb
from services.ingest.batch import Batch
from services.ingest.drafts import build_block, draft_blocks
from services.ingest.masking import Masker
from services.ingest.pipeline import Pipeline
from services.ingest.receivers.hec_events import decode_events
from services.ingest.receivers.otlp import decode_logs
from services.ingest.settings import IngestSettings
from services.ingest.simulator import otlp
from services.ingest.simulator.delivery import encode_event, encode_records
from services.ingest.simulator.events import HecPayload, OtlpPayload, SimulatedEvent
from services.ingest.simulator.generator import generate
from services.ingest.simulator.sap_folder import SapFolder
from services.ingest.simulator.story import Plan
from services.ingest.sources import SourceBook
from services.ingest.tokens import Agent

START_NS = 1_790_000_000 * 1_000_000_000
_AGENT = Agent("token", "story", "")


class Intake:
    """Turns simulated events into blocks, without a network and without a database."""

    def __init__(self, folder: Path) -> None:
        settings = IngestSettings.model_construct()
        self._sources = SourceBook(cast(Any, None))
        self._pipeline = Pipeline(settings, self._sources, Masker(b"m" * 32))
        self._folder = SapFolder(folder)
        self._numbers = count(1)

    def close(self) -> None:
        """Closes the files of the SAP hosts."""
        self._folder.close()

    def take(self, events: Sequence[SimulatedEvent]) -> Iterator[pb.Block]:
        """Yields the blocks of a batch of events: one for each channel that has any."""
        hec = [encode_event(event, event.payload) for event in events if isinstance(event.payload, HecPayload)]
        hec += [record for addition in self._folder.write(events) for record in encode_records(addition)]
        if hec:
            decoded, problem = decode_events(b"\n".join(hec), {}, _AGENT)
            assert problem is None, problem
            yield from self._prepare(decoded.batch, "splunk", decoded.systems, decoded.environments, decoded.formats)
        records = [event for event in events if isinstance(event.payload, OtlpPayload)]
        if records:
            request = ExportLogsServiceRequest.FromString(otlp.encode_request(records))
            batch, environments = decode_logs(request.SerializeToString(), _AGENT)
            yield from self._prepare(batch, "application", [""] * len(batch), environments, None)

    def _prepare(self, batch: Batch, default_system: str, systems: list[str], environments: list[str], formats: list[str] | None) -> Iterator[pb.Block]:
        for name, system, environment in zip(batch.source, systems, environments, strict=True):
            self._sources.register(name, system=system, default_system=default_system, environment=environment)
        observed_at = START_NS + 40 * 86_400 * 1_000_000_000
        prepared = self._pipeline.prepare(batch, observed_at=[observed_at] * len(batch), formats=formats)
        assert not prepared.rejections
        for draft in draft_blocks(prepared, prepared.rows, 16_384):
            built = build_block(prepared, draft, next(self._numbers))
            block = pb.Block(
                id=built.id,
                day=built.day,
                events=built.events,
                first_timestamp=built.first_timestamp,
                last_timestamp=built.last_timestamp,
                cursor=f"c{built.id:08d}",
                lines=built.lines,
                summary=pb.BlockSummary.FromString(zstandard.decompress(built.summary)),
            )
            block.created_at.FromDatetime(datetime.now(UTC))
            yield block


def tell(plan: Plan, batch_seconds: int = 5) -> Iterator[pb.Block]:
    """Yields the blocks of a story, a batch of events every so many seconds of event time."""
    with tempfile.TemporaryDirectory() as folder, closing(Intake(Path(folder))) as intake:
        batch: list[SimulatedEvent] = []
        until = plan.start_ns + batch_seconds * 1_000_000_000
        for event in generate(plan):
            while event.time_ns >= until:
                yield from intake.take(batch)
                batch, until = [], until + batch_seconds * 1_000_000_000
            batch.append(event)
        yield from intake.take(batch)
