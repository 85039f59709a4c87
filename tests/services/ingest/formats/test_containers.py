"""What container runtimes wrap around lines: pieces, streams, traces, and the format inside."""

from __future__ import annotations

import orjson
import pytest

from services.ingest.formats import FORMATS, detect_format
from services.ingest.formats.containers import MAX_GROUPS
from tests.services.ingest.formats.samples import parse_records

CRI, DOCKER = FORMATS["cri"], FORMATS["docker_json"]
STAMP = "2024-01-02T10:00:00.000000001Z"


def cri(text: str, stream: str = "stdout", tag: str = "F", stamp: str = STAMP) -> str:
    return f"{stamp} {stream} {tag} {text}"


def docker(text: str, stream: str = "stdout", stamp: str = STAMP) -> str:
    return orjson.dumps({"log": text, "stream": stream, "time": stamp}).decode()


def test_pieces_are_joined_stream_by_stream() -> None:
    lines = [cri("a", tag="P"), cri("x", "stderr", "P"), cri("b", tag="P"), cri("y", "stderr"), cri("c"), cri("d")]
    assert parse_records("cri", CRI.split(lines)).body == ["abc", "xy", "d"]


def test_a_piece_whose_end_has_not_come_is_kept_and_goes_on_later() -> None:
    (begun,) = CRI.split([cri("a", tag="P")])
    assert parse_records("cri", [begun]).body == ["a"]
    assert parse_records("cri", CRI.split([begun, cri("b")])).body == ["ab"]


def test_pieces_of_docker_lines_are_joined() -> None:
    piece = "x" * 16_384
    records = DOCKER.split([docker(piece), docker("warning\n", "stderr"), docker(piece), docker("end\n"), docker("next\n")])
    assert parse_records("docker_json", records).body == [2 * piece + "end", "warning", "next"]


def test_pieces_without_end_are_bounded() -> None:
    records = CRI.split([cri("x" * 16_000, tag="P")] * 200)
    assert max(map(len, records)) < 1_000_000
    assert sum(record.count("x") for record in records) == 200 * 16_000


@pytest.mark.parametrize("wrap", [cri, docker])
def test_a_trace_is_joined_while_its_lines_come_soon_after_each_other(wrap: object) -> None:
    name = "cri" if wrap is cri else "docker_json"
    stamps = ["2024-01-02T10:00:00Z", "2024-01-02T10:00:05Z", "2024-01-02T10:00:10.000000001Z"]
    lines = ["Exception in thread main java.lang.IllegalStateException: x", "\tat a.B.c(B.java:1)", "\tat a.B.d(B.java:2)"]
    wrapped = [wrap(line, stamp=stamp) for line, stamp in zip(lines, stamps, strict=True)]  # type: ignore[operator]
    assert parse_records(name, FORMATS[name].split(wrapped)).body == ["\n".join(lines[:2]), lines[2]]


def test_lines_of_many_programs_are_each_parsed_by_their_own_format() -> None:
    texts = [
        '{"level":"error","msg":"json"}',
        "level=warn msg=logfmt order=1",
        '10.0.0.9 - - [02/Jan/2024:10:00:00 +0000] "GET / HTTP/1.1" 500 0',
        "2024/01/02 10:00:00 [crit] 1#1: *1 nginx, client: 10.0.0.9",
        "I0102 10:00:00.000000       1 a.go:1] glog",
        "[Tue Jan 02 10:00:00.123456 2024] [core:error] [pid 1] apache",
        "2024-01-02 10:00:00,000 DEBUG [main] a.B: plain",
        "ERROR: nothing else",
        "ninth shape, ERROR inside",
        "# tenth",
    ]
    assert len(texts) > MAX_GROUPS
    batch = parse_records("cri", [cri(text) for text in texts * 3])
    assert batch.body[:8] == ["json", "logfmt", "GET / HTTP/1.1 500", "nginx", "glog", "apache", "plain", "nothing else"]
    assert batch.severity_number[:8] == [17, 13, 17, 18, 9, 17, 5, 17]
    assert batch.body[:10] == batch.body[10:20] == batch.body[20:]
    assert len(set(batch.timestamp)) == 1


def test_what_the_splunk_driver_of_docker_sends_is_parsed_inside() -> None:
    # The bytes of Docker 28.5.2: format inline, and format json with a line that is JSON.
    inline = r'{"line":"10.0.0.9 - - [02/Jan/2024:10:00:00 +0000] \"GET / HTTP/1.1\" 500 0","source":"stdout","tag":"web-1","attrs":{"team":"blue"}}'
    json = '{"line":{"level":"error","msg":"order failed"},"source":"stderr","tag":"web-1"}'
    assert DOCKER.detect([inline, json]) > 0.9
    batch = parse_records("docker_json", [inline, json])
    assert batch.body[1] == "order failed"
    assert batch.severity_text[1] == "error"
    access, failed = (attributes or {} for attributes in batch.attributes)
    assert (access["log.iostream"], access["team"], access["tag"], access["http.status"]) == ("stdout", "blue", "web-1", 500)
    assert failed["log.iostream"] == "stderr"


def test_the_stamp_of_the_runtime_is_the_time_of_the_event() -> None:
    batch = parse_records("cri", [cri("2024-01-02 10:00:00 INFO local time of somewhere")])
    assert batch.timestamp == [1_704_189_600_000_000_001]


def test_what_kubernetes_agents_add_is_kept() -> None:
    pod = {"host": "node-3", "container_name": "api", "labels": {"k8s-app": "x"}}
    record = orjson.dumps({"log": "started", "stream": "stdout", "@timestamp": "2024-01-02T10:00:00Z", "kubernetes": pod, "tag": "t"}).decode()
    batch = parse_records("docker_json", [record])
    assert (batch.host, batch.service, batch.timestamp) == (["node-3"], ["x"], [1_704_189_600 * 10**9])
    assert batch.attributes[0] is not None
    assert batch.attributes[0]["tag"] == "t"
    assert batch.attributes[0]["kubernetes"]["container_name"] == "api"


def test_json_that_has_a_log_but_no_stream_is_no_container_line() -> None:
    assert detect_format(['{"log":"a","level":"info"}'] * 3)[0].name == "json_lines"


def test_foreign_lines_between_are_kept() -> None:
    assert CRI.split([cri("a"), "foreign", cri("b")]) == [cri("a"), "foreign", cri("b")]
    assert DOCKER.split([docker("a\n"), "foreign", '{"log":1,"stream":"stdout"}']) == [docker("a\n"), "foreign", '{"log":1,"stream":"stdout"}']
