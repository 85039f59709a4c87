"""Both framings of a syslog stream, whatever its bytes and however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.ingest.receivers.syslog_frames import MAX_SKIPPED, FrameReader, without_count

LIMIT = 200


def read(data: bytes, sizes: list[int] | None = None) -> tuple[list[bytes], list[str]]:
    """Returns messages and what was broken, of data that comes in pieces of these sizes (the last size again and again)."""
    reader, messages, broken = FrameReader(LIMIT), list[bytes](), list[str]()
    sizes = list(sizes or [len(data) or 1])
    while data:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        piece, data = data[:size], data[size:]
        for found, problems in [reader.feed(piece)]:
            messages += found
            broken += [problem.detail for problem in problems]
    found, problems = reader.finish()
    return messages + found, broken + [problem.detail for problem in problems]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"<1>a\n<2>b\r\n<3>c\0<4>d", [b"<1>a", b"<2>b", b"<3>c", b"<4>d"]),
        (b"5 <1>a\n7 <2>b\r\nc<3>d\n", [b"<1>a", b"<2>b\r\nc"[:7], b"<3>d"]),
        (b"6 <1>a\r\n1 \n4 <2>b", [b"<1>a", b"<2>b"]),
        (b"4 <1>a\n4 <2>b", [b"<1>a", b"<2>b"]),
        (b"2026-11-24T06:00:00Z web-1 cron: begins with a digit\n", [b"2026-11-24T06:00:00Z web-1 cron: begins with a digit"]),
        (b"\n\r\n\0", []),
        (b"", []),
    ],
)
def test_framing_is_told_apart_frame_by_frame(data: bytes, expected: list[bytes]) -> None:
    assert read(data) == (expected, [])


@pytest.mark.parametrize(
    "broken",
    [b"999999999999 <1>huge\n", b"%d <1>not believed\n" % (MAX_SKIPPED + 1), b"300 " + b"x\n" * 150, b"y" * 201 + b"\n", b"z" * 5_000 + b"\0"],
    ids=["huge", "beyond what is skipped", "skipped by its count", "long line", "very long line"],
)
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_broken_frame_is_reported_once_and_its_neighbours_are_kept(broken: bytes, size: int) -> None:
    messages, problems = read(b"<1>before\n" + broken + b"<1>after\n", [size])
    assert messages == [b"<1>before", b"<1>after"]
    assert len(problems) == 1


@pytest.mark.parametrize("data", [b"10 <1>a", b"10 ", b"10"])
def test_a_counted_frame_that_is_cut_off_is_no_message(data: bytes) -> None:
    messages, (problem,) = read(data)
    assert messages == []
    assert "ended inside" in problem


MESSAGES = st.lists(st.binary(min_size=1, max_size=LIMIT), max_size=8)
SIZES = st.lists(st.integers(1, 64), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(MESSAGES, st.lists(st.booleans(), min_size=8, max_size=8), SIZES)
def test_what_is_framed_comes_out(messages: list[bytes], counted: list[bool], sizes: list[int]) -> None:
    data, expected = b"", []
    for message, by_count in zip(messages, counted, strict=False):
        if not by_count:
            message = b"<" + message.translate(None, b"\r\n\0")[: LIMIT - 1]
        data += b"%d %s" % (len(message), message) if by_count else message + b"\n"
        if message := message.rstrip(b"\r\n\0"):
            expected.append(message)
    assert read(data, sizes) == (expected, [])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2_000) | st.text(alphabet="0123456789 <>\n\0ab", max_size=500).map(str.encode), SIZES)
@example(b"99999999999999999999999 a\n<1>b\n", [1])
def test_bytes_mean_the_same_however_they_are_cut(data: bytes, sizes: list[int]) -> None:
    assert read(data, sizes) == read(data)


@pytest.mark.parametrize(
    ("datagram", "message"),
    [
        # As Telegraf 1.37 sends it.
        (b"65 <13>1 2026-11-24T16:22:20Z node-9 tel-syslogudp - tel-syslogudp -", b"<13>1 2026-11-24T16:22:20Z node-9 tel-syslogudp - tel-syslogudp -"),
        (b"65 apples", b"65 apples"),
        (b"<13>a", b"<13>a"),
        (b"", b""),
    ],
)
def test_a_datagram_loses_a_count_that_fits(datagram: bytes, message: bytes) -> None:
    assert without_count(datagram) == message
