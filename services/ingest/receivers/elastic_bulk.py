"""Elasticsearch `_bulk`, as Filebeat, Logstash, Fluent Bit and Vector send it. Source: reference wire-formats §3.

A request is stored or refused as a whole: what a retry may help with is 429 for all of it, and an item only ever has an error
that is final. So no agent, however it reads items, sends again what was stored or drops what was not.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kit.errors import ElisError
from services.ingest.intake import Intake
from services.ingest.receivers.bodies import UnsupportedEncoding, arrival_of, expected_size, read_body
from services.ingest.receivers.credentials import authenticate
from services.ingest.receivers.elastic_documents import decode_bulk
from services.ingest.receivers.elastic_replies import MEDIA_TYPE, PRODUCT, bulk_reply, error_reply, parse_filter
from services.ingest.settings import IngestSettings
from services.ingest.tokens import NOBODY, TokenBook

PROTOCOL = "bulk"
DEFAULT_SYSTEM = "application"
MEDIA_TYPES: Final = (
    "application/json",
    "application/x-ndjson",
    "application/vnd.elasticsearch+json",
    "application/vnd.elasticsearch+x-ndjson",
    "",
)
"""Content types of a body; the last is that of a client that names none."""
INLINE_ACTIONS: Final = 20_000
"""Actions of which the reply is written on the event loop: handing them over would cost more."""


class ElasticBulkReceiver:
    """Serves /_bulk and /{index}/_bulk."""

    def __init__(self, settings: IngestSettings, intake: Intake, tokens: TokenBook) -> None:
        self._limit = settings.max_body_bytes
        self._max_record_bytes = settings.max_record_bytes
        self._intake = intake
        self._tokens = tokens

    def routes(self) -> list[Route]:
        """Returns the routes of this receiver."""
        return [Route(path, self.receive, methods=["POST", "PUT"]) for path in ("/_bulk", "/_bulk/", "/{index}/_bulk", "/{index}/_bulk/")]

    async def receive(self, request: Request) -> Response:
        """Takes a bulk request; the reply follows the commit."""
        started = time.monotonic()
        try:
            agent = await authenticate(request.headers.get("authorization"), self._tokens)
        except ElisError as error:
            self._intake.endpoints.refused(arrival_of(request, PROTOCOL, NOBODY), error.message)
            return error_reply(error)
        arrival = arrival_of(request, PROTOCOL, agent)
        index = request.path_params.get("index", "")
        filter_path = request.query_params.get("filter_path", "")
        try:
            with self._intake.admit(arrival, 0, expected=expected_size(request, self._limit)) as room:
                _check_media_type(request)
                parse_filter(filter_path)  # a bad one must not come up after the commit
                body = await read_body(request, self._limit, room)
                self._intake.read(arrival, len(body))
                bulk = await self._intake.decode(len(body), lambda: decode_bulk(body, agent, index, self._max_record_bytes))
                outcome = await self._intake.take(
                    bulk.batch,
                    arrival,
                    default_system=DEFAULT_SYSTEM,
                    environments=bulk.environments,
                    record_keys=bulk.record_keys,
                    rejections=bulk.rejections,
                )
        except ElisError as error:
            return error_reply(error)
        if bulk.errors:
            self._intake.endpoints.complained(arrival, next(iter(bulk.errors.values())).reason)
        took = int((time.monotonic() - started) * 1_000)
        reply = partial(bulk_reply, bulk, outcome, took, filter_path)
        return Response(reply() if len(bulk.actions) <= INLINE_ACTIONS else await asyncio.to_thread(reply), 200, PRODUCT, MEDIA_TYPE)


def _check_media_type(request: Request) -> None:
    given = request.headers.get("content-type", "")
    media_type = given.partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise UnsupportedEncoding(f"Content-Type header [{given[:60]}] is not supported")
