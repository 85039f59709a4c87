"""Documents are the canonical lines with times of the day, and what is no canonical line is left out."""

from __future__ import annotations

import orjson
import pytest

from services.search.engine import DAY
from services.search.engines.tantivy.documents import make_documents
from services.search.engines.tantivy.schema import TEXT_MARK
from tests.services.search.corpus import make_line


def make_content(*lines: bytes) -> bytes:
    return b"".join(line + b"\n" for line in lines)


@pytest.mark.parametrize("time", [20_000 * DAY, 20_000 * DAY + 5, 20_001 * DAY - 1, 5, -1, 19_999 * DAY])
def test_only_the_timestamp_is_written_anew(time: int) -> None:
    line = make_line(7 << 20, timestamp=time, body='ä ,"timestamp":1,"observed_at":', attributes={"a": [1, "x"]})
    documents = make_documents(make_content(line), 20_000)
    expected = orjson.loads(line)
    expected["timestamp"] = time - 20_000 * DAY
    assert [orjson.loads(text) for text in documents.texts] == [expected]
    assert (documents.timestamps, documents.refused) == ([time], 0)


def test_heads_of_different_lengths_are_told_apart() -> None:
    events = [(9, 999), (10, 1_000), (10, 999), (11, 10**18)]
    content = make_content(*(make_line(event_id, timestamp=time) for event_id, time in events))
    documents = make_documents(content, 0)
    assert [(text["event_id"], text["timestamp"]) for text in map(orjson.loads, documents.texts)] == events
    assert documents.timestamps == [time for _, time in events]


def test_lines_that_are_not_canonical_are_counted_and_left_out() -> None:
    good = make_line(1, timestamp=5)
    bad = [b"", b"\xff", b'{"event_id":1,"timestamp":"5"}', b'{"timestamp":5}', good.replace(b'"timestamp":', b'"timestamp": '), b"[1]"]
    for content in (make_content(good, *bad, good), make_content(*bad, good, good)):
        documents = make_documents(content, 0)
        assert [orjson.loads(text)["timestamp"] for text in documents.texts] == [5, 5]
        assert (documents.timestamps, documents.refused) == ([5, 5], len(bad))
    nothing = make_documents(b"\n", 0)
    assert (list(nothing.texts), nothing.timestamps, nothing.refused) == ([], [], 1)


@pytest.mark.parametrize("other", [b"", b"\xff"])
def test_texts_that_look_like_times_are_marked(other: bytes) -> None:
    dated = make_line(2, timestamp=5, body="2026-01-01", attributes={"at": "2026-01-01T00:00:00Z", "deep": [{"on": "2026-01-01"}], "no": "x 2026-01-01"})
    content = make_content(make_line(1, timestamp=5), dated, *([other] if other else []))
    plain, marked = map(orjson.loads, make_documents(content, 0).texts)
    assert plain == orjson.loads(make_line(1, timestamp=5))
    assert marked["body"] == "2026-01-01"
    assert marked["attributes"] == {"at": TEXT_MARK + "2026-01-01T00:00:00Z", "deep": [{"on": TEXT_MARK + "2026-01-01"}], "no": "x 2026-01-01"}


def test_documents_of_a_source_follow_each_other() -> None:
    dated = {"at": "2026-01-01"}
    events = [(1, "web", {}), (2, "database", dated), (3, "web", dated), (4, "database", {})]
    content = make_content(*(make_line(number, timestamp=number, source=source, attributes=attributes) for number, source, attributes in events))
    documents = make_documents(content, 0)
    texts = [orjson.loads(text) for text in documents.texts]
    assert [(text["event_id"], text["timestamp"], text["source"]) for text in texts] == [(2, 2, "database"), (4, 4, "database"), (1, 1, "web"), (3, 3, "web")]
    assert [text.get("attributes") for text in texts] == [{"at": TEXT_MARK + "2026-01-01"}, None, None, {"at": TEXT_MARK + "2026-01-01"}]
