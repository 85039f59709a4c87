"""The search service as its callers see it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from elis.search.v1 import search_pb2 as pb
from elis.search.v1 import search_pb2_grpc as rpc
from kit.errors import Internal, InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from kit.identity import Identity
from services.search.app import assemble
from services.search.engine import DAY
from tests.fixtures.servers import run_service
from tests.services.search.corpus import NOON
from tests.services.search.peers import TemplatesPeer, run_templates
from tests.services.search.stage import NOWHERE, Stage, eventually, until_found

SECOND = 1_000_000_000


def row(second: int, service: str, body: str, **more: Any) -> dict[str, Any]:
    return {"timestamp": NOON + second * SECOND, "service": service, "body": body, **more}


EVENTS = [
    row(0, "shop", "order 1 placed", fingerprint="aa" * 8),
    row(1, "shop", "order 2 placed", fingerprint="aa" * 8, attributes={"order_id": 2}),
    row(2, "pay", "connection refused", fingerprint="bb" * 8, severity_number=17, severity_text="ERROR", host="h1"),
    row(3, "pay", "connection refused", fingerprint="cc" * 8, severity_number=17, host="h2", trace_id="ab" * 16),
    row(86_400, "shop", "order 3 placed", fingerprint="aa" * 8),
]


def names(fields: Sequence[str]) -> list[pb.ProjectedField]:
    return [pb.ProjectedField(field=field, response_name=field.upper()) for field in fields]


async def test_a_page_of_events(stage: Stage) -> None:
    lines = await stage.log.commit(EVENTS)
    async with stage.search() as search:
        await until_found(search, 5)
        response = await search.SearchEvents(pb.SearchEventsRequest(first=2, with_total=True, filter=pb.Filter(query="order")))
        assert [event.event_id for event in response.events] == [lines[4].event_id, lines[1].event_id]
        assert (response.has_next_page, response.total, list(response.rows)) == (True, 3, [])
        event = response.events[1]
        assert (event.body, event.service, event.system, json.loads(event.attributes_json)) == ("order 2 placed", "shop", "application", {"order_id": 2})
        assert event.timestamp.ToNanoseconds() == NOON + SECOND
        assert json.loads(response.events[0].attributes_json) == {}
        rest = await search.SearchEvents(pb.SearchEventsRequest(first=2, filter=pb.Filter(query="order"), after=response.cursors[-1]))
        assert [event.event_id for event in rest.events] == [lines[0].event_id]
        assert not rest.has_next_page
        assert not rest.HasField("total")
        oldest = await search.SearchEvents(pb.SearchEventsRequest(order=pb.ORDER_OLDEST_FIRST, filter=pb.Filter(services=["shop"])))
        assert [event.event_id for event in oldest.events] == [lines[0].event_id, lines[1].event_id, lines[4].event_id]


async def test_filters_hold_together(stage: Stage) -> None:
    lines = await stage.log.commit(EVENTS)
    async with stage.search() as search:
        await until_found(search, 5)
        for given, expected in (
            (pb.Filter(min_severity=17), [2, 3]),
            (pb.Filter(hosts=["h1", "h9"]), [2]),
            (pb.Filter(hosts=["h1", "h2"], services=["pay"], query="refused", fingerprints=["cc" * 8]), [3]),
            (pb.Filter(trace_id="AB" * 16), [3]),
            (pb.Filter(start=NOON + SECOND, end=NOON + 3 * SECOND), [1, 2]),
            (pb.Filter(start=NOON + 3 * SECOND), [3, 4]),
            (pb.Filter(sources=["nobody"]), []),
            (pb.Filter(systems=["application"], end=NOON + 1), [0]),
        ):
            response = await search.SearchEvents(pb.SearchEventsRequest(filter=given, order=pb.ORDER_OLDEST_FIRST))
            assert [event.event_id for event in response.events] == [lines[number].event_id for number in expected], given


async def test_rows_are_projected(stage: Stage) -> None:
    (line,) = await stage.log.commit([row(0, "shop", 'say "hi"\n', attributes={"a": [1, {"ü": None}]})])
    async with stage.search() as search:
        await until_found(search, 1)
        fields = ["severity_number", "body", "event_id", "timestamp", "attributes", "host", "service"]
        response = await search.SearchEvents(pb.SearchEventsRequest(projection=names(fields)))
        assert not response.events
        expected = {
            "SEVERITY_NUMBER": 9,
            "BODY": 'say "hi"\n',
            "EVENT_ID": str(line.event_id),
            "TIMESTAMP": "2024-10-04T12:00:00.000000000Z",
            "ATTRIBUTES": {"a": [1, {"ü": None}]},
            "HOST": None,
            "SERVICE": "shop",
        }
        assert json.loads(response.rows[0]) == expected
        assert list(json.loads(response.rows[0])) == list(expected)


async def test_one_event(stage: Stage) -> None:
    lines = await stage.log.commit(EVENTS)
    async with stage.search() as search:
        await until_found(search, 5)
        for line in lines:
            assert (await search.GetEvent(pb.GetEventRequest(id=line.event_id))).event.body == line.body
        with pytest.raises(NotFound, match="event 77 does not exist"):
            await search.GetEvent(pb.GetEventRequest(id=77))


async def test_histogram_fills_empty_buckets_and_splits(stage: Stage) -> None:
    await stage.log.commit(EVENTS)
    async with stage.search() as search:
        await until_found(search, 5)
        given = pb.Filter(start=NOON - SECOND, end=NOON + 5 * SECOND)
        response = await search.Histogram(pb.HistogramRequest(filter=given, interval=2 * SECOND, split_by="service"))
        assert [bucket.start.seconds - NOON // SECOND for bucket in response.buckets] == [-2, 0, 2, 4]
        assert [bucket.count for bucket in response.buckets] == [0, 2, 2, 0]
        assert [[(part.value, part.count) for part in bucket.split] for bucket in response.buckets] == [[], [("shop", 2)], [("pay", 2)], []]
        assert (response.total, response.interval) == (4, 2 * SECOND)
        whole = await search.Histogram(pb.HistogramRequest())
        assert whole.interval == DAY // 24 // 2
        assert (whole.buckets[0].count, whole.buckets[-1].count, sum(bucket.count for bucket in whole.buckets)) == (4, 1, 5)
        nothing = await search.Histogram(pb.HistogramRequest(filter=pb.Filter(query="absent")))
        assert not nothing.buckets
        zeros = await search.Histogram(pb.HistogramRequest(filter=pb.Filter(query="absent", start=NOON, end=NOON + 60 * SECOND)))
        assert [bucket.count for bucket in zeros.buckets] == [0] * 60


async def test_facets(stage: Stage) -> None:
    await stage.log.commit(EVENTS)
    async with stage.search() as search:
        await until_found(search, 5)
        response = await search.Facets(pb.FacetsRequest(fields=["service", "host", "attributes.order_id"], size=1))
        values = {facet.field: ([(value.value, value.count) for value in facet.values], facet.other) for facet in response.facets}
        assert values == {"service": ([("shop", 3)], 2), "host": ([("h1", 1)], 1), "attributes.order_id": ([("2", 1)], 0)}
        assert response.total == 5


async def test_patterns_are_merged_by_template(stage: Stage) -> None:
    lines = await stage.log.commit(EVENTS)
    async with run_templates(TemplatesPeer({"t1": ["bb" * 8, "cc" * 8, "dd" * 8]}), stage.issuer) as address, stage.search(correlate=address) as search:
        await until_found(search, 5)
        response = await search.Patterns(pb.PatternsRequest(points=4, filter=pb.Filter(start=NOON, end=NOON + 4 * SECOND)))
        assert response.total == 4
        assert [(pattern.template_id, pattern.template, pattern.count, pattern.share) for pattern in response.patterns] == [
            ("aa" * 8, "order 2 placed", 2, 0.5),
            ("t1", "text of t1", 2, 0.5),
        ]
        assert [list(pattern.sparkline) for pattern in response.patterns] == [[1, 1, 0, 0], [0, 0, 1, 1]]
        assert list(response.patterns[1].fingerprints) == ["bb" * 8, "cc" * 8]
        assert [pattern.sample_event_id for pattern in response.patterns] == [lines[1].event_id, lines[3].event_id]


@pytest.mark.parametrize("failing", [True, False])
async def test_patterns_without_correlate_are_fingerprints(stage: Stage, failing: bool) -> None:
    await stage.log.commit(EVENTS)
    async with run_templates(TemplatesPeer({}, Internal("broken")), stage.issuer) as address, stage.search(correlate=address if failing else NOWHERE) as search:
        await until_found(search, 5)
        response = await search.Patterns(pb.PatternsRequest(size=2))
        assert [(pattern.template_id, pattern.template, pattern.count) for pattern in response.patterns] == [
            ("aa" * 8, "order 3 placed", 3),
            ("bb" * 8, "connection refused", 1),
        ]
        assert len(response.patterns[0].sparkline) == 24
        assert sum(response.patterns[0].sparkline) == 3


async def test_answers_say_how_fresh_they_are(stage: Stage) -> None:
    lines = await stage.log.commit(EVENTS)
    async with stage.search() as search:
        await until_found(search, len(lines))
        committed = stage.log.blocks[-1].created_at.ToNanoseconds()

        async def is_known() -> bool:
            response = await search.SearchEvents(pb.SearchEventsRequest(first=1))
            return bool(response.freshness.as_of.ToNanoseconds() >= committed)

        await eventually(is_known)
        for response in (
            await search.SearchEvents(pb.SearchEventsRequest()),
            await search.Histogram(pb.HistogramRequest()),
            await search.Facets(pb.FacetsRequest(fields=["service"])),
            await search.Patterns(pb.PatternsRequest()),
        ):
            assert response.freshness.as_of.ToNanoseconds() >= committed
            assert 0 <= response.freshness.lag_seconds < 5


BAD: list[tuple[str, Any, str]] = [
    ("SearchEvents", pb.SearchEventsRequest(filter=pb.Filter(query="service:(a")), "something is missing at its end"),
    ("SearchEvents", pb.SearchEventsRequest(filter=pb.Filter(query="x" * 4097)), "at most 4096 bytes"),
    ("SearchEvents", pb.SearchEventsRequest(filter=pb.Filter(start=5, end=5)), "not after its start"),
    ("SearchEvents", pb.SearchEventsRequest(filter=pb.Filter(min_severity=25)), "at most 24"),
    ("SearchEvents", pb.SearchEventsRequest(filter=pb.Filter(hosts=["h"] * 1001)), "at most 1000 values"),
    ("SearchEvents", pb.SearchEventsRequest(first=1001), "1 to 1000 rows"),
    ("SearchEvents", pb.SearchEventsRequest(after="rubbish"), "cursor"),
    ("SearchEvents", pb.SearchEventsRequest(projection=names(["password"])), "no field 'password'"),
    ("Histogram", pb.HistogramRequest(split_by="body"), "can be split by"),
    ("Histogram", pb.HistogramRequest(interval=1500, filter=pb.Filter(start=1, end=NOON)), "whole number of milliseconds"),
    ("Histogram", pb.HistogramRequest(interval=SECOND, filter=pb.Filter(start=NOON, end=NOON + DAY)), "at most 2000"),
    ("Facets", pb.FacetsRequest(fields=["body"]), "no facets of 'body'"),
    ("Facets", pb.FacetsRequest(fields=["attributes.a..b"]), "not a path"),
    ("Facets", pb.FacetsRequest(), "1 to 20 fields"),
    ("Patterns", pb.PatternsRequest(size=101), "1 to 100"),
]


async def test_wrong_requests_get_one_clear_sentence(stage: Stage) -> None:
    async with stage.search() as search:
        for method, request, message in BAD:
            with pytest.raises(InvalidArgument, match=message):
                await getattr(search, method)(request)
        with pytest.raises(InvalidArgument, match="cursor"):
            async for _ in search.Tail(pb.TailRequest(after="rubbish")):
                pass


async def test_a_syntax_error_tells_its_position(stage: Stage) -> None:
    async with stage.search() as search:
        with pytest.raises(InvalidArgument) as caught:
            await search.SearchEvents(pb.SearchEventsRequest(filter=pb.Filter(query="service:billing AND )")))
    assert caught.value.detail == {"position": 20}


async def test_only_readers_of_events_may_search(stage: Stage) -> None:
    async with stage.search("incidents:read") as search:
        with pytest.raises(PermissionDenied):
            await search.SearchEvents(pb.SearchEventsRequest())


async def test_anonymous_callers_are_refused(stage: Stage) -> None:
    async def no_token() -> str:
        return ""

    async with (
        assemble(stage.settings(), Identity(stage.issuer.verifier(), no_token)) as application,
        run_service(application) as address,
        stage.issuer.connect(address) as channel,
    ):
        with pytest.raises(Unauthenticated):
            await rpc.SearchServiceStub(channel).SearchEvents(pb.SearchEventsRequest())
