"""Stack traces that came line by line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.batch import Batch
from services.ingest.formats.continuation import MAX_LINES, QUIET_NANOSECONDS
from services.ingest.joining import join_rows

SECOND = 1_000_000_000
JAVA = [
    "order 17 failed",
    "java.lang.IllegalStateException: no connection",
    "\tat com.example.Orders.place(Orders.java:42)",
    "Caused by: java.net.ConnectException",
]
PYTHON = ["request failed", "Traceback (most recent call last):", '  File "/srv/views.py", line 17, in get', "    return orders[number]", "KeyError: 17"]
GO = ["panic: boom", "[signal SIGSEGV: segmentation violation]", "goroutine 1 [running]:", "main.main()", "\t/src/main.go:12 +0x1d", "exit status 2"]
DOTNET = [
    "Unhandled exception. System.InvalidOperationException: broken",
    "   at App.Program.Main() in /src/Program.cs:line 12",
    "   --- End of inner exception",
]


def batch_of(bodies: list[str], **columns: list[Any]) -> Batch:
    batch = Batch()
    for number, body in enumerate(bodies):
        given: dict[str, Any] = {name: values[number] for name, values in columns.items()}
        batch.append(body, **{"source": "shop", **given})
    return batch


def join(batch: Batch, requests: list[int] | None = None, apart: set[int] | None = None) -> list[str]:
    """Joins all rows; returns the bodies of the rows that stay."""
    kept = join_rows(batch, range(len(batch)), requests or [1] * len(batch), apart or set())
    return [batch.body[row] for row in kept]


@pytest.mark.parametrize("trace", [JAVA, PYTHON, GO, DOTNET])
def test_a_trace_becomes_one_event_and_its_neighbours_stay(trace: list[str]) -> None:
    assert join(batch_of(["before", *trace, "after"])) == ["before", "\n".join(trace), "after"]


def test_the_rows_that_stay_are_returned() -> None:
    assert join_rows(batch_of(["a", *JAVA, "b"]), range(6), [1] * 6) == [0, 1, 5]


def test_traces_of_several_senders_that_mix_are_kept_apart() -> None:
    bodies = [line for pair in zip(JAVA, PYTHON, strict=False) for line in pair]
    batch = batch_of(bodies, host=["a", "b"] * 4)
    assert join(batch) == ["\n".join(JAVA), "\n".join(PYTHON[:4])]


def test_requests_are_never_mixed() -> None:
    assert join(batch_of(JAVA), requests=[1, 1, 2, 2]) == [JAVA[0], JAVA[1], "\n".join(JAVA[2:])]


def test_rows_with_ids_of_their_own_stay() -> None:
    assert join(batch_of(JAVA), apart={0, 1, 2, 3}) == JAVA


def test_a_line_that_comes_later_than_the_quiet_time_starts_an_event() -> None:
    stamps = [SECOND, SECOND, SECOND + QUIET_NANOSECONDS, SECOND + 2 * QUIET_NANOSECONDS + 1]
    assert join(batch_of(JAVA, timestamp=stamps)) == ["\n".join(JAVA[:3]), JAVA[3]]


def test_what_says_something_of_its_own_is_an_event() -> None:
    assert join(batch_of(JAVA, severity_number=[17, 0, 9, 0])) == ["\n".join(JAVA[:2]), "\n".join(JAVA[2:])]
    own = [{"pod": "a"}, {"pod": "a"}, {"pod": "a", "offset": 7}, {"pod": "a"}]
    assert join(batch_of(JAVA, attributes=own)) == ["\n".join(JAVA[:2]), "\n".join(JAVA[2:])]


def test_what_the_line_shares_with_its_head_joins() -> None:
    batch = batch_of(JAVA, severity_number=[17] * 4, attributes=[{"pod": "a", "n": [1]}] * 4, trace_id=["ab" * 16, "", "", ""])
    assert join(batch) == ["\n".join(JAVA)]


def test_indented_text_and_prose_are_no_traces() -> None:
    bodies = ["first", "  indented", "at the end", "Caused a problem", "...", "#hash"]
    assert join(batch_of(bodies)) == bodies


def test_a_joined_event_is_bounded() -> None:
    bodies = ["boom", *["\tat a.b.C(D.java:1)"] * (2 * MAX_LINES)]
    assert [body.count("\n") + 1 for body in join(batch_of(bodies))] == [MAX_LINES, MAX_LINES, 1]
    long = ["boom", *["\tat a.b.C(" + "x" * 400_000 + ")"] * 4]
    assert [len(body) for body in join(batch_of(long))] == [4 + 2 * 400_012, 2 * 400_012 - 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from([*JAVA, *PYTHON, *GO, *DOTNET, ""]), st.text(max_size=8)), max_size=12),
    st.lists(st.sampled_from("ab"), min_size=12, max_size=12),
)
def test_nothing_is_lost(bodies: list[str], hosts: list[str]) -> None:
    batch = batch_of(bodies, host=hosts)
    kept = join_rows(batch, range(len(batch)), [1] * len(batch))
    for host in "ab":
        before = [body for body, name in zip(bodies, hosts, strict=False) if name == host]
        after = [batch.body[row] for row in kept if hosts[row] == host]
        assert "\n".join(after).split("\n") == "\n".join(before).split("\n")
