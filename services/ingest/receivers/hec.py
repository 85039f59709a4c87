"""Splunk HTTP Event Collector: /services/collector and its relatives, with Splunk's own replies.

Source: reference wire-formats §1 (reply codes, authentication forms, partial batches).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kit.errors import ElisError, Unavailable
from services.ingest.batch import Batch
from services.ingest.endpoints import Arrival
from services.ingest.formats import FORMATS, detect_format
from services.ingest.groups import Outcome
from services.ingest.intake import Intake
from services.ingest.receivers.bodies import BodyTooLarge, BrokenBody, UnsupportedEncoding, admitted_size, arrival_of, read_body
from services.ingest.receivers.credentials import parse_authorization
from services.ingest.receivers.hec_events import HecBatch, HecProblem, declared_format, decode_events
from services.ingest.settings import IngestSettings
from services.ingest.tokens import NOBODY, Agent, TokenBook, TokenState

PROTOCOL = "hec"
DEFAULT_SYSTEM = "splunk"
IDEMPOTENCY_HEADER = "x-elis-idempotency-key"
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_VERSION = ("", "/1.0")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the code table."""

    status: int
    text: str
    code: int

    def response(self, outcome: Outcome | None = None, **extra: Any) -> Response:
        """Returns the HTTP response; an outcome goes into headers, since the body is Splunk's."""
        headers = {"Retry-After": "1"} if self.status == 503 else {}
        if outcome is not None:
            headers |= {
                "Elis-Accepted": str(outcome.accepted),
                "Elis-Duplicates": str(outcome.duplicates),
                "Elis-Rejected": str(outcome.rejected),
            }
        return Response(orjson.dumps({"text": self.text, "code": self.code, **extra}), self.status, headers, "application/json")


SUCCESS = Reply(200, "Success", 0)
TOKEN_DISABLED = Reply(403, "Token disabled", 1)
TOKEN_REQUIRED = Reply(401, "Token is required", 2)
INVALID_AUTHORIZATION = Reply(401, "Invalid authorization", 3)
INVALID_TOKEN = Reply(403, "Invalid token", 4)
NO_DATA = Reply(400, "No data", 5)
INVALID_FORMAT = Reply(400, "Invalid data format", 6)
SERVER_ERROR = Reply(500, "Internal server error", 8)
BUSY = Reply(503, "Server is busy", 9)
ACK_DISABLED = Reply(400, "ACK is disabled", 14)
QUERY_TOKEN = Reply(400, "Query string authorization is not enabled", 16)
HEALTHY = Reply(200, "HEC is healthy", 17)
TOO_LARGE = Reply(413, "Request entity too large", 6)
UNSUPPORTED = Reply(415, "Unsupported content encoding", 6)


class HecReceiver:
    """Serves the collector endpoints."""

    def __init__(self, settings: IngestSettings, intake: Intake, tokens: TokenBook) -> None:
        self._limit = settings.max_body_bytes
        self._intake = intake
        self._tokens = tokens

    def routes(self) -> list[Route]:
        """Returns the routes of this receiver."""
        base = "/services/collector"
        event_paths = [base, *(f"{base}/event{version}" for version in _VERSION)]
        return [
            *(Route(path, self.receive_events, methods=["POST", "OPTIONS"]) for path in event_paths),
            *(Route(f"{base}/raw{version}", self.receive_raw, methods=["POST", "OPTIONS"]) for version in _VERSION),
            *(Route(f"{base}/health{version}", self.report_health, methods=["GET", "OPTIONS"]) for version in _VERSION),
            *(Route(f"{base}/ack{version}", self.refuse_ack, methods=["POST", "OPTIONS"]) for version in _VERSION),
        ]

    async def report_health(self, request: Request) -> Response:
        """Says that the collector is healthy, to anyone, as Splunk does."""
        if request.method == "OPTIONS":
            return Response(headers={"Allow": "GET"})
        return HEALTHY.response()

    async def refuse_ack(self, request: Request) -> Response:
        """Answers that acknowledgement by channel is off: every reply here is one already."""
        if request.method == "OPTIONS":
            return Response(headers={"Allow": "POST"})
        _, refusal = await self._authenticate(request)
        return (refusal or ACK_DISABLED).response()

    async def receive_events(self, request: Request) -> Response:
        """Takes concatenated JSON envelopes."""
        if request.method == "OPTIONS":
            return Response(headers={"Allow": "POST"})
        return await self._receive(request, self._store_events)

    async def receive_raw(self, request: Request) -> Response:
        """Takes text and cuts it into records."""
        if request.method == "OPTIONS":
            return Response(headers={"Allow": "POST"})
        return await self._receive(request, self._store_raw)

    async def _receive(self, request: Request, store: Any) -> Response:
        agent, refusal = await self._authenticate(request)
        arrival = arrival_of(request, PROTOCOL, agent)
        if refusal is not None:
            self._intake.endpoints.refused(arrival, refusal.text)
            return refusal.response()
        try:
            with self._intake.admit(arrival, admitted_size(request, self._limit)):
                body = await read_body(request, self._limit)
                if not body.strip():
                    return NO_DATA.response()
                response: Response = await store(request, arrival, body)
                return response
        except BodyTooLarge:
            return TOO_LARGE.response()
        except UnsupportedEncoding:
            return UNSUPPORTED.response()
        except BrokenBody:
            return INVALID_FORMAT.response()
        except Unavailable:
            return BUSY.response()
        except ElisError:
            return SERVER_ERROR.response()

    async def _store_events(self, request: Request, arrival: Arrival, body: bytes) -> Response:
        query = dict(request.query_params)  # a multi-dict raises and catches an error for each name that it has not
        decoded, problem = await self._intake.decode(len(body), lambda: decode_events(body, query, arrival.agent))
        outcome = await self._take(request, arrival, decoded)
        if problem is not None:
            return _reply_to(problem).response(outcome, **{"invalid-event-number": problem.event_number})
        return SUCCESS.response(outcome)

    async def _store_raw(self, request: Request, arrival: Arrival, body: bytes) -> Response:
        decoded = await self._intake.decode(len(body), lambda: _decode_raw(body, request.query_params, arrival.agent))
        if not len(decoded.batch):
            return NO_DATA.response()
        return SUCCESS.response(await self._take(request, arrival, decoded))

    async def _take(self, request: Request, arrival: Arrival, decoded: HecBatch) -> Outcome:
        key = request.headers.get(IDEMPOTENCY_HEADER, "")
        return await self._intake.take(
            decoded.batch,
            arrival,
            default_system=DEFAULT_SYSTEM,
            systems=decoded.systems,
            environments=decoded.environments,
            formats=decoded.formats,
            idempotency_key=key if _IDEMPOTENCY_KEY.fullmatch(key) else "",
        )

    async def _authenticate(self, request: Request) -> tuple[Agent, Reply | None]:
        header = request.headers.get("authorization")
        if header is None:
            return NOBODY, QUERY_TOKEN if "token" in request.query_params else TOKEN_REQUIRED
        token = parse_authorization(header)
        if token is None:
            return NOBODY, INVALID_AUTHORIZATION
        try:
            state, agent = await self._tokens.verify(token)
        except Unavailable:
            return NOBODY, BUSY
        if state is TokenState.VALID:
            return agent, None
        return NOBODY, TOKEN_DISABLED if state is TokenState.DISABLED else INVALID_TOKEN


def _decode_raw(body: bytes, query: Mapping[str, str], agent: Agent) -> HecBatch:
    """Cuts text into records, by its declared format or the one that it looks like."""
    lines = body.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()
    name = declared_format(query.get("sourcetype", ""))
    log_format = FORMATS[name] if name else detect_format(lines[:50])[0]
    source = agent.source or query.get("source", "") or query.get("sourcetype", "") or agent.name
    batch = Batch()
    for record in log_format.split(lines):
        batch.append(record, source=source, host=query.get("host", ""))
    return HecBatch(batch, [query.get("system", "")] * len(batch), [""] * len(batch), [name] * len(batch))


def _reply_to(problem: HecProblem) -> Reply:
    return Reply(400, problem.text, problem.code)
