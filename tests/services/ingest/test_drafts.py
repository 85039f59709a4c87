"""Drafts of blocks and what they count: against counting event by event."""

from __future__ import annotations

from collections import Counter

import orjson
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from elis.ingest.v1 import ingest_pb2 as pb
from services.ingest.batch import Batch
from services.ingest.drafts import build_block, draft_blocks
from services.ingest.pipeline import Prepared

MINUTE = 60_000_000_000
DAY = 1_440 * MINUTE
_EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0, 5, MINUTE, 2 * DAY, 2 * DAY + MINUTE]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["", "web"]),
        st.sampled_from(["", "h1", "h2"]),
        st.sampled_from([0, 9, 17]),
        st.sampled_from([1, 2**63 + 5]),
    ),
    max_size=25,
)


def prepare(events: list[tuple[int, str, str, str, int, int]]) -> Prepared:
    """Returns rows that are ready to become blocks; source b is kept for 7 days."""
    batch = Batch()
    for number, (_, source, service, host, severity, _) in enumerate(events):
        batch.append(f"event {number}", source=source, service=service, host=host, severity_number=severity)
    rows = len(events)
    prepared = Prepared(batch, [9] * rows, timestamps=[event[0] for event in events], rows=list(range(rows)))
    prepared.systems = [f"system of {event[1]}" for event in events]
    prepared.environments = [f"environment of {event[1]}" for event in events]
    prepared.keep_days = {"b": 7}
    prepared.fingerprints = [event[5] for event in events]
    prepared.fingerprint_texts = [f"{event[5]:016x}" for event in events]
    prepared.templates = {1: "one", 2**63 + 5: "other"}
    return prepared


@settings(max_examples=150, deadline=None)
@given(events=_EVENTS, left_out=st.sets(st.integers(0, 24)), most=st.integers(1, 30))
def test_blocks_hold_and_count_their_events(events: list[tuple[int, str, str, str, int, int]], left_out: set[int], most: int) -> None:
    prepared = prepare(events)
    rows = [row for row in prepared.rows if row not in left_out]
    drafts = list(draft_blocks(prepared, rows, most))
    assert sorted(row for draft in drafts for row in draft.rows) == rows
    for draft in drafts:
        chosen = [events[row] for row in draft.rows]
        assert 0 < len(chosen) <= most
        assert {(event[0] // DAY, 7 if event[1] == "b" else 0) for event in chosen} == {(draft.partition.day, draft.partition.keep_days)}
        block = build_block(prepared, draft, 3)
        assert (block.events, block.first_timestamp, block.last_timestamp) == (len(chosen), min(chosen)[0], max(event[0] for event in chosen))
        lines = zstandard.ZstdDecompressor().decompress(block.lines).splitlines()
        assert [orjson.loads(line)["body"] for line in lines] == [f"event {row}" for row in draft.rows]
        summary = pb.BlockSummary.FromString(zstandard.ZstdDecompressor().decompress(block.summary))
        assert counted(summary) == Counter(
            (event[0] // MINUTE, event[1], f"system of {event[1]}", f"environment of {event[1]}", *event[2:5], prepared.templates[event[5]]) for event in chosen
        )
        keys = [(event[0] // MINUTE, *event[1:]) for event in chosen]
        assert list(summary.first_ordinal) == [keys.index(key) for key in dict.fromkeys(keys)]
        assert block.sources == tuple(dict.fromkeys(event[1] for event in chosen))


def counted(summary: pb.BlockSummary) -> Counter[tuple[int | str, ...]]:
    """Returns the counts of a summary with the names that its numbers stand for."""
    columns = (summary.minute, summary.source, summary.service, summary.host, summary.severity_number, summary.fingerprint, summary.count)
    counts: Counter[tuple[int | str, ...]] = Counter()
    for minute, source, service, host, severity, fingerprint, count in zip(*columns, strict=True):
        names = summary.sources[source], summary.systems[source], summary.environments[source]
        counts[minute, *names, summary.services[service], summary.hosts[host], severity, summary.templates[fingerprint]] += count
    return counts
