"""What OTLP tells exporters: encodings of replies, and errors as google.rpc.Status. Source: reference wire-formats §2."""

from __future__ import annotations

import math
from datetime import timedelta

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from starlette.responses import Response

from kit.errors import DeadlineExceeded, ElisError, InvalidArgument, NotFound, PermissionDenied, RateLimited, Unauthenticated, Unavailable
from services.ingest.receivers.bodies import BodyTooLarge, UnsupportedEncoding

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_HTTP_STATUS: tuple[tuple[type[ElisError], int], ...] = (
    (BodyTooLarge, 413),
    (UnsupportedEncoding, 415),
    (InvalidArgument, 400),
    (Unauthenticated, 401),
    (PermissionDenied, 403),
    (NotFound, 404),
    (RateLimited, 429),  # exporters try again after this and the two below, and after nothing else
    (Unavailable, 503),
    (DeadlineExceeded, 504),
)


def grpc_code(error: ElisError) -> StatusCode:
    """Returns the code of an error. A body that is too large is RESOURCE_EXHAUSTED: final, since it comes without RetryInfo."""
    return StatusCode.RESOURCE_EXHAUSTED if isinstance(error, BodyTooLarge) else error.status


def describe(error: ElisError) -> Status:
    """Returns an error as a message: with RetryInfo when a retry helps, with BadRequest when what was sent is wrong."""
    status = Status(code=grpc_code(error).value[0], message=error.message)
    if isinstance(error, RateLimited | Unavailable):
        delay = Duration()
        delay.FromTimedelta(timedelta(seconds=_retry_after(error)))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    elif isinstance(error, InvalidArgument) and not isinstance(error, BodyTooLarge):
        status.details.add().Pack(BadRequest(field_violations=[BadRequest.FieldViolation(field="body", description=error.message)]))
    return status


def encode(message: Message, content_type: str) -> bytes:
    """Returns a message in the encoding of the request."""
    if content_type == JSON:
        return json_format.MessageToJson(message, indent=None).encode()
    encoded: bytes = message.SerializeToString()
    return encoded


def succeed(message: Message, content_type: str) -> Response:
    """Returns the reply to an export that was taken."""
    return Response(encode(message, content_type), media_type=content_type)


def refuse(error: ElisError, content_type: str) -> Response:
    """Returns the reply to an export that was not taken; it says when to try again if that helps."""
    status = next((status for kind, status in _HTTP_STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": str(max(1, math.ceil(_retry_after(error))))} if status in (429, 503) else None
    return Response(encode(describe(error), content_type), status, headers, content_type)


def _retry_after(error: ElisError) -> float:
    return float(error.detail.get("retry_after", 1.0))
