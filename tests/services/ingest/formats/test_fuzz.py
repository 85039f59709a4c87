"""Hostile input: whatever comes, no format fails, and the records beside it are read as ever."""

from __future__ import annotations

import time
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.batch import Batch
from services.ingest.formats import FORMATS, detect_format
from tests.services.ingest.formats.samples import ZONE, read_lines

LENGTH: Final = 60_000
CORPUS: Final[dict[str, str]] = {
    "nul": "2024-01-02 10:00:00 ERROR a\x00b" + "\x00" * 100,
    "line ends": "2024-01-02 10:00:00 ERROR a\rb\r\nc\x0bd\x0ce\x85f\u2028g",
    "ansi": "\x1b[31mERROR\x1b[0m \x1b]0;title\x07 2024-01-02 10:00:00 \x1b[2J",
    "surrogates": "2024-01-02 10:00:00 ERROR \ud800 \udfff a=\ud800 b=1",
    "surrogates in json": '{"msg":"\\ud800","time":"\ud800","level":"\\udfff"}',
    "nan": '{"time":NaN,"msg":"x"}',
    "infinite time": '{"time":1e400,"ts":-1e400,"msg":"x"}',
    "negative time": '{"time":-5,"ts":"-1704189600","msg":"x"}',
    "far time": '{"time":"9999-12-31T23:59:59.999999999Z","ts":99999999999999999999,"msg":"x"}',
    "far time in text": "9999-12-31 23:59:59 ERROR x",
    "far pairs": "time=9999-12-31T23:59:59Z ts=-1 level=error msg=x",
    "far container": "9999-12-31T23:59:59Z stdout F x",
    "far docker": '{"log":"x\\n","stream":"stdout","time":"9999-12-31T23:59:59Z"}',
    "far csv": "time,level,message\n9999-12-31T23:59:59Z,ERROR,x",
    "far web": '1.1.1.1 - - [31/Dec/9999:23:59:59 +9999] "GET / HTTP/1.1" 999 999999999999999999',
    "far event": "<Event><System><TimeCreated SystemTime='9999-12-31T23:59:59Z'/><Level>99999999999999999999</Level><EventID>1e400</EventID></System></Event>",
    "doubled keys": '{"msg":"a","msg":"b","level":"info","level":{"a":1},"time":1,"time":"x"}',
    "doubled pairs": "level=info level=error msg=a msg=b time=1 time=2",
    "deep json": '{"a":' * 40_000 + "1" + "}" * 40_000,
    "deep list": '{"msg":' + "[" * 40_000 + "]" * 40_000 + "}",
    "deep inside": orjson.dumps({"msg": '{"a":' * 40_000}).decode(),
    "deep values": '{"body":' + '{"arrayValue":{"values":[' * 30 + "1" + "]}}" * 30 + "}",
    "wrong types": '{"log":7,"stream":"stdout","winlog":[],"EventID":{},"body":{"kvlistValue":7},"attributes":[7],"resource":[],"resourceLogs":{}}',
    "winlog of wrong types": '{"winlog":{"event_id":{},"keywords":7,"provider_name":[],"event_data":[1],"computer_name":3},"message":{"a":1},"log":7}',
    "nxlog of wrong types": '{"EventID":"x","SourceName":"p","Severity":[],"EventType":7,"Hostname":{},"EventTime":{}}',
    "truncated xml": "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='x",
    "billion laughs": '<!DOCTYPE Event [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><Event><System><EventID>&b;</EventID></System></Event>',
    "open xml": "<Event " * (LENGTH // 7),
    "closed xml": "<Event></Event>" * (LENGTH // 15),
    "huge cell": 'a,message\n1,"' + "x" * LENGTH,
    "quotes": '"' * LENGTH,
    "quoted commas": '",' * (LENGTH // 2),
    "doubled quotes": "a,b\n" + ',"""x' * (LENGTH // 5),
    "columns": "time," + ",".join(f"c{number}" for number in range(10_000)),
    "apache": "[Tue Jan 02 10:00:00.1 2024] [core:error] " + "(1)a" * (LENGTH // 4),
    "nginx": "2024/01/02 10:00:00 [error] 1#1: " + ", client: a" * (LENGTH // 11),
    "nginx quotes": "2024/01/02 10:00:00 [error] 1#1: x, client: a, request: " + '"' * LENGTH,
    "pieces": "2024-01-02T10:00:00Z stdout P" + ":x" * (LENGTH // 2),
    "escapes": '{"log":"' + '\\"stream\\"' * (LENGTH // 10) + '","stream":"stdout"}',
    "head": "2024-01-02 10:00:00 " + "1" * LENGTH + " ERROR x",
    "go frames": "goroutine 1 [running]:\n" + "(" * LENGTH + "\n" + "a(" * (LENGTH // 2) + ")",
    "digits": "1" * LENGTH,
}
LINE_FORMATS: Final = ("access_log", "apache_error", "cri", "docker_json", "json_lines", "key_value", "logfmt", "nginx_error", "plain", "syslog")


def parse(name: str, records: list[str], rows: list[int] | None = None) -> Batch:
    batch = Batch()
    for record in records:
        batch.append(record, source="s")
    FORMATS[name].parse(batch, range(len(batch)) if rows is None else rows, ZONE)
    return batch


def row_of(batch: Batch, row: int) -> tuple[Any, ...]:
    """Returns a row without the year of its time, which is a guess where the text has none."""
    return (
        batch.body[row],
        batch.severity_number[row],
        batch.severity_text[row],
        batch.host[row],
        batch.service[row],
        batch.attributes[row],
        batch.trace_id[row],
    )


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_records_are_survived_and_cost_no_neighbour(name: str) -> None:
    good = FORMATS[name].split(read_lines(name))[:2]
    alone = parse(name, good)
    started = time.process_time()
    for what, bad in CORPUS.items():
        assert 0 <= FORMATS[name].detect(bad.split("\n")) <= 1, what
        batch = parse(name, [good[0], bad, *FORMATS[name].split(bad.split("\n")), good[1]])
        assert row_of(batch, 0) == row_of(alone, 0), what
        assert row_of(batch, len(batch) - 1) == row_of(alone, 1), what
        for row in range(len(batch)):
            assert 0 <= batch.timestamp[row] < 2**63, what
            assert 0 <= batch.severity_number[row] <= 24, what
    assert time.process_time() - started < 20, "a hostile text costs more than in proportion to its length"


@pytest.mark.parametrize("name", LINE_FORMATS)
def test_lines_beside_hostile_ones_are_cut_as_ever(name: str) -> None:
    good = [line for line in read_lines(name) if line]
    records = FORMATS[name].split(good)
    for what, bad in CORPUS.items():
        if (name, what) == ("cri", "pieces"):
            continue  # the next line of its stream is the rest of it
        after = FORMATS[name].split([*bad.split("\n"), *good])
        assert after[len(after) - len(records) :] == records, what


@pytest.mark.parametrize(("name", "record"), [
    ("json_lines", "{" + ",".join(f'"k{number}":{number}' for number in range(100_000)) + "}"),
    ("docker_json", '{"log":"x\\n","stream":"stdout",' + ",".join(f'"k{number}":{number}' for number in range(100_000)) + "}"),
    ("windows_event", '{"winlog":{"event_id":1,' + ",".join(f'"k{number}":{number}' for number in range(100_000)) + "}}"),
    ("logfmt", " ".join(f"k{number}={number}" for number in range(100_000))),
    ("key_value", ";".join(f"k{number}={number}" for number in range(100_000))),
])  # fmt: skip
def test_a_hundred_thousand_fields_are_kept(name: str, record: str) -> None:
    attributes = parse(name, [record]).attributes[0]
    assert attributes is not None
    assert len(attributes) >= 100_000


_PIECES: Final = st.sampled_from(
    [
        *(text[:200] for text in CORPUS.values()),
        *(
            "<Event>",
            "</Event>",
            "<System>",
            '"',
            ",",
            "a,b",
            " stdout P ",
            " stderr F ",
            '{"log":"',
            '","stream":"stdout"}',
            "\n",
            "\tat a.B(",
            "goroutine 1 [",
        ),
        "Traceback (most recent call last):",
    ]
)


@pytest.mark.parametrize("name", ["apache_error", "cri", "csv", "docker_json", "nginx_error", "windows_event", "json_lines"])
@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.lists(st.one_of(_PIECES, st.text(max_size=6)), max_size=5).map("".join), max_size=6))
def test_no_mixture_makes_a_format_fail(name: str, lines: list[str]) -> None:
    assert 0 <= FORMATS[name].detect(lines) <= 1
    records = FORMATS[name].split(lines)
    batch = parse(name, [*records, *lines])
    assert len(batch) == len(records) + len(lines)
    assert detect_format(lines)[0].name in FORMATS
