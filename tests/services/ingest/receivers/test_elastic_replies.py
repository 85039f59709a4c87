"""Replies of `_bulk` as raw bytes, the way clients look at them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kit.errors import DeadlineExceeded, Internal, InvalidArgument, PermissionDenied, RateLimited, Unauthenticated, Unavailable
from services.ingest.groups import Outcome
from services.ingest.receivers.bodies import BodyTooLarge
from services.ingest.receivers.elastic_documents import BulkRequest, decode_bulk
from services.ingest.receivers.elastic_replies import bulk_reply, error_reply, json_reply
from services.ingest.tokens import Agent

AGENT = Agent("token-1", "agents", "")
LOGSTASH = "errors,items.*.error,items.*.status"
BEATS = "errors,items.*.error,items.*.status,items.*.failure_store"


def request_of(*lines: bytes) -> BulkRequest:
    return decode_bulk(b"\n".join(lines) + b"\n", AGENT, "x", 1_000_000)


TWO = request_of(b'{"create":{}}', b'{"a":1}', b'{"create":{}}', b'{"a":2}')
WITH_IDS = request_of(b'{"index":{"_id":"1"}}', b'{"a":1}', b'{"index":{"_id":"2"}}', b'{"a":2}')
WITH_ERROR = request_of(b'{"create":{}}', b'{"a":1}', b'{"create":{}}', b"{")


def test_a_success_is_compact_with_errors_before_items() -> None:
    item = b'{"create":{"_index":"x","status":201}}'
    assert bulk_reply(TWO, Outcome(2, 0, 0), 3) == b'{"took":3,"errors":false,"items":[' + item + b"," + item + b"]}"


def test_an_error_shows_in_the_raw_text_and_in_its_item() -> None:
    raw = bulk_reply(WITH_ERROR, Outcome(1, 0, 1), 3)
    assert b'"errors":true,"items":[' in raw
    first, second = orjson.loads(raw)["items"]
    assert first["create"]["status"] == 201
    assert second["create"]["status"] == 400
    assert second["create"]["error"]["type"] == "document_parsing_exception"


def test_items_with_errors_are_told_apart() -> None:
    request = request_of(
        b'{"delete":{"_id":"1"}}', b'{"delete":{"_id":"2"}}', b'{"delete":{}}', b'{"create":{"_id":"3"}}', b"{", b'{"create":{"_id":"4"}}', b"["
    )
    items = orjson.loads(bulk_reply(request, Outcome(0, 0, 2), 0))["items"]
    assert [(name, item.get("_id"), item["status"]) for entry in items for name, item in entry.items()] == [
        ("delete", "1", 400),
        ("delete", "2", 400),
        ("delete", None, 400),
        ("create", "3", 400),
        ("create", "4", 400),
    ]
    reasons = [item["error"]["reason"] for entry in items for item in entry.values()]
    assert reasons[0] == reasons[1] == reasons[2] != reasons[3]
    named = orjson.loads(bulk_reply(request, Outcome(0, 0, 2), 0, "items.*._id,items.*.error.type"))["items"]
    assert named[:3:2] == [
        {"delete": {"_id": "1", "error": {"type": "illegal_argument_exception"}}},
        {"delete": {"error": {"type": "illegal_argument_exception"}}},
    ]


def test_recognised_documents_are_200() -> None:
    assert [item["create"]["status"] for item in orjson.loads(bulk_reply(TWO, Outcome(0, 2, 0), 0))["items"]] == [200, 200]
    items = orjson.loads(bulk_reply(WITH_IDS, Outcome(1, 1, 0, frozenset({1})), 0))["items"]
    assert [(item["index"]["_id"], item["index"]["status"]) for item in items] == [("1", 201), ("2", 200)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (LOGSTASH, b'{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}'),
        (BEATS, b'{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}'),
        ("errors", b'{"errors":false}'),
        ("took,items.*.error", b'{"took":7}'),
        ("**.status", b'{"items":[{"create":{"status":201}},{"create":{"status":201}}]}'),
        ("items.create._index", b'{"items":[{"create":{"_index":"x"}},{"create":{"_index":"x"}}]}'),
        ("-took", b'{"took":7,"errors":false,"items":[{"create":{"_index":"x","status":201}},{"create":{"_index":"x","status":201}}]}'),
        ("nothing.like.it", b"{}"),
    ],
)
def test_a_filter_path_leaves_what_it_names(path: str, expected: bytes) -> None:
    assert bulk_reply(TWO, Outcome(2, 0, 0), 7, path) == expected


def test_a_filter_path_keeps_errors_in_the_place_of_their_items() -> None:
    raw = bulk_reply(WITH_ERROR, Outcome(1, 0, 1), 3, LOGSTASH)
    assert raw.startswith(b'{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":400,"error":{"type":')
    assert [sorted(item["create"]) for item in orjson.loads(raw)["items"]] == [["status"], ["error", "status"]]
    only_errors = orjson.loads(bulk_reply(WITH_ERROR, Outcome(1, 0, 1), 3, "items.*.error.type"))
    assert only_errors == {"items": [{"create": {"error": {"type": "document_parsing_exception"}}}]}


@pytest.mark.parametrize("path", ["a," * 40, "a" * 1_001])
def test_a_filter_path_is_bounded(path: str) -> None:
    with pytest.raises(InvalidArgument):
        bulk_reply(TWO, Outcome(2, 0, 0), 0, path)


def test_a_filter_path_that_leads_to_everything_in_many_ways_costs_no_more_for_it() -> None:
    # Without care there are 300 * 300 * 300 * 300 ways.
    assert json_reply({"a": {"b": {"c": {"d": 1, "e": 2}}}}, "**." * 300 + "d").body == b'{"a":{"b":{"c":{"d":1}}}}'


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (RateLimited("slow down", retry_after=2.5), 429, "es_rejected_execution_exception"),
        (Unavailable("busy", retry_after=1.0), 429, "es_rejected_execution_exception"),
        (DeadlineExceeded("late"), 429, "es_rejected_execution_exception"),
        (Unauthenticated("who"), 401, "security_exception"),
        (PermissionDenied("no"), 403, "security_exception"),
        (BodyTooLarge("large"), 413, "content_too_long_exception"),
        (InvalidArgument("bad"), 400, "illegal_argument_exception"),
        (Internal("oops"), 500, "exception"),
    ],
)
def test_errors_have_the_shape_of_elasticsearch(error: Any, status: int, kind: str) -> None:
    response = error_reply(error)
    cause = {"type": kind, "reason": error.message}
    assert (response.status_code, orjson.loads(bytes(response.body))) == (status, {"error": {"root_cause": [cause], **cause}, "status": status})
    assert response.headers["x-elastic-product"] == "Elasticsearch"
    assert ("retry-after" in response.headers) == (status == 429)


def test_a_wait_is_told_in_whole_seconds() -> None:
    assert error_reply(RateLimited("slow down", retry_after=2.5)).headers["retry-after"] == "3"


def test_lists_are_looked_into() -> None:
    content = {"a": [{"b": 1, "c": 2}, {"c": 3}], "d": 4}
    assert orjson.loads(bytes(json_reply(content, "a.b,d").body)) == {"a": [{"b": 1}], "d": 4}
