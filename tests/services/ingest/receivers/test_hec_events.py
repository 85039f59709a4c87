"""Envelopes of the HTTP Event Collector."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.receivers.hec_events import decode_events, parse_time
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
