"""Replies of the HTTP Event Collector. Source: reference wire-formats §1, from Splunk's own table of codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from kit.routes import DirectResponse
from services.ingest.groups import Outcome


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the code table."""

    status: int
    text: str
    code: int

    def response(self, outcome: Outcome | None = None, *, retry_after: float = 1.0, **extra: Any) -> Response:
        """Returns the HTTP response; an outcome goes into headers, since the body is Splunk's.

        `retry_after`, in seconds, is told with a 503 only.
        """
        body = orjson.dumps({"text": self.text, "code": self.code, **extra})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if self.status == 503:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after))))
        if outcome is not None:
            headers += [
                (b"elis-accepted", b"%d" % outcome.accepted),
                (b"elis-duplicates", b"%d" % outcome.duplicates),
                (b"elis-rejected", b"%d" % outcome.rejected),
            ]
        return DirectResponse(self.status, body, headers)


SUCCESS = Reply(200, "Success", 0)
TOKEN_DISABLED = Reply(403, "Token disabled", 1)
TOKEN_REQUIRED = Reply(401, "Token is required", 2)
INVALID_AUTHORIZATION = Reply(401, "Invalid authorization", 3)
INVALID_TOKEN = Reply(403, "Invalid token", 4)
NO_DATA = Reply(400, "No data", 5)
INVALID_FORMAT = Reply(400, "Invalid data format", 6)
SERVER_ERROR = Reply(500, "Internal server error", 8)
BUSY = Reply(503, "Server is busy", 9)
CHANNEL_MISSING = Reply(400, "Data channel is missing", 10)
CHANNEL_INVALID = Reply(400, "Invalid data channel", 11)
ACK_DISABLED = Reply(400, "ACK is disabled", 14)
BAD_TIME = Reply(400, "Error in handling indexed fields", 15)
"""What splunkd says of a time in the query that it cannot read (open-telemetry/opentelemetry-collector-contrib#27008)."""
QUERY_TOKEN = Reply(400, "Query string authorization is not enabled", 16)
HEALTHY = Reply(200, "HEC is healthy", 17)
QUEUES_FULL = Reply(503, "HEC is unhealthy, queues are full", 18)
ACK_UNAVAILABLE = Reply(503, "HEC is unhealthy, ack service unavailable", 19)
UNHEALTHY = Reply(503, "HEC is unhealthy, queues are full, ack service unavailable", 20)
# Splunk answers these two with a page of its web server; the bodies are ELIS', in the form of the others.
TOO_LARGE = Reply(413, "Request entity too large", 6)
UNSUPPORTED = Reply(415, "Unsupported content encoding", 6)
