"""The predicate of a condition and the engine select the same events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.search.conditions import (
    All,
    Attribute,
    AttributePrefix,
    AttributePresent,
    AttributeRange,
    Condition,
    Either,
    Not,
    Number,
    Present,
    Text,
    TextPrefix,
    Words,
    normalise_number,
)
from services.search.engine import Engine
from services.search.engines.tantivy.engine import TantivyOptions, open_tantivy
from services.search.matcher import Candidate, compile_selection
from services.search.selection import OPEN_END, OPEN_START, Selection
from services.search.words import is_searchable, split_words
from tests.services.search.corpus import NOON, lines_of, make_block

PATHS = ["n", "s", "a.b", "a", "x y", "t:(1)"]
TEXTS = ["", "5", "42", "2.5", "true", "red", "Red", "redder", "2026-01-01T00:00:00Z", "2026-01-01", "-1", "1e3", "ä", "a\x00b"]
NUMBERS = [0, 1, -1, 5, 42, 2.5, -0.5, 42.0, 2**53, 10**15, -(2**63), 2**63, 2**64 - 1, 2**70, 1e300, 0.1, 1000]
BODIES = [
    "red",
    "RED-green",
    "reddish 10.0.0.5",
    "green_red",
    "Straße rot",
    "ΣΑΣ red",
    "İstanbul",
    "a b a c",
    "x" * 255,
    "x" * 256,
    "x" * 400 + " red",
    "",
    "red\u00a0green",
    "ｒｅｄ",
    "красный",
]

leaves = st.one_of(st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.booleans(), st.none())
values = st.one_of(leaves, st.lists(leaves, max_size=3), st.dictionaries(st.sampled_from(["b", "b.c"]), leaves, max_size=2))
events = st.fixed_dictionaries(
    {"body": st.one_of(st.sampled_from(BODIES), st.text(st.sampled_from("ab1 .-_éΣİßǅ"), max_size=12))},
    optional={
        "service": st.sampled_from(["a", "ab", "A", "b c", "é"]),
        "trace_id": st.sampled_from(["ab12", "ab", "cd"]),
        "severity_number": st.integers(0, 24),
        "timestamp": st.integers(NOON, NOON + 3),
        "attributes": st.dictionaries(st.sampled_from(PATHS), values, max_size=3),
    },
)


def words_of(text: str, *, prefix: bool) -> Condition | None:
    words = tuple(word for word in split_words(text) if is_searchable(word))
    return Words(words, prefix) if words else None


bounds = st.one_of(st.none(), st.sampled_from([n for n in NUMBERS if abs(n) <= 2**52 or isinstance(n, float)]), st.integers(-50, 50), st.floats(-50, 50))


@st.composite
def ranges(draw: st.DrawFn) -> Condition:
    low, high = draw(bounds), draw(bounds)
    low, high = (None if number is None else normalise_number(number) for number in (low, high))
    path = draw(st.sampled_from(PATHS))
    return AttributePresent(path) if low is None and high is None else AttributeRange(path, low, high, draw(st.booleans()), draw(st.booleans()))


simple = st.one_of(
    st.builds(words_of, st.sampled_from([*BODIES, "red green", "10.0", "b a", "İ", "ß", "σας", "1"]), prefix=st.booleans()).filter(bool),
    st.builds(Text, st.just("service"), st.lists(st.sampled_from(["a", "A", "é", "zz"]), min_size=1, max_size=3).map(tuple)),
    st.builds(TextPrefix, st.sampled_from(["service", "trace_id"]), st.sampled_from(["a", "ab", "A", "é"])),
    st.builds(Present, st.sampled_from(["service", "trace_id", "host"])),
    st.builds(Number, st.just("severity_number"), st.one_of(st.none(), st.integers(-2, 26)), st.one_of(st.none(), st.integers(-2, 26))),
    st.builds(Number, st.just("timestamp"), st.one_of(st.none(), st.integers(NOON, NOON + 3)), st.one_of(st.none(), st.integers(NOON, NOON + 3))),
    st.builds(Attribute, st.sampled_from(PATHS), st.one_of(st.sampled_from(TEXTS), st.sampled_from(NUMBERS).map(str))),
    st.builds(AttributePrefix, st.sampled_from(PATHS), st.sampled_from(["r", "re", "2026", "2026-01-01T", "4", "ä"])),
    st.builds(AttributePresent, st.sampled_from([*PATHS, "a.b.c"])),
    ranges(),
)
conditions: st.SearchStrategy[Any] = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(All, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Either, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("engine_name", ["tantivy"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large])
@given(corpus=st.lists(events, min_size=1, max_size=30), asked=st.lists(conditions, min_size=10, max_size=30))
@example(corpus=[{"body": "x", "attributes": {"n": [1, 200]}}], asked=[AttributeRange("n", 50, 100.5, True, True)])
@example(
    corpus=[{"body": "x", "attributes": {"n": 5}}, {"body": "x", "attributes": {"n": 2**63 + 5}}],
    asked=[AttributeRange("n", low, -0.5, True, True) for low in (None, -46.5)],
)
async def test_predicate_and_engine_select_the_same(
    engine_name: str, corpus: list[dict[str, Any]], asked: list[Condition], tmp_path_factory: pytest.TempPathFactory
) -> None:
    block = make_block(3, corpus)
    lines = lines_of([block])
    folder: Path = tmp_path_factory.mktemp("matcher")
    async with open_tantivy(folder, TantivyOptions(writer_heap_bytes=15_000_000)) as opened:
        engine: Engine = opened
        await engine.index([block])
        await engine.commit("p")
        for condition in asked:
            selection = Selection(OPEN_START, OPEN_END, condition)
            holds = compile_selection(selection)
            hits = (await engine.search(selection, newest_first=False, limit=1000)).events
            expected = [line for line in lines if holds(Candidate(line))]
            assert {hit.event_id for hit in hits} == {line.event_id for line in expected}, condition
