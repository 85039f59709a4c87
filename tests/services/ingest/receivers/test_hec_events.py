"""Envelopes of the HTTP Event Collector."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.receivers import bodies, hec_events
from services.ingest.receivers.bodies import BodyTooLarge
from services.ingest.receivers.hec_events import decode_events, decode_raw
from services.ingest.receivers.hec_times import parse_time, read_query_time
from services.ingest.tokens import Agent

AGENT = Agent("t", "agent", "")


def decode(body: str | bytes, agent: Agent = AGENT, **query: str) -> Any:
    """Decodes a body; returns the batch, and (code, event number) of the problem."""
    decoded, problem = decode_events(body.encode() if isinstance(body, str) else body, query, agent)
    return decoded, (problem.code, problem.event_number) if problem else None


@pytest.mark.parametrize("separator", ["", "\n", " ", "\r\n\r\n", "\t"])
def test_concatenated_envelopes_are_read_whatever_is_between_them(separator: str) -> None:
    decoded, problem = decode(separator.join(['{"event":"a}{"}', '{"event":{"b":1}}', '{"event":3}']))
    assert problem is None
    assert decoded.batch.body == ["a}{", '{"b":1}', "3"]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1433188255", 1433188255 * 10**9),
        ("1433188255.253", 1433188255_253_000_000),
        ('"1433188255.253123456"', 1433188255_253_123_456),
        ("1433188255253", 1433188255_253_000_000),
        ("1433188255253123", 1433188255_253_123_000),
        ("1433188255253123456", 1433188255_253_123_456),
        ("1.433188255e9", 1433188255 * 10**9),
        ("1.4331882552530001e+09", 1433188255_253_000_000),
        ("1.433188255253e12", 1433188255_253_000_000),
    ],
)
def test_a_time_is_read_to_the_last_digit(text: str, nanoseconds: int) -> None:
    assert parse_time(text.encode()) == nanoseconds


@pytest.mark.parametrize("time", ['"yesterday"', "-5", "1e400", "null", "[]", "true", '""'])
def test_a_time_that_is_none_is_invalid_data(time: str) -> None:
    _, problem = decode(f'{{"event":"a"}}{{"time":{time},"event":"b"}}')
    assert problem == (6, 1)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('{"event":"a"}{"event":""}', (13, 1)),
        ('{"event":"a"}{"host":"h"}', (12, 1)),
        ('{"event":"a"}{"event":null}', (12, 1)),
        ('{"event":"a","fields":{"x":{"y":1}}}', (15, 0)),
        ('{"event":"a"}{"event":', (6, 1)),
        ('{"event":"a"}[1]', (6, 1)),
        ('{"event":"a"}{"event":"b","host":5}', (6, 1)),
        ("nonsense", (6, 0)),
    ],
)
def test_the_first_bad_envelope_is_named_and_those_before_it_are_kept(body: str, problem: tuple[int, int]) -> None:
    decoded, found = decode(body)
    assert found == problem
    assert decoded.batch.body == ["a"] * problem[1]


@given(st.lists(st.sampled_from(['{"event":"a"}', '{"event":" "}', '{"host":"h"}', '{"event":1,"time":"x"}', '{"event":1,"fields":[]}']), max_size=12))
def test_whatever_follows_the_first_bad_envelope_changes_nothing(envelopes: list[str]) -> None:
    alone = [decode(envelope)[1] for envelope in envelopes]
    sound = next((number for number, problem in enumerate(alone) if problem), len(alone))
    decoded, problem = decode("".join(envelopes))
    assert decoded.batch.body == ["a"] * sound
    assert problem == next(((found[0], sound) for found in alone if found), None)


def test_metadata_comes_from_the_envelope_then_from_the_query() -> None:
    decoded, _ = decode('{"event":"a","host":"h1","source":"s1"}{"event":"b"}', host="h2", source="s2", sourcetype="hana_trace")
    assert decoded.batch.source == ["s1", "s2"]
    assert decoded.batch.host == ["h1", "h2"]
    assert decoded.formats == ["hana_trace", "hana_trace"]


def test_a_bound_token_names_the_source() -> None:
    decoded, _ = decode('{"event":"a","source":"mine"}', Agent("t", "agent", "theirs"))
    assert decoded.batch.source == ["theirs"]
    assert decoded.batch.attributes == [{"splunk.source": "mine"}]


def test_fields_declare_system_environment_and_service() -> None:
    decoded, _ = decode('{"event":"a","fields":{"system":"sap","environment":"test","service":"hana","rack":"7"}}')
    assert (decoded.systems, decoded.environments, decoded.batch.service) == (["sap"], ["test"], ["hana"])
    assert decoded.batch.attributes == [{"rack": "7"}]


def test_an_unknown_system_is_not_believed() -> None:
    decoded, _ = decode('{"event":"a","fields":{"system":"mainframe"}}')
    assert decoded.systems == [""]


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    decoded, problem = decode(b'{"event":"a"}\n{"event":"b\xff"}{"event":"half \\ud800"}')
    assert problem is None
    assert decoded.batch.body == ["a", "b\ufffd", "half \ufffd"]


def test_deep_nesting_is_refused() -> None:
    _, problem = decode('{"event":' + "[" * 40_000)
    assert problem == (6, 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    decoded, problem = decode_events(body, {}, AGENT)
    assert problem is None or problem.event_number == len(decoded.batch)


@given(st.lists(st.text(min_size=1).filter(lambda text: not text.isspace()), max_size=8), st.sampled_from(["", "\n", " "]))
def test_any_text_survives(texts: list[str], separator: str) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    texts = [text for text in texts if text and not text.isspace()]
    body = separator.join(json.dumps({"event": text}) for text in texts)
    decoded, problem = decode(body)
    assert problem is None
    assert decoded.batch.body == texts


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ('{"severity":"error","rack":"7"}', (17, "error", {"rack": "7"})),
        ('{"level":"WARN"}', (13, "WARN", None)),
        ('{"log.level":"debug"}', (5, "debug", None)),
        ('{"severity":3}', (17, "3", None)),
        ('{"severity":"3"}', (17, "3", None)),
        ('{"severity":"purple","level":"info"}', (9, "info", {"severity": "purple"})),
        ('{"severity":true,"level":["error"]}', (0, "", {"severity": True, "level": ["error"]})),
        ('{"level":99}', (0, "", {"level": 99})),
    ],
)
def test_fields_set_the_severity_in_the_senders_own_word(fields: str, expected: tuple[int, str, Any]) -> None:
    decoded, _ = decode(f'{{"event":"a","fields":{fields}}}')
    batch = decoded.batch
    assert (batch.severity_number[0], batch.severity_text[0], batch.attributes[0]) == expected


@pytest.mark.parametrize("fields", ['"text"', "5", "[]", '{"a":[{"b":1}]}', '{"a":[[1]]}', '{"a":{}}', '{"a":' + "[" * 500 + "]" * 500 + "}"])
def test_fields_that_are_not_flat_are_refused(fields: str) -> None:
    decoded, problem = decode(f'{{"event":"a"}}{{"event":"b","fields":{fields}}}')
    assert (problem, decoded.batch.body) == ((15, 1), ["a"])


def test_metadata_is_not_carried_to_the_next_envelope() -> None:
    decoded, _ = decode('{"event":"a","host":"h","source":"s","sourcetype":"syslog","index":"i","fields":{"level":"error"}}{"event":"b"}')
    batch = decoded.batch
    assert (batch.host, batch.source, decoded.formats) == (["h", ""], ["s", "agent"], ["syslog", ""])
    assert (batch.severity_number, batch.attributes[1]) == ([17, 0], None)


def test_strict_mode_refuses_members_that_splunk_does_not_know() -> None:
    for body, found in (
        ('{"event":"a"}\n{"event":"b","extra":1}', (5, 1)),
        ('{"event":"a"}{"event":"b"}', None),
        ('{"event":"a"}{"event":"b"', (6, 1)),
        ('{"event":"a"}[]', (6, 1)),
    ):
        _, problem = decode_events(body.encode(), {}, AGENT, strict=True)
        assert ((problem.code, problem.event_number) if problem else None) == found
    assert decode('{"event":"a","extra":1}')[1] is None


def test_many_fields_and_the_same_key_twice_are_taken() -> None:
    fields = ",".join(f'"k{number}":{number}' for number in range(100_000))
    decoded, problem = decode(f'{{"event":"a","event":"b","host":"x","host":"y","fields":{{{fields}}}}}')
    assert (problem, decoded.batch.body, decoded.batch.host) == (None, ["b"], ["y"])
    assert len(decoded.batch.attributes[0]) == 100_000


@pytest.mark.parametrize(
    ("time", "nanoseconds"),
    [
        ("253402300799", 253402300799 * 10**6),
        ("0", 0),
        ("9999999999999999999", 2**63 - 1),
        ("9223372036.854775807", 2**63 - 1),
        ("9999999999", 2**63 - 1),
        ('"9999999999.5"', 2**63 - 1),
        ("99999999999", 2**63 - 1),
        ("9.9e10", 2**63 - 1),
    ],
)
def test_times_at_the_edge_are_kept_in_range(time: str, nanoseconds: int) -> None:
    assert parse_time(time.encode()) == nanoseconds
    decoded, problem = decode(f'{{"event":"a","time":{time}}}{{"event":"b","time":1}}{{"event":"c","time":{time}}}')
    assert (problem, decoded.batch.timestamp) == (None, [nanoseconds, 10**9, nanoseconds])


def test_a_time_in_the_query_is_that_of_records_without_one() -> None:
    decoded, _ = decode('{"event":"a","time":5}{"event":"b"}{"event":"c","time":0}', time="1433188255.25")
    assert decoded.batch.timestamp == [5 * 10**9, 1433188255_250_000_000, 1433188255_250_000_000]
    assert decode_raw(b"a\nb", {"time": "7"}, AGENT).batch.timestamp == [7 * 10**9] * 2
    assert [read_query_time(query) for query in ({}, {"time": "x"}, {"time": ""}, {"time": "1"})] == [0, None, None, 10**9]


def test_numbers_that_take_more_than_64_bits_are_kept_as_nearly_as_others_can_read_them() -> None:
    decoded, problem = decode('{"event":"a","fields":{"a":18446744073709551615,"b":-123456789012345678901234567890,"c":[1,1e25]}}')
    assert (problem, decoded.batch.attributes) == (None, [{"a": 2**64 - 1, "b": -1.2345678901234568e29, "c": [1, 1e25]}])
    orjson.dumps(decoded.batch.attributes)


@pytest.mark.parametrize("body", ["{}" * 51, '{"\\u0065vent":1}' * 51, '{"event":{}}\n' * 51, '{"event":1}' * 51 + "broken"])
def test_the_number_of_envelopes_is_bounded_however_they_are_written(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setattr(hec_events, "MAX_RECORDS", 50)
    with pytest.raises(BodyTooLarge):
        decode(body)


def test_what_is_inside_events_does_not_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hec_events, "MAX_RECORDS", 50)
    decoded, problem = decode('{"event":{"event":{},"a":{"event":"{"}}}' * 50)
    assert (problem, len(decoded.batch)) == (None, 50)
    assert decode('{"event":1}' * 50 + "broken")[1] == (6, 50)


@pytest.mark.parametrize("body", ['{"event":"a","fields":{"x":[%s1]}}', '{"event":[%s1]} broken'])
def test_the_number_of_objects_and_arrays_is_bounded(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setattr(bodies, "MAX_CONTAINERS", 50)
    decode(body % ("[]," * 40))
    with pytest.raises(BodyTooLarge):
        decode(body % ("[]," * 60))


def test_control_characters_stay_in_their_event() -> None:
    decoded, problem = decode('{"event":"a\\u0000\\r\\n\\u001b[31mb"}{"event":"c"}')
    assert (problem, decoded.batch.body) == (None, ["a\0\r\n\x1b[31mb", "c"])


def test_raw_text_is_cut_at_line_feeds_only() -> None:
    body = "2026-11-24 06:00:00 ERROR a\x0b\u2028b\r\n\r\n \n2026-11-24 06:00:01 INFO c".encode() + b"\xff"
    decoded = decode_raw(body, {"sourcetype": "app", "source": "s", "host": "h", "index": "i", "system": "sap"}, AGENT)
    assert decoded.batch.body == ["2026-11-24 06:00:00 ERROR a\x0b\u2028b", "2026-11-24 06:00:01 INFO c\ufffd"]
    assert (decoded.batch.source, decoded.batch.host, decoded.systems) == (["s", "s"], ["h", "h"], ["sap", "sap"])
    assert decoded.batch.attributes == [{"splunk.sourcetype": "app", "splunk.index": "i"}] * 2


@given(st.binary(max_size=300))
def test_any_raw_bytes_are_cut(body: bytes) -> None:
    decoded = decode_raw(body, {}, AGENT)
    assert len(decoded.formats) == len(decoded.batch) == len(decoded.systems)


def test_raw_text_is_cut_by_the_format_that_holds_for_its_source() -> None:
    dump = "Runtime Errors         TIME_OUT\nABAP Program           SAPMSSY1\nDate and Time          03.05.2014 09:04:14"
    formats = {("abap", "plain"): "sap_dump"}
    decoded = decode_raw(f"rest of another\n{dump}".encode(), {"source": "abap", "sourcetype": "plain"}, AGENT, lambda *asked: formats[asked])
    assert decoded.batch.body == [f"rest of another\n{dump}"]


def test_a_million_indexed_fields_are_too_many() -> None:
    members = b",".join([b'"":0'] * 1_000_001)
    with pytest.raises(BodyTooLarge, match="1000000 indexed fields"):
        decode_events(b'{"event":"a","fields":{%b}}' % members, {}, AGENT)
