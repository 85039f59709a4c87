"""A pattern that is matched over many texts at once says of each what `re` says of it alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.formats import heads
from services.ingest.formats.line_pattern import FEW, LinePattern

PATTERNS = {
    "words": r"(\w+)(?:=(\S*))?(?=\s|$)(.*)",
    "quotes": r'"((?:[^"\\]|\\.)*)"(.*)',
    "any case": r"((?i:kiss|[a-k])+)\b(.?)(.*)",
    "set": r"([^a\s[\]]+)([\s:]?)(.*)",
    "heads": r"(?>([0-9]{2})(?![0-9]))(?:(?>(x+))|(y*))(.*)",
    "behind level": heads._BEHIND_LEVEL,
    "levelled": heads._LEVELLED,
    "unlevelled": heads._UNLEVELLED,
}
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.text(alphabet="kKiIsSßſKıİ \ud800\n", max_size=8),
        st.text(alphabet='ab=x1 [](){}|:",-\\\t\r\v\f\n\x1f\x85ſK', max_size=30),
        st.sampled_from(
            (
                '"a',
                'b"',
                "12xx y",
                " 2931 INFO nova.compute [req-1 2 3] text",
                " debug",
                " - warn: x",
                "ERROR",
                " [main] WARN c.d.E - text: more",
                "stdout F app[12]: text",
                '"a\nb" c',
            )
        ),
    ),
    max_size=8,
)
"""Of which enough are made for them to be read together."""


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@given(texts=TEXTS)
def test_lines_are_read_together_as_each_is_alone(pattern: str, texts: list[str]) -> None:
    alone = re.compile(pattern, re.ASCII | re.DOTALL)
    texts = texts * FEW
    expected = [match.groups("") if (match := alone.match(text)) else ("",) * alone.groups for text in texts]
    assert LinePattern(pattern, re.DOTALL).read(texts) == expected
    assert LinePattern(pattern, re.DOTALL, groups=1).read(texts) == [groups[:1] for groups in expected]


def test_a_line_that_takes_too_many_steps_is_read_alone() -> None:
    deep = "(" * 3_000 + "x" + ")" * 3_000
    assert LinePattern(r"((?:\((?:[^()]|\([^()]*\))*|.)*)").read([deep, "y"] * FEW) == [(deep,), ("y",)] * FEW
