"""Query text to conditions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import InvalidArgument
from services.search.conditions import (
    All,
    Attribute,
    AttributePrefix,
    AttributePresent,
    AttributeRange,
    Condition,
    Either,
    Everything,
    Not,
    Number,
    Present,
    Text,
    TextPrefix,
    Words,
)
from services.search.engines.tantivy.query import QueryBuilder
from services.search.engines.tantivy.schema import create_schema
from services.search.language import QueryNotUnderstood, parse_query
from services.search.matcher import compile_condition

BUILDER = QueryBuilder(create_schema())
A, B, C = (Words((word,)) for word in "abc")

MEANINGS: dict[str, Condition] = {
    "": Everything(),
    " \t ": Everything(),
    "*": Everything(),
    "*:*": Everything(),
    "a b": All((A, B)),
    "a AND b": All((A, B)),
    "a OR b": Either((A, B)),
    "a OR b c": All((Either((A, B)), C)),
    "a OR b -c": All((Either((A, B)), Not(C))),
    "a b OR c": All((A, Either((B, C)))),
    "a OR b AND c": Either((A, All((B, C)))),
    "NOT a b": All((Not(A), B)),
    "-(a OR b)": Not(Either((A, B))),
    "+a": A,
    "not": Words(("not",)),
    '"Connection refused"': Words(("connection", "refused")),
    "10.0.0.5": Words(("10", "0", "0", "5")),
    "DBIF_*": Words(("dbif",)),
    "pay*": Words(("pay",), prefix=True),
    "time-out*": Words(("time", "out"), prefix=True),
    '"50% *"': Words(("50",)),
    'body:"a b"': Words(("a", "b")),
    "message:a": A,
    "service:billing": Text("service", ("billing",)),
    "host:web-3": Text("host", ("web-3",)),
    'service:"a b"': Text("service", ("a b",)),
    "service:(x OR y)": Either((Text("service", ("x",)), Text("service", ("y",)))),
    "env:prod*": TextPrefix("environment", "prod"),
    "trace:C0FFEE*": TextPrefix("trace_id", "c0ffee"),
    "fingerprint:AB": Text("fingerprint", ("ab",)),
    "trace:*": Present("trace_id"),
    "severity:error": Number("severity_number", 17, 20),
    "severity:WARN": Number("severity_number", 13, 16),
    "severity:>=error": Number("severity_number", 17, None),
    "severity:>error": Number("severity_number", 21, None),
    "severity:<=info": Number("severity_number", None, 12),
    "severity:<info": Number("severity_number", None, 8),
    "severity:[warn TO error]": Number("severity_number", 13, 20),
    "severity_number:{9 TO 17}": Number("severity_number", 10, 16),
    "severity:17": Number("severity_number", 17, 17),
    "severity:*": Everything(),
    "event_id:7": Number("event_id", 7, 7),
    "timestamp:1970-01-02": Number("timestamp", 86_400 * 10**9, 2 * 86_400 * 10**9 - 1),
    "timestamp:>=1970-01-01T00:00:01.5Z": Number("timestamp", 1_500_000_000, None),
    'time:<"1970-01-01T01:00:00+01:00"': Number("timestamp", None, -1),
    "order_id:42": Attribute("order_id", "42"),
    "attributes.order_id:42": Attribute("order_id", "42"),
    "attributes.service:x": Attribute("service", "x"),
    'http.path:"/pay"': Attribute("http.path", "/pay"),
    "a\\:b:c": Attribute("a:b", "c"),
    'x:"a*"': Attribute("x", "a*"),
    "x:ab*": AttributePrefix("x", "ab"),
    "x:*": AttributePresent("x"),
    "x:[* TO *]": AttributePresent("x"),
    "x:-5": Attribute("x", "-5"),
    "x:-y": Not(Attribute("x", "y")),
    "x:>100": AttributeRange("x", 100, None, include_low=False, include_high=False),
    "x:[-5 TO 2.5}": AttributeRange("x", -5, 2.5, include_low=True, include_high=False),
    'x:>="-5"': AttributeRange("x", -5, None, include_low=True, include_high=False),
}


@pytest.mark.parametrize("query", MEANINGS)
def test_meaning(query: str) -> None:
    assert parse_query(query) == MEANINGS[query]


REFUSALS = {
    "service:(a": (10, "missing at its end"),
    "a)": (1, "no opening parenthesis"),
    "a AND": (5, "missing at its end"),
    "AND a": (0, "unexpected 'AND'"),
    'x "abc': (2, "never closed"),
    "x:>-5": (3, "negative number in quotes"),
    "a && b": (2, "write AND"),
    "<error": (0, "ranges are for numbers"),
    "a~2": (0, "~ has no meaning"),
    '"a b"~2.5': (5, "have no meaning"),
    "a^1.2.3": (1, "have no meaning"),
    "a^2": (0, "^ has no meaning"),
    "/x.*/": (0, "text between slashes"),
    "te*t": (0, "at the end of a word"),
    "*ing": (0, "at the end of a word"),
    "te?t": (0, "at the end of a word"),
    "a:b:c": (2, "field inside a field"),
    "host:>5": (5, "holds text"),
    "x:[a TO b]": (2, "needs numbers"),
    "attributes:x": (0, "attributes.order_id"),
    "x" * 300: (0, "255 bytes"),
    "http.path:/pay": (10, "put it in quotes"),
    "x:[1.5 TO 9007199254740993]": (2, "at most 15 digits"),
}


@pytest.mark.parametrize("query", REFUSALS)
def test_refusals_name_the_place_and_a_way_out(query: str) -> None:
    position, hint = REFUSALS[query]
    with pytest.raises(QueryNotUnderstood) as caught:
        parse_query(query)
    assert hint in caught.value.message
    assert caught.value.detail["position"] == position


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("x" * 4097, "at most 4096 bytes"),
        (" ".join("x" * 101), "at most 100 conditions"),
        ("(" * 21 + "a" + ")" * 21, "nested at most 20 deep"),
        (" ".join(["x*"] * 11), "at most 10 wildcards"),
        ("severity:loud", "is no severity"),
        ("timestamp:yesterday", "is no time"),
        ("timestamp:2024-13-01", "there is no time"),
        ("event_id:x", "is a whole number"),
        ("a..b:1", "not a path"),
    ],
)
def test_bounds_and_values(query: str, hint: str) -> None:
    with pytest.raises(InvalidArgument, match=hint):
        parse_query(query)


@given(st.text(st.sampled_from('ab1 :*?"()[]{}<>=-+!~^/\\.&|ANDORTO\n\té'), max_size=60))
def test_any_text_is_read_or_refused(query: str) -> None:
    try:
        condition = parse_query(query)
    except InvalidArgument:
        return
    compile_condition(condition)
    BUILDER.build(condition)
