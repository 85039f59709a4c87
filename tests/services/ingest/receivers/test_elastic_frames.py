"""Documents of `_bulk` whose frame is known: they mean what each of them means by itself."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.receivers.elastic_documents import MAX_MISSED, BulkRequest, decode_bulk
from services.ingest.tokens import Agent

AGENT = Agent("token-1", "shop-agents", "")
ACTION = b'{"create":{}}\n'
STAMP = "2026-11-24T09:00:00.123Z"
LIMIT = 64 * 1024


def decode(*sources: bytes, index: str = "shop", agent: Agent = AGENT) -> BulkRequest:
    return decode_bulk(b"".join(ACTION + source + b"\n" for source in sources), agent, index, LIMIT)


def records(request: BulkRequest) -> list[tuple[Any, ...]]:
    """Returns the records by column, a body that is the document itself as it is after decoding."""
    request.batch.body = [orjson.dumps(orjson.loads(body)).decode() if body.startswith("{") else body for body in request.batch.body]
    return list(zip(*request.batch.columns(), request.environments, strict=True))


def alone(source: bytes) -> list[tuple[Any, ...]]:
    """Returns the record that a document becomes when no frame is cut: as that of an update."""
    return records(decode_bulk(b'{"update":{}}\n{"doc":%s}\n' % source, AGENT, "shop", LIMIT))


@pytest.mark.parametrize(
    "source",
    [
        b'{"@timestamp":"2026-11-24T09:00:00.123Z","message":"one","host":{"name":"web-1"},"log":{"level":"warn","file":{"path":"/a"}}}',
        b'{ "message" : "one", "host": {"name": "web-1"}, "@timestamp" : "2026-11-24T09:00:00.123456Z" }\r',
        b'{"message":"no time"}',
        b'{"message":"no time","@timestamp":null}',
        b'{"message":"odd time","@timestamp":"yesterday"}',
        b'{"message":"odd time","@timestamp":1795510800123}',
        b'{"message":" ","a":1}',
        b'{"a":1}',
        b'{"original":"twice","message":"twice"}',
        b'{"message":"twice","original":"twice","@timestamp":"2026-11-24T09:00:00Z"}',
        b'{"message":"2026-11-24T09:00:00Z","@timestamp":"2026-11-24T09:00:00Z"}',
        b'{"created":"2026-11-24T09:00:00Z","message":"m","@timestamp":"2026-11-24T09:00:00Z"}',
        b'{"error":{"message":"inner"},"message":"inner","level":"error"}',
        b'{"error":{"message":"inner"},"level":"error"}',
        b'{"message":"first","message":"second"}',
        b'{"message":"second","message":0}',
        b'{"message":"a","@timestamp":"2026-11-24T09:00:00Z","@timestamp":"2026-11-24T10:00:00Z"}',
        b'{"message":"a","@timestamp":0,"@timestamp":"2026-11-24T10:00:00Z"}',
        # The text stands around the key, in front of its own place.
        b'{"message":5,"a":1,"message":":1,"}',
        b'{"message":7095081623814,"a":1,"message":":1,"}',
        b'{"message":7.095081623814e12,"a":1,"message":":1,"}',
        b'{"@timestamp":7095081623815,"message":1,"a":1,"message":":1,"}',
        rb'{"me\u0073sage":"\"quoted\" \\ \u00e4 \ud83d\ude00"}',
        '{"message":"größer","host":{"name":"wéb"}}'.encode(),
        b'{"message":"m","data_stream":{"dataset":"nginx.access","namespace":"prod"},"service":{"name":"orders","environment":"test"}}',
        b'{"message":"m","trace":{"id":"%s"},"span.id":"%s"}' % (b"a" * 32, b"B" * 16),
    ],
)
def test_a_document_means_the_same_whether_its_frame_is_new_known_or_not_cut(source: bytes) -> None:
    expected = alone(source)
    for _ in range(2):
        found = decode(source, source)
        assert records(found) == expected * 2
        assert found.rows == [0, 1]


@pytest.mark.parametrize(
    "source",
    [
        b'{"message":"a"} {"message":"a"}',
        b'{"message":"a\tb"}',
        b'{"message":"a","b":NaN}',
        b'{"message":"a","b":01}',
        b'["message","a"]',
        b"",
    ],
)
def test_what_is_no_document_is_refused_and_its_neighbours_are_read(source: bytes) -> None:
    sound = b'{"message":"sound","a":1}'
    found = decode(sound, source, b" ", sound)
    assert found.rows == [0, -1, -1, 1]
    assert records(found) == alone(sound) * 2
    assert set(found.errors) == {1, 2}


@pytest.mark.parametrize("text", [b'"a\xff"', rb'"a\ud800"'])
def test_odd_texts_are_kept_as_far_as_unicode_can_beside_sound_ones(text: bytes) -> None:
    found = decode(b'{"message":"sound"}', b'{"message":%s}' % text, b'{"message":"m","a":%s}' % text)
    assert found.batch.body == ["sound", "a\ufffd", "m"]
    assert found.batch.attributes[2] == {"a": "a\ufffd", "elasticsearch.index": "shop"}


def test_documents_with_one_frame_share_their_attributes() -> None:
    found = decode(*(b'{"@timestamp":"2026-11-24T09:00:00.%03dZ","message":"order %d","host":{"name":"web-1"},"a":1}' % (n, n) for n in range(5)))
    assert {id(attributes) for attributes in found.batch.attributes} == {id(found.batch.attributes[0])}
    assert found.batch.body == [f"order {n}" for n in range(5)]
    assert [stamp % 1_000_000_000 for stamp in found.batch.timestamp] == [n * 1_000_000 for n in range(5)]


def test_what_is_known_of_a_frame_is_known_of_its_index_and_its_token() -> None:
    source = b'{"message":"m","a":1}'
    other = Agent("token-2", "other-agents", "bound")
    assert decode(source, index="one").batch.attributes == [{"a": 1, "elasticsearch.index": "one"}]
    assert decode(source, index="two").batch.attributes == [{"a": 1, "elasticsearch.index": "two"}]
    assert decode(source, index="").batch.source == ["shop-agents"]
    assert decode(source, index="", agent=other).batch.source == ["bound"]


def test_documents_that_have_nothing_in_common_are_read_one_by_one() -> None:
    sources = [orjson.dumps({"@timestamp": STAMP, "message": "m", "log": {"offset": n}}) for n in range(MAX_MISSED + 5)]
    found = decode(*sources)
    assert [attributes and attributes["log"] for attributes in found.batch.attributes] == [{"offset": n} for n in range(len(sources))]


_NAMES = st.sampled_from(["message", "@timestamp", "host", "log", "level", "event", "a"])
_VALUES = st.recursive(
    st.sampled_from(["m", "", " ", STAMP, "2026-11-24T09:00:00Z", "warn", "x\ny", ":1,", ":", ",", '":"', "\\"])
    | st.none()
    | st.integers(0, 2)
    | st.just(7_095_081_623_814)
    | st.just(1_795_510_800),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "message", "level", "dataset"]), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(st.lists(st.tuples(_NAMES, _VALUES), min_size=1, max_size=5), min_size=1, max_size=5))
def test_all_documents_mean_what_each_means_by_itself(documents: list[list[tuple[str, Any]]]) -> None:
    sources = [b"{%s}" % b",".join(b"%s:%s" % (orjson.dumps(name), orjson.dumps(value)) for name, value in members) for members in documents]
    assert records(decode(*sources)) == [record for source in sources for record in alone(source)]
