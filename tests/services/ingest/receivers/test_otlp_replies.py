"""What exporters are told, in the terms that make them retry or give up."""

from __future__ import annotations

import json

import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from kit.errors import DeadlineExceeded, ElisError, Internal, InvalidArgument, NotFound, PermissionDenied, RateLimited, Unauthenticated, Unavailable
from services.ingest.receivers.bodies import BodyTooLarge, BrokenBody, UnsupportedEncoding
from services.ingest.receivers.otlp_replies import JSON, PROTOBUF, describe, grpc_code, refuse

RETRYABLE_HTTP = {429, 502, 503, 504}


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (RateLimited("too many events", retry_after=2.5), 429, StatusCode.RESOURCE_EXHAUSTED, "3"),
        (Unavailable("busy", retry_after=1.0), 503, StatusCode.UNAVAILABLE, "1"),
        (DeadlineExceeded("late"), 504, StatusCode.DEADLINE_EXCEEDED, None),
        (InvalidArgument("wrong"), 400, StatusCode.INVALID_ARGUMENT, None),
        (BrokenBody("broken gzip"), 400, StatusCode.INVALID_ARGUMENT, None),
        (UnsupportedEncoding("brotli"), 415, StatusCode.INVALID_ARGUMENT, None),
        (BodyTooLarge("large"), 413, StatusCode.RESOURCE_EXHAUSTED, None),
        (Unauthenticated("nobody"), 401, StatusCode.UNAUTHENTICATED, None),
        (PermissionDenied("unknown token"), 403, StatusCode.PERMISSION_DENIED, None),
        (NotFound("metrics"), 404, StatusCode.NOT_FOUND, None),
        (Internal("internal error"), 500, StatusCode.INTERNAL, None),
    ],
)
def test_each_error_has_its_status_on_both_transports(error: ElisError, status: int, code: StatusCode, retry_after: str | None) -> None:
    assert grpc_code(error) is code
    for content_type in (PROTOBUF, JSON):
        response = refuse(error, content_type)
        assert (response.status_code, response.headers["content-type"], response.headers.get("retry-after")) == (status, content_type, retry_after)
        body = bytes(response.body)
        told = json.loads(body) if content_type == JSON else Status.FromString(body)
        assert (told["message"] if isinstance(told, dict) else told.message) == error.message
    assert (status in RETRYABLE_HTTP) == isinstance(error, RateLimited | Unavailable | DeadlineExceeded)


@pytest.mark.parametrize("error", [RateLimited("slow down", retry_after=2.5), Unavailable("busy", retry_after=2.5)])
def test_what_is_worth_a_retry_says_when(error: ElisError) -> None:
    [detail] = describe(error).details
    retry = RetryInfo()
    assert detail.Unpack(retry)
    assert retry.retry_delay.ToTimedelta().total_seconds() == 2.5


def test_bad_data_is_described_and_what_is_too_large_has_no_detail() -> None:
    [detail] = describe(InvalidArgument("no such message")).details
    bad = BadRequest()
    assert detail.Unpack(bad)
    assert [violation.description for violation in bad.field_violations] == ["no such message"]
    assert not describe(BodyTooLarge("too large")).details
