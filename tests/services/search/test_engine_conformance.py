"""What every engine must do alike: the same corpus, the same questions, the same answers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.search.conditions import Condition, Everything
from services.search.engine import DAY, MAX_PAGE_BYTES, Engine, Grid, Hits, Key, LineBlock
from services.search.engines.tantivy.engine import TantivyOptions, open_tantivy
from services.search.language import parse_query
from services.search.lines import Line, decode_line
from services.search.matcher import Candidate, compile_selection
from services.search.selection import OPEN_END, OPEN_START, Selection
from tests.services.search.corpus import NOON, compress, lines_of, make_block, make_blocks, make_line

OpenEngine = Callable[[], AbstractAsyncContextManager[Engine]]
ENGINES: dict[str, Callable[[Path], AbstractAsyncContextManager[Engine]]] = {
    "tantivy": lambda folder: open_tantivy(folder, TantivyOptions(writer_heap_bytes=15_000_000, open_writers=2, open_days=2, small_day=10)),
}
SECOND = 1_000_000_000


@pytest.fixture(params=ENGINES)
def open_engine(request: pytest.FixtureRequest, tmp_path: Path) -> OpenEngine:
    """Opens the engine under test; opened again, it has what it had."""
    return lambda: ENGINES[request.param](tmp_path / "search")


@pytest.fixture
async def engine(open_engine: OpenEngine) -> AsyncIterator[Engine]:
    async with open_engine() as opened:
        yield opened


def everything(condition: Condition = Everything(), start: int = OPEN_START, end: int = OPEN_END) -> Selection:  # noqa: B008  immutable
    return Selection(start, end, condition)


def find(query: str) -> Selection:
    return everything(parse_query(query))


async def fill(engine: Engine, blocks: list[LineBlock], position: str = "p") -> list[Line]:
    await engine.index(blocks)
    await engine.commit(position)
    return lines_of(blocks)


async def ids(engine: Engine, query: str) -> list[int]:
    hits = (await engine.search(find(query), newest_first=False, limit=1000)).events
    return sorted(hit.event_id & 0xFFFFF for hit in hits)


async def read_all(engine: Engine, selection: Selection, *, newest_first: bool, page: int) -> list[tuple[int, int]]:
    keys: list[tuple[int, int]] = []
    after: Key | None = None
    while True:
        hits = await engine.search(selection, newest_first=newest_first, limit=page, after=after)
        assert hits.more <= (len(hits.events) == page)
        keys += [(hit.timestamp, hit.event_id) for hit in hits.events]
        if not hits.more:
            return keys
        after = Key(*keys[-1])


async def test_an_empty_engine_answers(engine: Engine) -> None:
    assert engine.position == ""
    assert await engine.search(everything(), newest_first=True, limit=10) == Hits([], more=False)
    assert await engine.count(everything()) == 0
    assert await engine.get(5) is None
    assert await engine.extent(everything()) is None
    assert await engine.days() == []
    facets = await engine.facets(everything(), ["service", "attributes.x"], 10)
    assert facets["service"].values == facets["attributes.x"].values == ()


async def test_lines_come_back_byte_for_byte(engine: Engine) -> None:
    attributes = {"when": "2026-01-01T10:00:00+02:00", "z": 1.0, "a": {"b": [1, "2026-01-01 00:00:00Z", None]}, "big": 2**53 + 1, "text": 'ü"\\\n'}
    block = make_block(7, [{"body": "two\nlines and a ü", "attributes": attributes, "trace_id": "ab" * 16}])
    await fill(engine, [block])
    expected = make_line(7 << 20, body="two\nlines and a ü", attributes=attributes, trace_id="ab" * 16)
    (hit,) = (await engine.search(everything(), newest_first=True, limit=10)).events
    assert hit.line == expected
    assert await engine.get(7 << 20) == expected
    assert await engine.get((7 << 20) + 1) is None


CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "words": (
        {"body": "Connection to 10.0.0.5:30015 REFUSED by DBIF_RSQL_SQL_ERROR, naïve Straße"},
        [
            "connection",
            "refused",
            '"connection to"',
            "10.0.0.5",
            "10.0.0.*",
            "DBIF_RSQL_SQL_ERROR",
            "dbif*",
            "RSQL",
            "naïve",
            "straße",
            "conn* refused",
            "30015",
        ],
        ["connect", '"to connection"', "10.0.5", "0.5.0", '"refused connection"', "3001", "naive", "refusedby"],
    ),
    "fields": (
        {"service": "billing", "host": "web-3", "environment": "production", "trace_id": "c0ffee" + "0" * 26, "severity_number": 18, "severity_text": "ERROR"},
        [
            "service:billing",
            "service:bil*",
            "service:*",
            "host:web-3",
            'host:"web-3"',
            "env:production",
            "trace:c0ffee*",
            "trace:*",
            "severity:error",
            "severity:>=error",
            "severity:>warn",
            "severity_number:[9 TO 18]",
            "severity:18",
            "severity_text:ERROR",
            "service:(billing OR shop)",
            "NOT service:shop",
            "-service:shop",
            "source:web AND system:application",
        ],
        [
            "service:bill",
            "service:Billing",
            "service:shop",
            "span:*",
            "severity:>error",
            "severity:<error",
            "severity_number:[9 TO 18}",
            "-service:billing",
            "severity_text:error",
        ],
    ),
    "ids": (
        {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"},
        [
            "trace:4bf92f3577b34da6a3ce929d0e0e4736",
            "trace:4BF92F3577B34DA6A3CE929D0E0E4736",
            "trace:(4bf92f3577b34da6a3ce929d0e0e4736 OR 00)",
            "trace:4BF9*",
            "trace:4bf92f3577b34da6a3ce929d0e0e4736*",
            "span:00f067aa0ba902b7",
            "span:00f*",
            "span:* trace:4*",
            "NOT trace:5*",
            "-span:00f067aa0ba902b8",
        ],
        [
            "trace:4bf9",
            "trace:4bf92f3577b34da6a3ce929d0e0e473",
            "trace:4bf92f3577b34da6a3ce929d0e0e47361",
            "trace:(00 OR 01)",
            'trace:"] OR *"',
            'trace:"4 TO *] OR source:[a"',
            "trace:g*",
            "trace:ü*",
            "span:4bf92f3577b34da6a3ce929d0e0e4736",
            "NOT trace:4bf92f3577b34da6a3ce929d0e0e4736",
            "-span:*",
        ],
    ),
    "attributes": (
        {
            "attributes": {
                "order_id": 42,
                "user.name": "ada",
                "http": {"status": 503, "path": "/pay"},
                "ratio": 0.5,
                "ok": True,
                "tags": ["a", 7, 2.5],
                "text_number": "42",
                "at": "2026-01-01T10:00:00Z",
                "service": "inner",
                "large": 2**63 + 5,
                "whole": 3.0,
                "null": None,
                "empty": {},
            }
        },
        [
            "order_id:42",
            "attributes.order_id:42",
            "order_id:42.0",
            "order_id:[1 TO 42]",
            "order_id:>41.5",
            "order_id:[41.5 TO 42]",
            "order_id:[42 TO 42.5}",
            "user.name:ada",
            "user.name:a*",
            "http.status:>=500",
            "http.status:{502 TO 504}",
            'http.path:"/pay"',
            "http:*",
            "ratio:0.5",
            "ratio:<1",
            "ok:true",
            "tags:a",
            "tags:7",
            "tags:>6",
            "tags:[2 TO 2.75]",
            "text_number:42",
            "text_number:4*",
            'at:"2026-01-01T10:00:00Z"',
            "at:2026*",
            "attributes.service:inner",
            "large:9223372036854775813",
            "whole:3",
            "whole:[3 TO 3]",
        ],
        [
            "order_id:4",
            "order_id:4*",
            "order_id:>42",
            "order_id:[42.5 TO 50]",
            "order_id:{42 TO 42.5}",
            "user:ada",
            "user.name:Ada",
            "text_number:>1",
            "ok:True",
            "ok:1",
            "tags:[8 TO 100]",
            "tags:[3 TO 6]",
            "http.status:<500",
            'at:"2026-01-01T10:00:01Z"',
            "null:*",
            "empty:*",
            "order:*",
            "service:inner",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_conditions(engine: Engine, case: str) -> None:
    event, matching, others = CASES[case]
    await fill(engine, [make_block(1, [{"body": "something else", "severity_number": 5}, event])])
    for query in matching:
        assert 1 in await ids(engine, query), query
    for query in others:
        assert 1 not in await ids(engine, query), query


async def test_a_time_range_includes_its_start_and_not_its_end(engine: Engine) -> None:
    midnight = 20_001 * DAY
    times = [midnight - 1, midnight, midnight + 1, midnight + DAY - 1, midnight + DAY]
    await fill(engine, make_blocks([{"timestamp": time} for time in times]))
    for start in (*times, OPEN_START):
        for end in (*times, OPEN_END):
            hits = (await engine.search(everything(start=start, end=end), newest_first=False, limit=10)).events
            assert [hit.timestamp for hit in hits] == [time for time in times if start <= time < end]
            assert await engine.count(everything(start=start, end=end)) == len(hits)


async def test_pages_split_ten_thousand_equal_timestamps_without_loss(engine: Engine) -> None:
    before, after = [{"timestamp": NOON - 1 - n} for n in range(30)], [{"timestamp": NOON + 1 + n // 2} for n in range(30)]
    blocks = make_blocks([*before, *({"timestamp": NOON} for _ in range(10_000)), *after], size=2500)
    random.Random(3).shuffle(blocks)
    await engine.index(blocks[:2])
    await engine.commit("a")
    lines = await fill(engine, blocks)
    expected = sorted((line.timestamp, line.event_id) for line in lines)
    assert len(expected) == 10_060
    assert await read_all(engine, everything(), newest_first=True, page=997) == expected[::-1]
    assert await read_all(engine, everything(), newest_first=False, page=1000) == expected


async def test_a_page_of_large_events_is_cut_before_its_limit(engine: Engine) -> None:
    size = MAX_PAGE_BYTES // 3
    blocks = [make_block(n, [{"timestamp": NOON + n % 2 * DAY + n, "attributes": {"text": "x y " * (size // 4)}}]) for n in range(1, 6)]
    lines = await fill(engine, blocks)
    first = await engine.search(everything(), newest_first=True, limit=10)
    assert (len(first.events), first.more) == (2, True)
    rest = await engine.search(everything(), newest_first=True, limit=10, after=Key(first.events[-1].timestamp, first.events[-1].event_id))
    assert (len(rest.events), rest.more) == (2, True)
    assert len({line.event_id for line in lines} - {hit.event_id for hit in first.events + rest.events}) == 1


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), page=st.integers(1, 12), newest_first=st.booleans(), query=st.sampled_from(["", "red", "service:a -red", "n:>1"]))
async def test_pages_equal_a_sorted_list(seed: int, page: int, newest_first: bool, query: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    chance = random.Random(seed)
    events = [
        {
            "timestamp": NOON + chance.choice([-DAY, 0, 0, 1, DAY]) + chance.randrange(3),
            "body": chance.choice(["red", "green", "red green"]),
            "service": chance.choice("ab"),
            "attributes": {"n": chance.randrange(4)},
        }
        for _ in range(chance.randrange(60))
    ]
    blocks = make_blocks(events, size=7)
    chance.shuffle(blocks)
    start, end = sorted(chance.choices([OPEN_START, NOON - DAY, NOON, NOON + 1, NOON + 2, NOON + DAY + 1, OPEN_END], k=2))
    selection = Selection(start, end, parse_query(query))
    holds = compile_selection(selection)
    for name in ENGINES:
        async with ENGINES[name](tmp_path_factory.mktemp("pages")) as engine:
            for block in blocks:
                await engine.index([block])
                if chance.random() < 0.3:
                    await engine.commit(str(block.id))
            await engine.commit("end")
            expected = sorted(((line.timestamp, line.event_id) for line in lines_of(blocks) if holds(Candidate(line))), reverse=newest_first)
            assert await read_all(engine, selection, newest_first=newest_first, page=page) == expected
            assert await engine.count(selection) == len(expected)


async def test_blocks_that_come_again_add_nothing(engine: Engine, open_engine: OpenEngine) -> None:
    blocks = make_blocks([{"timestamp": NOON + n % 3 * DAY, "body": str(n)} for n in range(300)], size=20)
    assert await engine.index([*blocks, *blocks[:5]]) == 300
    assert await engine.index(blocks[3:9]) == 0
    await engine.commit("one")
    assert await engine.index(blocks) == 0
    await engine.commit("two")
    assert await engine.count(everything()) == 300
    assert sum(day.events for day in await engine.days()) == 300


async def test_what_was_committed_is_there_after_a_restart(open_engine: OpenEngine) -> None:
    blocks = make_blocks([{"timestamp": NOON + n % 3 * DAY} for n in range(90)], size=10)
    async with open_engine() as engine:
        await engine.index(blocks[:6])
        await engine.commit("six")
        await engine.index(blocks[6:])
    async with open_engine() as engine:
        assert engine.position == "six"
        assert await engine.count(everything()) == 60
        await engine.index(blocks)
        await engine.commit("all")
        assert await engine.count(everything()) == 90


async def test_rollback_forgets_what_was_not_committed(engine: Engine) -> None:
    blocks = make_blocks([{"body": str(n)} for n in range(40)], size=10)
    await engine.index(blocks[:2])
    await engine.commit("two")
    await engine.index(blocks[2:])
    await engine.rollback()
    await engine.commit("two")
    assert await engine.count(everything()) == 20
    assert await engine.index(blocks) == 20
    await engine.commit("four")
    assert await engine.count(everything()) == 40


async def test_a_deleted_day_is_gone_and_can_come_again(engine: Engine) -> None:
    blocks = make_blocks([{"timestamp": NOON + n % 2 * DAY} for n in range(20)])
    await fill(engine, blocks)
    await engine.delete_day(20_000)
    assert await engine.count(everything()) == 10
    assert [day.day for day in await engine.days()] == [20_001]
    assert await engine.index(blocks) == 10
    await engine.commit("again")
    assert await engine.count(everything()) == 20


async def test_sources_of_a_day_are_forgotten_but_not_what_came_since(engine: Engine) -> None:
    late = NOON + 40 * DAY
    events: list[dict[str, Any]] = [{"source": "chatty", "body": "old"}, {"source": "audit", "body": "old"}, {"source": "other", "body": "old"}]
    await fill(engine, make_blocks([*events, {"source": "chatty", "body": "next", "timestamp": NOON + DAY}], size=1))
    await engine.index(make_blocks([{"source": "chatty", "body": "late", "observed_at": late}], first_id=50))  # not committed yet
    await engine.forget(20_000, ["chatty", "other", "unknown"], late)
    await engine.commit("late")
    hits = (await engine.search(everything(), newest_first=False, limit=10)).events
    assert sorted(line.body for line in map(decode_line, (hit.line for hit in hits))) == ["late", "next", "old"]
    assert await engine.get(1 << 20) is None
    assert [(day.day, day.events) for day in await engine.days()] == [(20_000, 2), (20_001, 1)]
    await engine.forget(20_000, ["audit", "chatty"], late + 1)
    await engine.forget(20_005, ["audit"], late)
    assert [day.day for day in await engine.days()] == [20_001]
    assert await engine.index(make_blocks([{"body": "anew"}], first_id=60)) == 1
    await engine.commit("anew")
    assert await engine.count(everything()) == 2


async def test_lines_that_are_not_canonical_are_left_out(engine: Engine) -> None:
    good = make_block(1, [{"body": "good"}, {"body": "bad"}, {"body": "good"}])
    (first, _, last) = [make_line((1 << 20) + n, body="good") for n in range(3)]
    block = LineBlock(1, good.day, compress([first, b'{"event_id":1048577,"timestamp":', b"\xff\xfe", last]))
    assert await engine.index([block]) == 2
    await engine.commit("p")
    assert await ids(engine, "good") == [0, 2]


async def test_the_events_of_traces_are_found_among_many_and_counted(engine: Engine) -> None:
    traces = [f"{n % 40:032x}" for n in range(400)]
    lines = await fill(engine, make_blocks([{"timestamp": NOON + n % 2 * DAY + n // 7, "trace_id": trace} for n, trace in enumerate(traces)]))
    keys = {trace: sorted((line.timestamp, line.event_id) for line in lines if line.trace_id == trace) for trace in traces[:40]}
    for wanted in (traces[:1], traces[38:40], traces[:12]):
        selection = find(f"trace:({' OR '.join(wanted)})")
        expected = sorted(key for trace in wanted for key in keys[trace])
        assert await read_all(engine, selection, newest_first=False, page=7) == expected
        assert await read_all(engine, selection, newest_first=True, page=50) == expected[::-1]
        assert await engine.count(selection) == len(expected)
    assert await engine.count(find("trace:*")) == 400
    assert await engine.count(find(f"trace:{'0' * 31}*")) == 160


async def test_extent_is_exact(engine: Engine) -> None:
    await fill(engine, make_blocks([{"timestamp": NOON + n * DAY + n, "body": "odd" if n % 2 else "even"} for n in range(4)]))
    assert await engine.extent(everything()) == (NOON, NOON + 3 * DAY + 3)
    assert await engine.extent(find("odd")) == (NOON + DAY + 1, NOON + 3 * DAY + 3)


async def test_histogram_counts_are_exact_at_the_edges(engine: Engine) -> None:
    chance = random.Random(5)
    width = 7_000_000
    grid = Grid((NOON - 20 * width) // 1_000_000 * 1_000_000, width, 40)
    times = [grid.origin + chance.randrange(40) * width + chance.choice([0, 1, width - 1, width // 2]) for _ in range(500)]
    await fill(engine, make_blocks([{"timestamp": time, "service": "ab"[time % 2]} for time in times]))
    selection = everything(start=grid.origin, end=grid.end)
    assert dict(await engine.histogram(selection, grid)) == Counter((time - grid.origin) // width for time in times)
    split = await engine.split_histogram(selection, grid, "service", ["b", "nobody"])
    assert dict(split["b"]) == Counter((time - grid.origin) // width for time in times if time % 2)
    assert dict(split["nobody"]) == {}


@pytest.mark.parametrize("days", [1, 2, 7, 900])
async def test_buckets_may_start_in_the_middle_of_a_day_and_cover_many(engine: Engine, days: int) -> None:
    grid = Grid(NOON + 1_000_000 - 2 * days * DAY, days * DAY, 5)
    borders = [grid.origin + number * grid.width for number in range(1, 4)]
    times = [border + late for border in borders for late in (-2, -1, 0, 1)]
    await fill(engine, make_blocks([{"timestamp": time} for time in times], size=1))
    assert dict(await engine.histogram(everything(start=grid.origin, end=grid.end), grid)) == Counter((time - grid.origin) // grid.width for time in times)


async def test_facets_are_merged_over_days_and_ordered(engine: Engine) -> None:
    rows = [("a", 1), ("b", "1"), ("c", "x"), ("a", 2.5), ("b", True), ("a", "2026-01-01T00:00:00Z"), ("", 1)]
    await fill(
        engine, make_blocks([{"timestamp": NOON + n % 3 * DAY, "service": service, "attributes": {"v": value}} for n, (service, value) in enumerate(rows)])
    )
    facets = await engine.facets(everything(), ["service", "attributes.v", "attributes.none"], 2)
    assert facets["service"].values == (("a", 3), ("b", 2))
    assert facets["service"].other == 1
    assert facets["attributes.v"].values == (("1", 3), ("2.5", 1))
    assert facets["attributes.v"].other == 3
    assert facets["attributes.none"].values == ()
    every = await engine.facets(everything(), ["attributes.v"], 10)
    assert every["attributes.v"].values == (("1", 3), ("2.5", 1), ("2026-01-01T00:00:00Z", 1), ("true", 1), ("x", 1))
