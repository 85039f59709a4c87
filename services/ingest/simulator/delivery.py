"""Brings simulated events to ELIS the way real senders do: HEC, OTLP over HTTP, and files that are shipped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import stamina
from msgspec import DecodeError, Struct, ValidationError, json

from kit.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from services.ingest.formats import FORMATS
from services.ingest.simulator import otlp
from services.ingest.simulator.events import HecPayload, OtlpPayload, SimulatedEvent
from services.ingest.simulator.sap_folder import Addition, SapFolder

MAX_ENVELOPES = 500
"""Events in one request."""
REQUEST_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
"""How long a busy or absent ELIS is asked again."""
_BUSY = frozenset({429, 502, 503, 504})
_REFUSED = frozenset({401, 403})
_NO_DATA = 5


class Credentials(Struct, frozen=True):
    """The part of a credentials file that senders need."""

    hec_url: str
    otlp_http_url: str
    ingest_token: str


class _HecReply(Struct, rename="kebab"):
    """The body of a reply to HEC; `invalid_event_number` counts from 0."""

    text: str = ""
    code: int = 0
    invalid_event_number: int | None = None


@dataclass(slots=True)
class Counts:
    """Events by system."""

    accepted: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Envelope:
    """One HEC event, encoded, and the system it counts for."""

    body: bytes
    system: str


class _Busy(Exception):
    """ELIS asks to be asked again."""

    def __init__(self, after: float | None) -> None:
        super().__init__()
        self.after = after


def read_credentials(path: Path) -> Credentials:
    """Reads a credentials file; raises NotFound or InvalidArgument when it is missing or no such file."""
    try:
        return json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError:
        raise NotFound(f"there is no credentials file {path}; start ELIS with `elis up` or name the file with --credentials") from None
    except OSError as error:
        raise InvalidArgument(f"the credentials file {path} cannot be read ({error.strerror})") from None
    except (DecodeError, ValidationError) as error:
        raise InvalidArgument(f"{path} is not a credentials file of ELIS: {str(error).lower()}") from None


class Delivery:
    """Sends batches of events in order of time; one batch at a time."""

    def __init__(self, client: httpx.AsyncClient, credentials: Credentials, folder: SapFolder) -> None:
        self._client = client
        self._hec = f"{credentials.hec_url.rstrip('/')}/services/collector/event"
        self._otlp = f"{credentials.otlp_http_url.rstrip('/')}/v1/logs"
        self._hec_headers = {"Authorization": f"Splunk {credentials.ingest_token}", "Content-Type": "application/json"}
        self._otlp_headers = {"Authorization": f"Bearer {credentials.ingest_token}", "Content-Type": "application/x-protobuf"}
        self._folder = folder
        self.counts = Counts()

    async def check(self) -> None:
        """Proves that both receivers answer and know the token, without sending an event.

        Raises Unavailable when nobody answers and PermissionDenied when the token is refused.
        """
        # A request without data is refused, but only after the token was judged.
        response = await self._post_once(self._hec, b"", self._hec_headers)
        if _read_hec(response).code != _NO_DATA and response.is_error:
            raise Unavailable(f"what answers at {self._hec} is not ELIS (status {response.status_code})", url=self._hec)
        response = await self._post_once(self._otlp, b"", self._otlp_headers)
        if response.is_error:
            raise Unavailable(f"what answers at {self._otlp} is not ELIS (status {response.status_code})", url=self._otlp)

    async def deliver(self, events: Sequence[SimulatedEvent]) -> None:
        """Sends events, each by its own channel; returns when every channel has answered."""
        await asyncio.gather(
            self._send_hec([_Envelope(encode_event(event, event.payload), event.system) for event in events if isinstance(event.payload, HecPayload)]),
            self._send_otlp([event for event in events if isinstance(event.payload, OtlpPayload)]),
            self._send_files(events),
        )

    async def _send_files(self, events: Sequence[SimulatedEvent]) -> None:
        additions = self._folder.write(events)
        await self._send_hec([envelope for addition in additions for envelope in _record_envelopes(addition)])

    async def _send_hec(self, envelopes: Sequence[_Envelope]) -> None:
        for start in range(0, len(envelopes), MAX_ENVELOPES):
            rest = envelopes[start : start + MAX_ENVELOPES]
            while rest:
                rest = await self._send_envelopes(rest)

    async def _send_envelopes(self, envelopes: Sequence[_Envelope]) -> Sequence[_Envelope]:
        """Sends one request; returns what must be sent again because it stood behind an invalid event."""
        try:
            response = await self._post(self._hec, b"\n".join(envelope.body for envelope in envelopes), self._hec_headers)
        except _Busy:
            self.counts.failed.update(envelope.system for envelope in envelopes)
            return ()
        kept = len(envelopes)
        if response.is_error:
            invalid = _read_hec(response).invalid_event_number
            # What stands before the invalid event was kept.
            kept = invalid if invalid is not None and 0 <= invalid < len(envelopes) else 0
            refused = envelopes[kept : kept + 1] if invalid is not None else envelopes
            self.counts.failed.update(envelope.system for envelope in refused)
            self.counts.accepted.update(envelope.system for envelope in envelopes[:kept])
            return envelopes[kept + 1 :] if invalid is not None else ()
        self.counts.accepted.update(envelope.system for envelope in envelopes)
        return ()

    async def _send_otlp(self, events: Sequence[SimulatedEvent]) -> None:
        for start in range(0, len(events), MAX_ENVELOPES):
            part = events[start : start + MAX_ENVELOPES]
            try:
                response = await self._post(self._otlp, otlp.encode_request(part), self._otlp_headers)
            except _Busy:
                self.counts.failed.update(event.system for event in part)
                continue
            rejected = len(part) if response.is_error else otlp.count_rejected(response.content)
            system = part[0].system
            self.counts.failed[system] += rejected
            self.counts.accepted[system] += len(part) - rejected

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """Posts until the reply is final; raises _Busy when patience ends, else what `_post_once` raises."""
        async for attempt in stamina.retry_context(on=_backoff, attempts=None, timeout=PATIENCE_SECONDS, wait_initial=0.2, wait_max=5.0):
            with attempt:
                response = await self._post_once(url, body, headers)
                if response.status_code in _BUSY:
                    raise _Busy(_retry_after(response))
        return response

    async def _post_once(self, url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """Posts; raises Unavailable when nobody answers and PermissionDenied when the token is refused."""
        try:
            response = await self._client.post(url, content=body, headers=headers)
        except httpx.ConnectError:
            raise Unavailable(f"nobody answers at {url}; start ELIS with `elis up` and try again", url=url) from None
        except httpx.TransportError as error:
            raise Unavailable(f"the connection to {url} broke ({type(error).__name__}); see whether ELIS still runs", url=url) from None
        except httpx.InvalidURL as error:
            raise InvalidArgument(f"the credentials file has an address that is none: {url!r} ({error})", url=url) from None
        if response.status_code in _REFUSED:
            raise PermissionDenied(f"ELIS at {url} refuses the ingest token; take the credentials file of this ELIS with --credentials", url=url)
        return response


@asynccontextmanager
async def open_delivery(credentials: Credentials, folder: SapFolder) -> AsyncIterator[Delivery]:
    """Yields a delivery with a client of its own."""
    limits = httpx.Limits(max_connections=8, max_keepalive_connections=8)
    async with httpx.AsyncClient(timeout=REQUEST_SECONDS, limits=limits) as client:
        yield Delivery(client, credentials, folder)


def encode_event(event: SimulatedEvent, payload: HecPayload) -> bytes:
    """Returns a HEC event as the JSON object that a forwarder sends."""
    return orjson.dumps(
        {
            # Splunk's own spelling of a time: seconds with a fraction, as text, so that no digit is lost.
            "time": f"{event.time_ns // 1_000_000_000}.{event.time_ns % 1_000_000_000:09d}",
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


def _record_envelopes(addition: Addition) -> list[_Envelope]:
    # No time: the receiver reads it out of the text.
    head = {"host": addition.host, "source": addition.source, "sourcetype": addition.format, "fields": addition.fields}
    return [_Envelope(orjson.dumps({"event": record, **head}), addition.system) for record in cut_records(addition)]


def _read_hec(response: httpx.Response) -> _HecReply:
    try:
        return json.decode(response.content, type=_HecReply)
    except (DecodeError, ValidationError):
        return _HecReply(response.text[:200], -1)


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _backoff(error: Exception) -> bool | float:
    """Tells stamina whether to try again, and when if ELIS said so."""
    if isinstance(error, _Busy):
        return True if error.after is None else error.after
    return isinstance(error, Unavailable)
