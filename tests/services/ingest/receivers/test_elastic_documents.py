"""Bodies of `_bulk`, from lines to a batch."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kit.errors import InvalidArgument
from services.ingest.receivers import bodies, elastic_documents
from services.ingest.receivers.bodies import BodyTooLarge
from services.ingest.receivers.elastic_documents import BulkRequest, decode_bulk
from services.ingest.receivers.elastic_fields import MAX_INDEX
from services.ingest.rejections import RejectReason
from services.ingest.tokens import Agent

AGENT = Agent("token-1", "shop-agents", "")
BOUND = Agent("token-2", "shop-agents", "bound")
LIMIT = 64 * 1024
NS = 1_000_000_000

FILEBEAT = {
    "@timestamp": "2026-11-24T09:00:00.123Z",
    "message": "order 42 failed",
    "log": {"level": "error", "offset": 7, "file": {"path": "/var/log/shop.log"}},
    "host": {"name": "web-1", "os": {"type": "linux"}},
    "service": {"name": "orders", "environment": "staging"},
    "trace": {"id": "A" * 32},
    "span": {"id": "b" * 16},
    "agent": {"name": "web-1", "type": "filebeat"},
    "event": {"dataset": "shop.orders"},
}
"""As Filebeat 8 writes it (made up; not from a real system)."""


def bulk(*lines: Any) -> bytes:
    """Returns a body of the lines: bytes as they are, everything else as JSON."""
    return b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines)


def decode(*lines: Any, agent: Agent = AGENT, index: str = "") -> BulkRequest:
    return decode_bulk(bulk(*lines), agent, index, LIMIT)


def one(document: Any, agent: Agent = AGENT, index: str = "logs-app-default") -> dict[str, Any]:
    """Returns the columns of the one record that a document becomes."""
    request = decode({"create": {"_index": index}}, document, agent=agent)
    batch = request.batch
    assert len(batch) == 1
    names = ("source", "body", "timestamp", "severity_number", "severity_text", "host", "service", "attributes", "trace_id", "span_id")
    return {**dict(zip(names, (column[0] for column in batch.columns()), strict=True)), "environment": request.environments[0]}


def test_fields_of_ecs_become_columns_and_the_rest_attributes() -> None:
    assert one(FILEBEAT) == {
        "source": "orders",
        "body": "order 42 failed",
        "timestamp": 1_795_510_800 * NS + 123_000_000,
        "severity_number": 17,
        "severity_text": "error",
        "host": "web-1",
        "service": "orders",
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "environment": "staging",
        "attributes": {
            "log": {"offset": 7, "file": {"path": "/var/log/shop.log"}},
            "host": {"os": {"type": "linux"}},
            "service": {"environment": "staging"},
            "agent": {"name": "web-1", "type": "filebeat"},
            "event": {"dataset": "shop.orders"},
            "elasticsearch.index": "logs-app-default",
        },
    }


@pytest.mark.parametrize("name", ["level", "severity"])
def test_the_levels_of_loggers_are_severities_where_they_are_texts(name: str) -> None:
    found = one({"message": "x", name: "warning"})
    assert (found["severity_number"], found["severity_text"], found["attributes"]) == (13, "warning", {"elasticsearch.index": "logs-app-default"})
    assert one({"message": "x", name: {"of": "concern"}})["attributes"][name] == {"of": "concern"}


def test_dotted_names_are_the_same_fields() -> None:
    document = {"@timestamp": "2026-11-24T09:00:00Z", "message": "m", "log.level": "WARN", "host.name": "h", "service.name": "s", "trace.id": "c" * 32}
    found = one(document)
    assert (found["severity_number"], found["host"], found["service"], found["trace_id"]) == (13, "h", "s", "c" * 32)
    assert found["attributes"] == {"elasticsearch.index": "logs-app-default"}


@pytest.mark.parametrize(
    ("document", "body"),
    [
        ({"log": "from a container", "stream": "stdout"}, "from a container"),
        ({"event": {"original": "as it was"}}, "as it was"),
        ({"msg": "short"}, "short"),
        ({"message": 17, "a": 1}, '{"message":17,"a":1}'),
        ({"message": " ", "a": 1}, '{"message":" ","a":1}'),
        ({"a": 1}, '{"a":1}'),
        ({}, "{}"),
    ],
)
def test_the_body_is_the_message_or_what_stands_for_it(document: Any, body: str) -> None:
    assert one(document)["body"] == body


@pytest.mark.parametrize(
    ("stamp", "nanoseconds"),
    [
        ("2026-11-24T09:00:00.123456789Z", 1_795_510_800_123_456_789),
        ("2026-11-24T10:00:00.5+01:00", 1_795_510_800_500_000_000),
        ("2026-11-24T09:00:00", 1_795_510_800_000_000_000),
        (1_795_510_800_123, 1_795_510_800_123_000_000),
    ],
)
def test_times_are_read_in_the_forms_that_agents_write(stamp: Any, nanoseconds: int) -> None:
    assert one({"@timestamp": stamp, "message": "m"})["timestamp"] == nanoseconds


@pytest.mark.parametrize("stamp", ["yesterday", "9999-12-31T23:59:59.999Z", "1969-01-01T00:00:00.000Z", -5, 1e300, True, [1], {"a": 1}, ""])
def test_what_is_no_time_stays_an_attribute(stamp: Any) -> None:
    found = one({"@timestamp": stamp, "message": "m"})
    assert found["timestamp"] == 0
    assert found["attributes"]["@timestamp"] == stamp


@pytest.mark.parametrize(
    ("document", "index", "source", "environment"),
    [
        ({"service": {"name": "orders"}, "data_stream": {"dataset": "d"}}, "i", "orders", ""),
        ({"data_stream": {"dataset": "nginx.access", "namespace": "prod"}}, "i", "nginx.access", "prod"),
        ({"data_stream": {"dataset": "generic", "namespace": "default"}}, "logs-generic-default", "logs-generic-default", ""),
        ({"event": {"dataset": "apache.error"}}, "filebeat-9.2.0", "apache.error", ""),
        ({}, "logs-nginx.access-prod", "nginx.access", "prod"),
        ({}, "filebeat-9.2.0-2026.11.24-000001", "filebeat", ""),
        ({}, "logstash-2026.11.24", "logstash", ""),
        ({}, "app-2026.11", "app", ""),
        ({}, "2026.11.24", "2026.11.24", ""),
        ({}, "", "shop-agents", ""),
    ],
)
def test_the_source_is_the_most_telling_name(document: Any, index: str, source: str, environment: str) -> None:
    found = one({"message": "m", **document}, index=index)
    assert (found["source"], found["environment"]) == (source, environment)


def test_a_token_that_is_bound_to_a_source_names_it() -> None:
    assert one(FILEBEAT, agent=BOUND)["source"] == "bound"


def test_ids_recognise_documents_and_an_update_also_by_what_it_says() -> None:
    request = decode(
        {"create": {"_index": "a", "_id": "1"}},
        {"message": "x"},
        {"index": {"_index": "a", "_id": 1}},
        {"message": "y"},
        {"update": {"_index": "a", "_id": "1"}},
        {"doc": {"message": "z"}, "doc_as_upsert": True},
        {"update": {"_index": "a", "_id": "1"}},
        {"doc": {"message": "z2"}},
        {"create": {"_index": "b", "_id": "1"}},
        {"message": "x"},
        {"create": {"_index": "a"}},
        {"message": "x"},
    )
    keys = request.keys
    assert keys[0] == keys[1]
    assert len(set(keys[1:5])) == 4
    assert keys[5] == ""
    assert request.batch.body == ["x", "y", "z", "z2", "x", "x"]
    assert request.record_keys == keys
    assert decode({"index": {}}, {"a": 1}).record_keys is None


def test_bad_lines_are_answered_and_kept_and_cost_no_neighbour() -> None:
    request = decode(
        {"create": {}},
        {"message": "first"},
        b"not an action",
        {"create": {}},
        b'{"message": "broken',
        {"create": {}},
        ["not", "an", "object"],
        {"delete": {"_id": "4"}},
        {"update": {"_id": "5"}},
        {"script": {"source": "ctx._source.a = 1"}},
        {"create": {}},
        {"create": {}},
        {"message": "last"},
        {"index": {}},
        index="i",
    )
    assert request.batch.body == ["first", "last"]
    assert request.rows == [0, -1, -1, -1, -1, -1, -1, 1, -1]
    assert sorted(request.errors) == [1, 2, 3, 4, 5, 6, 8]
    assert [action.name for action in request.actions] == ["create", "index", "create", "create", "delete", "update", "create", "create", "index"]
    assert [rejection.raw for rejection in request.rejections] == [
        b"not an action",
        b'{"message": "broken',
        b'["not","an","object"]',
        b'{"script":{"source":"ctx._source.a = 1"}}',
    ]
    assert {rejection.reason for rejection in request.rejections} == {RejectReason.INVALID_DOCUMENT}
    assert {rejection.source for rejection in request.rejections} == {"i"}


def test_the_name_of_an_index_is_bounded() -> None:
    request = decode({"create": {"_index": "a" * 300}}, {"message": "x"}, {"create": {}}, {"message": "y"}, index="b" * 300)
    assert [action.index for action in request.actions] == ["a" * MAX_INDEX, "b" * MAX_INDEX]
    assert [attributes and attributes["elasticsearch.index"] for attributes in request.batch.attributes] == ["a" * MAX_INDEX, "b" * MAX_INDEX]


def test_a_line_that_is_no_action_takes_its_document_along() -> None:
    request = decode({"upsert": {}}, {"message": "its document"}, {"index": {}}, {"message": "kept"})
    assert request.batch.body == ["kept"]
    assert [rejection.raw for rejection in request.rejections] == [b'{"upsert":{}}\n{"message":"its document"}']


def test_further_members_of_an_action_line_are_ignored_and_a_document_that_looks_like_one_is_a_document() -> None:
    # winston-elasticsearch 0.19 counts its attempts in the action line.
    attempt = {"index": {"_index": "logs-2026.11.24", "pipeline": None}, "attempts": 2}
    request = decode(attempt, {"message": "first"}, attempt, {"index": {"_index": "a document"}, "message": "second"})
    assert (request.batch.body, request.errors) == (["first", "second"], {})
    assert [action.index for action in request.actions] == ["logs-2026.11.24"] * 2


@pytest.mark.parametrize("document", [b'{"delete":{"table":"orders","id":5}}', b'{"update":null}', b'{"index":{"_index":"i","name":"dax"}}', b'{"create":"x"}'])
def test_a_document_whose_one_member_is_called_like_an_action_is_a_document(document: bytes) -> None:
    request = decode({"index": {}}, document, {"create": {}}, document, index="i")
    assert ([action.name for action in request.actions], request.errors) == (["index", "create"], {})
    assert request.batch.body == [document.decode()] * 2


def test_an_action_is_missed_whatever_the_next_one_says() -> None:
    request = decode({"index": {}}, {"create": {"_index": "i", "_id": "1", "_type": "_doc", "routing": "r", "require_alias": False}}, {"message": "kept"})
    assert (request.batch.body, list(request.errors)) == (["kept"], [0])


def test_documents_that_cannot_be_used_are_accepted_and_kept() -> None:
    deep: Any = 1
    for _ in range(70):
        deep = {"a": deep}
    request = decode({"index": {}}, deep, {"index": {}}, {"message": "x" * (LIMIT + 1)}, {"index": {}}, {"message": "kept"})
    assert request.errors == {}
    assert request.rows == [-1, -1, 0]
    assert [rejection.reason for rejection in request.rejections] == [RejectReason.INVALID_DOCUMENT, RejectReason.RECORD_TOO_LARGE]


@pytest.mark.parametrize("body", [b"", b"\n\n", b"nonsense\nmore\n", b'{"message":"a"}\n{"message":"b"}\n', b"[]\n", b"\x00\xff\n"])
def test_a_body_without_an_action_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_bulk(body, AGENT, "i", LIMIT)


@pytest.mark.parametrize("ending", [b"\n", b"", b"\r\n", b"\n\n \n"])
def test_line_ends_may_be_missing_or_of_another_system(ending: bytes) -> None:
    request = decode_bulk(b'\xef\xbb\xbf\n{"index":{}}\r\n{"message":"a"}' + ending, AGENT, "i", LIMIT)
    assert request.batch.body == ["a"]
    assert request.errors == {}


@pytest.mark.parametrize(
    ("source", "body"),
    [
        (b'{"message":"caf\xe9"}', "caf\ufffd"),
        (b'{"message":"half \\ud83d"}', "half \ufffd"),
        (b'{"message":"nul \\u0000 \\r\\n \\u001b[31m"}', "nul \x00 \r\n \x1b[31m"),
        (b'{"message":"first","message":"second"}', "second"),
    ],
)
def test_odd_texts_are_kept_as_far_as_unicode_can(source: bytes, body: str) -> None:
    assert decode({"index": {}}, source).batch.body == [body]


@pytest.mark.parametrize("source", [b'{"a":NaN}', b'{"a":1e400}', b'{"a":' * 40_000, b'{"a":Infinity}', b'{"a":"\x00"}', b'{"a":1}{"b":2}'])
def test_what_is_no_json_is_an_error_of_its_item(source: bytes) -> None:
    request = decode_bulk(bulk({"index": {}}, source, {"index": {}}, {"message": "kept"}), AGENT, "i", 1024 * 1024)
    assert list(request.errors) == [0]
    assert request.batch.body == ["kept"]


def test_large_numbers_can_be_stored() -> None:
    attributes = one({"message": "m", "a": 2**64 - 1, "b": -(2**63)})["attributes"]
    assert (attributes["a"], attributes["b"]) == (2**64 - 1, -(2**63))
    assert decode({"index": {}}, b'{"message":"m","a":123456789012345678901234567890}').batch.attributes[0] == {"a": pytest.approx(1.2345678901234568e29)}


def test_a_document_may_have_very_many_fields() -> None:
    document = {f"f{number}": number for number in range(100_000)}
    request = decode_bulk(bulk({"index": {}}, document), AGENT, "i", 32 * 1024 * 1024)
    attributes = request.batch.attributes[0]
    assert attributes is not None
    assert len(attributes) == 100_001


def test_the_number_of_actions_and_objects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic_documents, "MAX_ACTIONS", 10)
    with pytest.raises(BodyTooLarge):
        decode(*([{"index": {}}, {}] * 11))
    with pytest.raises(BodyTooLarge):
        decode(*([{"delete": {}}] * 11))
    monkeypatch.setattr(elastic_documents, "MAX_ACTIONS", 100)
    monkeypatch.setattr(elastic_documents, "MAX_REJECTED", 10)
    assert len(decode(*([{"index": {}}, b"{"] * 10)).rejections) == 10
    with pytest.raises(BodyTooLarge):
        decode(*([{"index": {}}, b"{"] * 11))
    monkeypatch.setattr(bodies, "MAX_CONTAINERS", 50)
    with pytest.raises(BodyTooLarge):
        decode({"index": {}}, {"a": [{}] * 60})


LINES = st.one_of(
    st.sampled_from(
        [b'{"index":{}}', b'{"create":{"_id":"1"}}', b'{"update":{"_id":"2"}}', b'{"delete":{"_id":"3"}}', b"", b" ", b"\r", b'{"index":', b"null"]
    ),
    st.sampled_from(
        [b'{"message":"m"}', b'{"doc":{"a":1}}', b"[1]", b'"text"', b'{"@timestamp":-1,"host":[],"service":{"name":1},"log":"x","trace":{"id":{}}}']
    ),
    st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")),
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["message", "host", "name", "log", "level", "a.b", "@timestamp"]), inner),
        max_leaves=8,
    ).map(orjson.dumps),
)


@given(st.lists(LINES, max_size=12))
@example([b'{"index":{}}'])
@example([b'{"update":{"_id":"2"}}', b'{"doc":5}'])
def test_any_body_is_refused_or_every_action_accounted_for(lines: list[bytes]) -> None:
    body = b"\n".join(lines)
    try:
        request = decode_bulk(body, AGENT, "i", LIMIT)
    except InvalidArgument:
        return
    stored = [row for row in request.rows if row >= 0]
    assert stored == list(range(len(request.batch)))
    assert len({len(column) for column in request.batch.columns()}) == 1
    assert len(request.environments) == len(request.keys) == len(request.batch)
    assert len(request.actions) == len(request.rows)
    for number, row in enumerate(request.rows):
        assert row >= 0 or number in request.errors or request.rejections
    assert all(request.batch.source)
    orjson.dumps(request.batch.columns())
