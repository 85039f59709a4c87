"""Stack traces as runtimes print them: one event each, from a text and from records of a line each. Not from real systems: after the runtimes' sources."""

from __future__ import annotations

import pytest

from services.ingest.batch import Batch
from services.ingest.formats import FORMATS, detect_format
from services.ingest.joining import join_rows
from tests.services.ingest.formats.samples import ZONE

HEAD = "2024-01-02 10:00:00,123 ERROR [main] com.example.Api: failed"
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "/app/main.py", line 10, in main
  |     raise ExceptionGroup("eg", [ValueError(1), TypeError(2)])
  | ExceptionGroup: eg (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/app/main.py", line 4, in f
    | ValueError: 1
    +---------------- 2 ----------------
    | TypeError: 2
    +------------------------------------"""
CHAINED = """Traceback (most recent call last):
  File "/app/a.py", line 1, in <module>
    x = {}["k"]
        ~~^^^^^
KeyError: 'k'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/a.py", line 3, in <module>
ValueError: bad"""
GOROUTINES = """panic: boom [recovered]
	panic: boom
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48f5c2]

goroutine 34 gp=0xc0000061c0 m=4 mp=0xc000080008 [running]:
main.(*Server).handle(0xc000010000, {0x1, 0x2})
	/app/main.go:12 +0x1d

goroutine 18 gp=0xc000002380 m=nil [chan receive, 5 minutes]:
main.worker(...)
	/app/worker.go:9
created by main.main in goroutine 1
	/app/main.go:18 +0x5c

rax    0xca
rflags 0x286
exit status 2"""
ROOT_FIRST = """java.io.UncheckedIOException: root
	at com.example.Res.close(Res.java:5)
Wrapped by: java.lang.IllegalStateException: outer
	at com.example.Api.get(Api.java:10)"""
SUPPRESSED = """java.lang.IllegalStateException: outer
	at com.example.ApiKt$main$1.invokeSuspend(Api.kt:10)
	Suppressed: java.io.IOException: close
		at com.example.Res.close(Res.java:5)
		... 2 more
Caused by: scala.MatchError: 5 (of class java.lang.Integer)
	at Main$.$anonfun$main$1(Main.scala:4)
	... 34 common frames omitted"""
GERMAN = """System.InvalidOperationException: Sequenz enthält keine Elemente
 ---> System.ArgumentException: x
   bei Shop.Api.Inner() in C:\\src\\Api.cs:Zeile 10.
   --- Ende der internen Ausnahmestapelüberwachung ---
   bei Shop.Api.Get()
--- Ende der Stapelüberwachung vom vorhergehenden Ort, an dem die Ausnahme ausgelöst wurde ---
   bei Shop.Program.Main(String[] args)"""
NODE = """Error: x
    at Object.<anonymous> (/app/index.js:10:9)
    at async run (file:///app/a.mjs:3:5) {
  code: 'ENOENT',
  [cause]: TypeError: y
      at new Promise (<anonymous>)
}"""


def events_of(records: list[str]) -> list[str]:
    """Returns the bodies of what the records become."""
    batch = Batch()
    for record in records:
        batch.append(record, source="s")
    detect_format(records)[0].parse(batch, range(len(batch)), ZONE)
    return [batch.body[row] for row in join_rows(batch, range(len(batch)), [0] * len(batch))]


@pytest.mark.parametrize("trace", [GROUP, CHAINED, ROOT_FIRST, SUPPRESSED, GERMAN], ids=["group", "chained", "root_first", "suppressed", "german"])
def test_a_trace_belongs_to_the_line_above_it(trace: str) -> None:
    lines = [HEAD, *trace.split("\n"), HEAD]
    assert events_of(lines) == [f"failed\n{trace}", "failed"], "records of a line each"
    assert events_of(FORMATS["plain"].split(lines)) == ["\n".join(["failed", *filter(None, trace.split("\n"))]), "failed"]


@pytest.mark.parametrize("single", [False, True], ids=["text", "lines"])
@pytest.mark.parametrize("trace", [GOROUTINES, NODE, CHAINED], ids=["goroutines", "node", "chained"])
def test_a_trace_without_a_line_above_it_is_one_event(trace: str, *, single: bool) -> None:
    lines = [HEAD, *trace.split("\n"), HEAD] if not trace.startswith("Traceback") else [*trace.split("\n"), HEAD]
    records = [line for line in lines if line] if single else FORMATS["plain"].split(lines)
    assert events_of(records)[-2:] == ["\n".join(filter(None, trace.split("\n"))), "failed"]


@pytest.mark.parametrize("single", [False, True], ids=["text", "lines"])
def test_tracebacks_that_python_does_not_chain_are_two_events(*, single: bool) -> None:
    first = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nValueError: one'
    second = first.replace("one", "two")
    lines = [*first.split("\n"), *second.split("\n")]
    assert events_of(lines if single else FORMATS["plain"].split(lines)) == [first, second]


def test_a_trace_with_blank_lines_is_one_event_in_a_container() -> None:
    lines = [f"2024-01-02T10:00:00.123456789Z stderr F {line}" for line in [HEAD, *CHAINED.split("\n"), HEAD]]
    assert events_of(FORMATS["cri"].split(lines)) == ["\n".join(["failed", *filter(None, CHAINED.split("\n"))]), "failed"]


def test_the_two_lines_of_java_util_logging_are_one_event() -> None:
    lines = [
        "Jan 02, 2024 3:04:05 PM com.example.Main main",
        "INFO: started",
        "Jan 02, 2024 12:04:06 AM com.example.Main",
        "SEVERE: failed",
        *SUPPRESSED.split("\n"),
    ]
    batch = Batch()
    for record in FORMATS["plain"].split(lines):
        batch.append(record)
    FORMATS["plain"].parse(batch, range(len(batch)), ZONE)
    assert batch.body == ["started", f"failed\n{SUPPRESSED}"]
    assert (batch.severity_number, batch.severity_text) == ([9, 17], ["INFO", "SEVERE"])
    assert batch.attributes == [{"component": "com.example.Main", "code.function": "main"}, {"component": "com.example.Main"}]
    assert [stamp // 10**9 for stamp in batch.timestamp] == [1_704_204_245, 1_704_150_246]


def test_json_that_is_written_over_lines_is_one_event() -> None:
    text = '{\n  "level": "error",\n  "msg": "failed",\n  "order": {\n    "id": 7\n  }\n}'
    found, _ = detect_format([text, text])
    assert found.name == "json_lines"
    assert FORMATS["plain"].split([*text.split("\n"), HEAD]) == [text, HEAD]
