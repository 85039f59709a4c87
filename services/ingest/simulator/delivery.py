"""Brings simulated events to ELIS the way real senders do: HEC, OTLP over HTTP, and files that are shipped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b

import httpx
import orjson

from kit.errors import Unavailable
from services.ingest.credentials_file import SenderCredentials
from services.ingest.formats import FORMATS
from services.ingest.sender import Busy, open_client, post, post_once, read_hec
from services.ingest.simulator import otlp
from services.ingest.simulator.events import HecPayload, OtlpPayload, SimulatedEvent
from services.ingest.simulator.sap_folder import Addition, SapFolder
from services.ingest.simulator.stamps import SECOND

MAX_EVENTS = 500
"""Events in one request."""
IDEMPOTENCY_HEADER = "X-Elis-Idempotency-Key"
"""Header by which ELIS recognises a request that is sent again. Public, so not imported from the receiver."""
_NO_DATA = 5


@dataclass(slots=True)
class Counts:
    """Events by system."""

    accepted: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


class Delivery:
    """Sends batches of events in order of time; one batch at a time."""

    def __init__(self, client: httpx.AsyncClient, credentials: SenderCredentials, folder: SapFolder) -> None:
        self._client = client
        self._hec = f"{credentials.hec_url.rstrip('/')}/services/collector/event"
        self._otlp = f"{credentials.otlp_http_url.rstrip('/')}/v1/logs"
        self._hec_headers = {"Authorization": f"Splunk {credentials.ingest_token}", "Content-Type": "application/json"}
        self._otlp_headers = {"Authorization": f"Bearer {credentials.ingest_token}", "Content-Type": "application/x-protobuf"}
        self._folder = folder
        self._shipped = 0
        self.counts = Counts()

    async def check(self) -> None:
        """Proves that both receivers answer and know the token, without sending an event.

        Raises Unavailable when nobody answers and PermissionDenied when the token is refused.
        """
        # A request without data is refused, but only after the token was judged.
        response = await post_once(self._client, self._hec, b"", self._hec_headers)
        if response.is_error and read_hec(response).code != _NO_DATA:
            raise Unavailable(f"what answers at {self._hec} takes no events now (status {response.status_code}); see whether ELIS is ready", url=self._hec)
        response = await post_once(self._client, self._otlp, b"", self._otlp_headers)
        if response.is_error:
            raise Unavailable(f"what answers at {self._otlp} takes no events now (status {response.status_code}); see whether ELIS is ready", url=self._otlp)

    async def deliver(self, events: Sequence[SimulatedEvent]) -> None:
        """Sends events, each by its own channel; returns when every channel has answered."""
        await asyncio.gather(self._send_hec(events), self._send_otlp(events), self._ship_files(events))

    async def _send_hec(self, events: Sequence[SimulatedEvent]) -> None:
        envelopes: dict[str, list[bytes]] = {}
        for event in events:
            if isinstance(event.payload, HecPayload):
                envelopes.setdefault(event.system, []).append(encode_event(event, event.payload))
        for system, bodies in envelopes.items():
            await self._send_envelopes(bodies, system, self._hec_headers)

    async def _ship_files(self, events: Sequence[SimulatedEvent]) -> None:
        envelopes: dict[str, list[bytes]] = {}
        for addition in self._folder.write(events):
            envelopes.setdefault(addition.system, []).extend(encode_records(addition))
        for system, bodies in envelopes.items():
            # These events have no time of their own yet, so ELIS cannot know a request that is sent again by its content.
            key = blake2b(b"%d\n" % self._shipped + b"\n".join(bodies), digest_size=16).hexdigest()
            self._shipped += len(bodies)
            await self._send_envelopes(bodies, system, {**self._hec_headers, IDEMPOTENCY_HEADER: key})

    async def _send_envelopes(self, envelopes: Sequence[bytes], system: str, headers: dict[str, str]) -> None:
        for start in range(0, len(envelopes), MAX_EVENTS):
            rest = envelopes[start : start + MAX_EVENTS]
            while rest:
                rest = await self._send_request(rest, system, _number_key(headers, start, len(rest)))

    async def _send_request(self, envelopes: Sequence[bytes], system: str, headers: dict[str, str]) -> Sequence[bytes]:
        """Sends one request; returns what must be sent again because it stood behind an invalid event."""
        try:
            response = await post(self._client, self._hec, b"\n".join(envelopes), headers)
        except Busy:
            self.counts.failed[system] += len(envelopes)
            return ()
        if not response.is_error:
            self._count(system, len(envelopes), int(response.headers.get("elis-rejected", 0)))
            return ()
        invalid = read_hec(response).invalid_event_number
        if invalid is None or not 0 <= invalid < len(envelopes):
            self._count(system, len(envelopes), len(envelopes))
            return ()
        # What stands before the invalid event was kept.
        self._count(system, invalid + 1, 1)
        return envelopes[invalid + 1 :]

    async def _send_otlp(self, events: Sequence[SimulatedEvent]) -> None:
        records = [event for event in events if isinstance(event.payload, OtlpPayload)]
        for start in range(0, len(records), MAX_EVENTS):
            part = records[start : start + MAX_EVENTS]
            try:
                response = await post(self._client, self._otlp, otlp.encode_request(part), self._otlp_headers)
            except Busy:
                self._count(part[0].system, len(part), len(part))
                continue
            self._count(part[0].system, len(part), len(part) if response.is_error else otlp.count_rejected(response.content))

    def _count(self, system: str, sent: int, failed: int) -> None:
        self.counts.accepted[system] += sent - failed
        self.counts.failed[system] += failed


@asynccontextmanager
async def open_delivery(credentials: SenderCredentials, folder: SapFolder) -> AsyncIterator[Delivery]:
    """Yields a delivery with a client of its own."""
    async with open_client() as client:
        yield Delivery(client, credentials, folder)


def encode_event(event: SimulatedEvent, payload: HecPayload) -> bytes:
    """Returns a HEC event as the JSON object that a forwarder sends."""
    return orjson.dumps(
        {
            # As text, so that no digit of the nanoseconds is lost.
            "time": f"{event.time_ns // SECOND}.{event.time_ns % SECOND:09d}",
            "host": event.host,
            "source": event.source,
            "sourcetype": payload.sourcetype,
            "event": payload.event,
            "fields": payload.fields,
        }
    )


def cut_records(addition: Addition) -> list[str]:
    """Returns the records in what was added to a file, as the file's format cuts them."""
    return FORMATS[addition.format].split(addition.lines)


def encode_records(addition: Addition) -> list[bytes]:
    """Returns HEC events for what was added to a file: without a time, which the receiver reads out of the text."""
    head = {"host": addition.host, "source": addition.source, "sourcetype": addition.format, "fields": addition.fields}
    return [orjson.dumps({"event": record, **head}) for record in cut_records(addition)]


def _number_key(headers: dict[str, str], start: int, length: int) -> dict[str, str]:
    """Gives each request of a batch an idempotency key of its own."""
    key = headers.get(IDEMPOTENCY_HEADER)
    return headers if key is None else {**headers, IDEMPOTENCY_HEADER: f"{key}-{start}-{length}"}
