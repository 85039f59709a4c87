"""Every format against its sample, and all formats against arbitrary text."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.batch import Batch
from services.ingest.formats import FORMATS, detect_format
from tests.services.ingest.formats.samples import ZONE, describe_events, parse_records, read_expected, read_lines, sample_names

LOGHUB = Path("/work/shared/data/loghub")
LOGHUB_FILES = ("Apache", "BGL", "HPC", "Hadoop", "Linux", "OpenSSH", "OpenStack", "Spark")
needs_loghub = pytest.mark.skipif(not LOGHUB.is_dir(), reason=f"the loghub files are not at {LOGHUB}")


def test_every_format_has_a_sample_and_is_documented() -> None:
    assert sample_names() == sorted(FORMATS)
    page = (Path(__file__).parents[4] / "docs" / "formats.md").read_text()
    assert {name for name in FORMATS if f"\n| `{name}` |" not in page} == set()


@pytest.mark.parametrize("name", FORMATS)
def test_sample_gives_the_expected_events(name: str) -> None:
    events = list(describe_events(parse_records(name, FORMATS[name].split(read_lines(name)))))
    expected = read_expected(name)
    for event, wanted in zip(events, expected, strict=True):
        if wanted.get("timestamp", "").startswith("*"):
            event["timestamp"] = "*" + event["timestamp"][4:]
        assert event == wanted


@pytest.mark.parametrize("name", FORMATS)
def test_detection_picks_the_format_of_its_own_sample(name: str) -> None:
    found, confidence = detect_format(read_lines(name))
    assert found.name == name
    assert 0 < confidence <= 1


@pytest.mark.parametrize("name", FORMATS)
def test_detection_works_on_records_of_several_lines(name: str) -> None:
    assert detect_format(FORMATS[name].split(read_lines(name)))[0].name == name


@pytest.mark.parametrize("name", FORMATS)
def test_columns_that_the_sender_filled_are_kept(name: str) -> None:
    batch = Batch()
    for record in FORMATS[name].split(read_lines(name)):
        batch.append(
            record,
            source="s",
            timestamp=7,
            severity_number=3,
            severity_text="mine",
            host="my-host",
            service="my-service",
            attributes={"component": "mine", "sap.user": "mine", "http.status": 1, "process.pid": -1},
            trace_id="a" * 32,
            span_id="b" * 16,
        )
    FORMATS[name].parse(batch, range(len(batch)), ZONE)
    for column, value in (("timestamp", 7), ("severity_number", 3), ("severity_text", "mine"), ("host", "my-host"), ("service", "my-service")):
        assert set(getattr(batch, column)) == {value}
    assert set(batch.trace_id) == {"a" * 32}
    for attributes in batch.attributes:
        assert attributes is not None
        assert attributes["component"] == attributes["sap.user"] == "mine"
        assert attributes["http.status"] == 1


@pytest.mark.parametrize("name", FORMATS)
def test_only_the_given_rows_are_parsed(name: str) -> None:
    records = FORMATS[name].split(read_lines(name))
    batch = Batch()
    for record in records:
        batch.append(record, source="s")
    FORMATS[name].parse(batch, [1], ZONE)
    assert [row for row in range(len(batch)) if batch.body[row] != records[row] or batch.timestamp[row] or batch.attributes[row]] in ([1], [])
    assert batch.body[0] == records[0]


@pytest.mark.parametrize("name", FORMATS)
def test_empty_input_gives_nothing(name: str) -> None:
    assert FORMATS[name].split([]) == []
    assert FORMATS[name].split(["", "  ", "\r\n"]) == []
    assert FORMATS[name].parse(Batch(), [], ZONE) == 0


def test_text_that_fits_nothing_is_plain() -> None:
    found, confidence = detect_format(["hello world", "nothing here"])
    assert found.name == "plain"
    assert confidence < 0.2
    assert detect_format([])[0].name == "plain"


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "plain"])
def test_a_few_foreign_lines_do_not_change_the_format_of_a_plain_file(name: str) -> None:
    foreign = [line for line in read_lines(name) if line][:3]
    lines = [f"2024-01-02 10:00:{second:02d} INFO worker {second} is alive" for second in range(60)]
    assert detect_format([*lines[:30], *foreign, *lines[30:]])[0].name == "plain"


_FRAGMENTS = st.sampled_from(
    [
        *(
            "{",
            "}",
            "[",
            "]",
            '"',
            "=",
            ":",
            ";",
            "<",
            ">",
            "|",
            " ",
            "\t",
            "\n",
            "\\",
            "<34>1 ",
            "<999>",
            "- ",
            "***LOG Q0I=> ",
            "Category ",
            "Runtime Errors X",
        ),
        *(
            '{"time":1e400}',
            '{"time":-5,"level":99999999999999999999}',
            '{"message":{"a":[1]},"host":{"name":7}}',
            '{"DOCNUM":1,"STATUS":null}',
            '{"body":null}',
        ),
        *("9999-12-31 23:59:59", "0000-00-00 00:00:00", "2024-02-30 10:00:00", "2024-01-02T10:00:00+99:99", "99999999999999999999", "1e400", "Feb 30 10:00:00"),
        *("2AU120211116085901000779800001D1", "2AU199999999999999000779800001D1", "[1]{-1}[1/2] 2024-13-01 00:00:00 i A B(1) : x", "Sun Aug 18 17:17:45 2019"),
        *(
            '1.1.1.1 - - [99/Foo/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1',
            "at=1 b=2",
            "INFO",
            "ERROR:",
            "E0102 15:04:05.123456 1 a.go:1] x",
            "\ud800",
            "\x00",
            "é",
            "٣",
        ),
    ]
)
_TEXTS = st.lists(st.one_of(_FRAGMENTS, st.text(max_size=12)), max_size=12).map("".join)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(_TEXTS, max_size=6))
def test_no_text_makes_a_format_fail(name: str, texts: list[str]) -> None:
    format_ = FORMATS[name]
    assert 0 <= format_.detect(texts) <= 1
    batch = Batch()
    for record in [*format_.split(texts), *texts]:
        batch.append(record, source="s")
    assert 0 <= format_.parse(batch, range(len(batch)), ZONE) <= len(batch)
    for row in range(len(batch)):
        assert isinstance(batch.body[row], str)
        assert 0 <= batch.timestamp[row] < 2**63
        assert 0 <= batch.severity_number[row] <= 24
        assert isinstance(batch.host[row], str)
        assert isinstance(batch.service[row], str)
        json.dumps(batch.attributes[row])


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=30, deadline=None)
@given(lines=st.lists(st.text(alphabet=st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1, max_size=40), max_size=8))
def test_splitting_loses_no_text(name: str, lines: list[str]) -> None:
    if name == "csv":
        # The header is repeated in front of each row.
        records = FORMATS[name].split(lines)
        assert all(any(line.strip("\r") in record for record in records) for line in lines if not line.isspace())
        return
    if name == "sap_dev_trace":
        lines = [line for line in lines if set(line.strip()) - set("-")]
    kept = "".join("".join(lines).split())
    assert "".join("".join(FORMATS[name].split(lines)).split()) == kept


def test_joined_records_are_bounded() -> None:
    trace = ["2024-01-02 10:00:00 ERROR boom"] + ["\tat a.b.C(D.java:1)"] * 2_500
    records = FORMATS["plain"].split(trace)
    assert [record.count("\n") + 1 for record in records] == [1_000, 1_000, 501]
    long = ["2024-01-02 10:00:00 ERROR boom"] + [" " + "x" * 300_000] * 7
    assert all(len(record) <= 1_000_000 for record in FORMATS["plain"].split(long))
    assert sum(record.count("x") for record in FORMATS["plain"].split(long)) == 2_100_000


def test_deeply_nested_json_stays_text() -> None:
    body = '{"a":' * 500 + "1" + "}" * 500
    batch = Batch()
    batch.append(body, source="s")
    assert FORMATS["json_lines"].parse(batch, [0], ZONE) == 0
    assert batch.body == [body]


@needs_loghub
@pytest.mark.parametrize("name", LOGHUB_FILES)
def test_real_lines_get_their_timestamps(name: str) -> None:
    lines = (LOGHUB / name / f"{name}_2k.log").read_text(encoding="utf-8", errors="replace").splitlines()
    format_, _ = detect_format(lines)
    assert {detect_format(lines[start : start + 50])[0].name for start in range(0, len(lines), 50)} == {format_.name}, (
        "detection depends on the place in the file"
    )
    batch = Batch()
    for record in format_.split(lines):
        batch.append(record, source="s")
    assert len(batch) == len(lines)
    assert format_.parse(batch, range(len(batch)), ZONE) >= 0.95 * len(batch)
    assert sum(1 for stamp in batch.timestamp if stamp) >= 0.95 * len(batch)


@needs_loghub
@pytest.mark.parametrize("name", LOGHUB_FILES)
def test_real_lines_keep_their_message(name: str) -> None:
    lines = (LOGHUB / name / f"{name}_2k.log").read_text(encoding="utf-8", errors="replace").splitlines()
    with (LOGHUB / name / f"{name}_2k.log_structured.csv").open(encoding="utf-8", errors="replace") as file:
        contents = [row["Content"].strip() for row in csv.DictReader(file)]
    batch = Batch()
    for line in lines:
        batch.append(line, source="s")
    detect_format(lines)[0].parse(batch, range(len(batch)), ZONE)
    same = sum(1 for body, content in zip(batch.body, contents, strict=True) if body.strip() == content)
    assert same >= 0.95 * len(lines)


@pytest.mark.parametrize("piece", ['"', '\\"', "[", "a=", 'a="b ', "A ", "1.", "1 |", " ", "{", "a:", "DE89 3704 ", "(", "<1>", "2024-01-02 10:00:00 "])
@pytest.mark.parametrize("tail", ["", "b"])
def test_hostile_lines_cost_time_in_proportion_to_their_length(piece: str, tail: str) -> None:
    """30 KB of what regular expressions dislike, behind the heads that formats look for."""
    started = time.process_time()
    dump = "Runtime Errors a"
    heads = ("", "2024-01-02 10:00:00 ", '1.1.1.1 - - [10/Oct/2000:13:55:36 -0700] "', "Jun 14 15:16:01 combo ", dump, f"{dump}\nUser and Transaction\nUser..")
    for head in heads:
        text = head + piece * (30_000 // len(piece)) + tail
        for format_ in FORMATS.values():
            format_.detect([text])
            parse_records(format_.name, [text])
    assert time.process_time() - started < 5
