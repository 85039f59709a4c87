"""Splunk HTTP Event Collector: /services/collector and its relatives, with Splunk's own replies.

Source: reference wire-formats §1 (reply codes, authentication forms, partial batches).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kit.errors import ElisError, RateLimited, Unavailable
from services.ingest.endpoints import Arrival
from services.ingest.groups import Outcome
from services.ingest.intake import Intake
from services.ingest.receivers.bodies import MAX_RECORDS, BodyTooLarge, BrokenBody, UnsupportedEncoding, arrival_of, expected_size, read_body
from services.ingest.receivers.credentials import parse_authorization
from services.ingest.receivers.hec_acks import MAX_PENDING, AckLedger, parse_channel
from services.ingest.receivers.hec_cuts import cut_events
from services.ingest.receivers.hec_events import FORMAT_PARAMETER, IDEMPOTENCY_HEADER, HecBatch, HecProblem, decode_events, decode_raw
from services.ingest.receivers.hec_replies import (
    ACK_DISABLED,
    ACK_UNAVAILABLE,
    BAD_TIME,
    BUSY,
    CHANNEL_INVALID,
    CHANNEL_MISSING,
    HEALTHY,
    INVALID_AUTHORIZATION,
    INVALID_FORMAT,
    INVALID_TOKEN,
    NO_DATA,
    QUERY_TOKEN,
    QUEUES_FULL,
    SERVER_ERROR,
    SUCCESS,
    TOKEN_DISABLED,
    TOKEN_REQUIRED,
    TOO_LARGE,
    UNHEALTHY,
    UNSUPPORTED,
    Reply,
)
from services.ingest.receivers.hec_times import read_query_time
from services.ingest.settings import IngestSettings
from services.ingest.tokens import NOBODY, Agent, TokenBook, TokenState

PROTOCOL = "hec"
DEFAULT_SYSTEM = "splunk"
OWN_DEFAULT_SYSTEM = "application"
"""Of what ELIS's own senders send."""
CHANNEL_HEADER = "x-splunk-request-channel"
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_VERSION = ("", "/1.0")


Store = Callable[[Request, Arrival, str, bytes], Awaitable[Response]]


class _AckQuestion(msgspec.Struct):
    acks: list[int]


_decode_question = msgspec.json.Decoder(_AckQuestion).decode


class HecReceiver:
    """Serves the collector endpoints."""

    def __init__(self, settings: IngestSettings, intake: Intake, tokens: TokenBook, acks: AckLedger) -> None:
        self._limit = settings.max_body_bytes
        self._strict = settings.hec_strict
        self._query_token = settings.hec_query_token
        self._intake = intake
        self._tokens = tokens
        self._acks = acks

    def routes(self) -> list[Route]:
        """Returns the routes of this receiver."""
        base = "/services/collector"
        served = {
            "event": (self.receive_events, "POST"),
            "raw": (self.receive_raw, "POST"),
            "health": (self.report_health, "GET"),
            "ack": (self.answer_acks, "POST"),
        }
        paths = [(base, *served["event"]), *((f"{base}/{name}{version}", *how) for name, how in served.items() for version in _VERSION)]
        return [Route(f"{path}{slash}", answer, methods=[method, "OPTIONS"]) for path, answer, method in paths for slash in ("", "/")]

    async def report_health(self, request: Request) -> Response:
        """Says whether the collector takes events, to anyone, as Splunk does; `?ack=true` asks for acknowledgement too."""
        if request.method == "OPTIONS":
            return Response(headers={"Allow": "GET"})
        full = self._intake.full
        deaf = request.query_params.get("ack", "").lower() in ("1", "true") and not await self._acks.ping()
        if full and deaf:
            return UNHEALTHY.response()
        if deaf:
            return ACK_UNAVAILABLE.response()
        return (QUEUES_FULL if full else HEALTHY).response()

    async def answer_acks(self, request: Request) -> Response:
        """Says which of the asked ids stand for events that are stored."""
        if request.method == "OPTIONS":
            return Response(headers={"Allow": "POST"})
        agent, refusal = await self._authenticate(request)
        if refusal is None and not agent.ack:
            refusal = ACK_DISABLED
        if refusal is not None:
            return refusal.response()
        channel, refusal = _read_channel(request)
        if refusal is not None:
            return refusal.response()
        arrival = arrival_of(request, PROTOCOL, agent)
        return await self._answer(arrival, request, lambda body: self._settle(agent, channel, body), limited=False)

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

    async def _receive(self, request: Request, store: Store) -> Response:
        agent, refusal = await self._authenticate(request)
        arrival = arrival_of(request, PROTOCOL, agent)
        channel = ""
        if refusal is None and agent.ack:
            channel, refusal = _read_channel(request)
        if refusal is not None:
            return self._refuse(arrival, refusal)
        return await self._answer(arrival, request, lambda body: store(request, arrival, channel, body))

    async def _answer(self, arrival: Arrival, request: Request, work: Callable[[bytes], Awaitable[Response]], *, limited: bool = True) -> Response:
        """Returns what the work makes of the body; errors become the replies that clients of the protocol understand."""
        try:
            with self._intake.admit(arrival, 0, expected=expected_size(request, self._limit), limited=limited) as room:
                body = await read_body(request, self._limit, room)
                self._intake.read(arrival, len(body))
                if not body or body.isspace():
                    return self._refuse(arrival, NO_DATA)
                return await work(body)
        except BodyTooLarge:
            return TOO_LARGE.response()
        except UnsupportedEncoding:
            return UNSUPPORTED.response()
        except BrokenBody:
            return INVALID_FORMAT.response()
        except (Unavailable, RateLimited) as error:
            return BUSY.response(retry_after=float(error.detail.get("retry_after", 1.0)))
        except ElisError:
            return SERVER_ERROR.response()

    def _refuse(self, arrival: Arrival, reply: Reply) -> Response:
        self._intake.endpoints.refused(arrival, reply.text)
        return reply.response()

    def _refuse_time(self, arrival: Arrival) -> Response:
        self._intake.endpoints.refused(arrival, "the time in the query is none")
        return BAD_TIME.response(None, **{"invalid-event-number": 0})

    async def _store_events(self, request: Request, arrival: Arrival, channel: str, body: bytes) -> Response:
        query = _read_query(request)
        if read_query_time(query) is None:
            return self._refuse_time(arrival)
        decoded, problem = await self._intake.decode(len(body), lambda: decode_events(body, query, arrival.agent, strict=self._strict))
        decoded = cut_events(decoded)
        if problem is not None:
            outcome = await self._take(request, arrival, decoded)
            self._intake.endpoints.complained(arrival, f"{problem.text} (event {problem.event_number})")
            return _reply_to(problem).response(outcome, **{"invalid-event-number": problem.event_number})
        return await self._acknowledge(request, arrival, channel, decoded)

    async def _store_raw(self, request: Request, arrival: Arrival, channel: str, body: bytes) -> Response:
        query = _read_query(request)
        if read_query_time(query) is None:
            return self._refuse_time(arrival)
        decoded = await self._intake.decode(len(body), lambda: decode_raw(_bounded(body), query, arrival.agent, self._intake.format_of))
        if not len(decoded.batch):
            return self._refuse(arrival, NO_DATA)
        return await self._acknowledge(request, arrival, channel, decoded)

    async def _acknowledge(self, request: Request, arrival: Arrival, channel: str, decoded: HecBatch) -> Response:
        """Stores a batch that is right and returns the success, with an id when the token asks for one."""
        if not channel:
            return SUCCESS.response(await self._take(request, arrival, decoded))
        ack_id = await self._acks.draw(arrival.agent.id, channel)
        try:
            outcome = await self._take(request, arrival, decoded)
        except ElisError:
            with suppress(Unavailable):  # an id that nobody was told; what is left of it goes with the channel
                await self._acks.settle(arrival.agent.id, channel, [ack_id])
            raise
        return SUCCESS.response(outcome, ackId=ack_id)

    async def _settle(self, agent: Agent, channel: str, body: bytes) -> Response:
        try:
            ids = _decode_question(body).acks
        except (msgspec.DecodeError, RecursionError):
            return INVALID_FORMAT.response()
        if not ids or len(ids) > MAX_PENDING:
            return (INVALID_FORMAT if ids else NO_DATA).response()
        settled = await self._acks.settle(agent.id, channel, ids)
        return Response(orjson.dumps({"acks": {str(number): found for number, found in settled.items()}}), media_type="application/json")

    async def _take(self, request: Request, arrival: Arrival, decoded: HecBatch) -> Outcome:
        key = request.headers.get(IDEMPOTENCY_HEADER, "")
        return await self._intake.take(
            decoded.batch,
            arrival,
            default_system=OWN_DEFAULT_SYSTEM if FORMAT_PARAMETER in _read_query(request) else DEFAULT_SYSTEM,
            systems=decoded.systems,
            environments=decoded.environments,
            formats=decoded.formats,
            idempotency_key=key if _IDEMPOTENCY_KEY.fullmatch(key) else "",
        )

    async def _authenticate(self, request: Request) -> tuple[Agent, Reply | None]:
        header = request.headers.get("authorization")
        if header is not None:
            token = parse_authorization(header)
            if token is None:
                return NOBODY, INVALID_AUTHORIZATION
        else:
            token = request.query_params.get("token")
            if token is None:
                return NOBODY, TOKEN_REQUIRED
            if not self._query_token:
                return NOBODY, QUERY_TOKEN
        try:
            state, agent = await self._tokens.verify(token)
        except Unavailable:
            return NOBODY, BUSY
        if state is TokenState.VALID:
            return agent, None
        return NOBODY, TOKEN_DISABLED if state is TokenState.DISABLED else INVALID_TOKEN


def _bounded(body: bytes) -> bytes:
    """Returns a body of text; raises BodyTooLarge when it has too many lines."""
    if len(body) > MAX_RECORDS and body.count(b"\n") > MAX_RECORDS:
        raise BodyTooLarge(f"the request has more than {MAX_RECORDS} lines")
    return body


def _read_query(request: Request) -> dict[str, str]:
    """Returns the query of a request; few have one. A multi-dict raises and catches an error for each name that it has not."""
    return dict(request.query_params) if request.scope["query_string"] else {}


def _read_channel(request: Request) -> tuple[str, Reply | None]:
    """Returns the channel of a request, or why there is none."""
    given = request.headers.get(CHANNEL_HEADER) or request.query_params.get("channel", "")
    if not given:
        return "", CHANNEL_MISSING
    channel = parse_channel(given)
    return ("", CHANNEL_INVALID) if channel is None else (channel, None)


def _reply_to(problem: HecProblem) -> Reply:
    return Reply(400, problem.text, problem.code)
