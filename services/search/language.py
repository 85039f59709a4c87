"""The query language: Lucene-like text to conditions. docs/search.md describes it for those who write queries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from luqum import tree
from luqum.exceptions import ParseError
from luqum.thread import parse

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
    combine,
    read_number,
)
from services.search.fields import ALIASES, ATTRIBUTES, BODY, NUMBER_FIELDS, TEXT_FIELDS, normalise_value
from services.search.spans import read_span
from services.search.words import is_searchable, split_words

MAX_QUERY_BYTES = 4096
MAX_CLAUSES = 100
MAX_DEPTH = 20
MAX_PREFIXES = 10
MAX_PATH_DEPTH = 20
MAX_PATH_LENGTH = 200
_EXACT_FLOAT = 2**52
"""Up to here a float can hold a whole number and its neighbours' halves."""
_QUOTE = "put text with special characters in quotes"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_POSITION = re.compile(r"unexpected +'(.*)' at position (\d+)", re.DOTALL)
_ILLEGAL = re.compile(r"at position (\d+)$")


class QueryNotUnderstood(InvalidArgument):
    """A query that cannot be read. `position` counts characters from 0."""


def parse_query(query: str) -> Condition:
    """Returns the condition that a query states; raises QueryNotUnderstood (with position and hint) or InvalidArgument."""
    if len(query.encode()) > MAX_QUERY_BYTES:
        raise InvalidArgument(f"a query has at most {MAX_QUERY_BYTES} bytes, not {len(query.encode())}")
    if not query.strip():
        return Everything()
    try:
        parsed = parse(query)
    except ParseError as error:
        raise _explain(query, str(error)) from None
    except (ValueError, ArithmeticError):
        # luqum converts the numbers after ~ and ^ while it parses.
        position = min(place for place in (query.find("~"), query.find("^")) if place >= 0)
        raise QueryNotUnderstood(f"~ and ^ have no meaning here (at position {position}); {_QUOTE}", position=position) from None
    return _Reader().read(parsed, None, 0)


def _explain(query: str, message: str) -> QueryNotUnderstood:
    """Turns the parser's message into one that names the place and what may help."""
    unexpected = _POSITION.search(message)
    if unexpected:
        token, position = unexpected[1], int(unexpected[2])
        hint = {
            ")": "there is no opening parenthesis for it, or nothing before it",
            "-": "put a negative number in quotes or in a range: [-5 TO *]",
            ":": "put the text in quotes",
        }.get(token, "put it in quotes if it is text to look for")
        return QueryNotUnderstood(f"the query is not understood: unexpected {token!r} at position {position}; {hint}", position=position)
    illegal = _ILLEGAL.search(message)
    if illegal:
        position = int(illegal[1])
        hint = "the quotation mark is never closed" if query[position] == '"' else "put it in quotes if it is text to look for"
        return QueryNotUnderstood(f"the query is not understood: unexpected {query[position]!r} at position {position}; {hint}", position=position)
    hint = "something is missing at its end: a value, an operand, or a closing parenthesis"
    return QueryNotUnderstood(f"the query is not understood: {hint}", position=len(query))


@dataclass(frozen=True, slots=True)
class _Field:
    """What a clause is about: the body, a text or number field of the event, or a path in its attributes."""

    kind: Literal["body", "text", "number", "attribute"]
    name: str


@dataclass(frozen=True, slots=True)
class _Bound:
    """One end of a range, as written."""

    text: str
    included: bool


_BODY = _Field("body", BODY)


@dataclass(slots=True)
class _Reader:
    """Reads one parsed query; counts what is bounded."""

    clauses: int = 0
    prefixes: int = 0

    def read(self, node: Any, field: _Field | None, depth: int) -> Condition:
        """Returns the condition of a node of luqum's tree; without a field, words are looked for in the body."""
        if depth > MAX_DEPTH:
            raise InvalidArgument(f"a query is nested at most {MAX_DEPTH} deep")
        condition, others = self._operate(node, field, depth)
        return combine([condition, *others])

    def _operate(self, node: Any, field: _Field | None, depth: int) -> tuple[Condition, list[Condition]]:
        """Returns the condition of an operation, and those that a mere space adds to it.

        A space binds loosest, whatever follows it. luqum makes an exception for `a OR b -c`, which it reads as
        `a OR (b AND NOT c)`; handing the conditions after a space upwards undoes that.
        """
        if not isinstance(node, tree.AndOperation | tree.OrOperation | tree.UnknownOperation):
            return self._read_operand(node, field, depth), []
        parts = [self._operate(child, field, depth) for child in node.children]
        conditions, others = [condition for condition, _ in parts], [other for _, more in parts for other in more]
        match node:
            case tree.AndOperation():
                return All(tuple(conditions)), others
            case tree.OrOperation():
                return Either(tuple(conditions)), others
        return conditions[0], [*conditions[1:], *others]

    def _read_operand(self, node: Any, field: _Field | None, depth: int) -> Condition:
        match node:
            case tree.Prohibit(a=tree.Word() as word) if field is not None and field.kind in ("number", "attribute") and read_number(word.value) is not None:
                return self._clause(field, "-" + word.value, node)
            case tree.Not() | tree.Prohibit():
                return Not(self.read(node.a, field, depth + 1))
            case tree.Plus():
                return self.read(node.a, field, depth + 1)
            case tree.BaseGroup():
                return self.read(node.expr, field, depth + 1)
            case tree.SearchField():
                return self._read_field(node, field, depth)
            case tree.Word():
                return self._clause(field or _BODY, node.value, node)
            case tree.Phrase():
                return self._clause(field or _BODY, _unescape(node.value[1:-1]), node, quoted=True)
            case tree.From():
                return self._range(field or _BODY, _Bound(_text_of(node.a), node.include), None, node)
            case tree.To():
                return self._range(field or _BODY, None, _Bound(_text_of(node.a), node.include), node)
            case tree.Range():
                return self._range(field or _BODY, _bracketed(node.low, node.include_low), _bracketed(node.high, node.include_high), node)
        names = {tree.Fuzzy: "~", tree.Proximity: "~", tree.Boost: "^", tree.Regex: "text between slashes"}
        raise _refuse(node, f"{names.get(type(node), type(node).__name__)} has no meaning here; {_QUOTE}")

    def _read_field(self, node: Any, outer: _Field | None, depth: int) -> Condition:
        name = _unescape(node.name)
        if outer is not None:
            raise _refuse(node, f"{outer.name}:{name}: is a field inside a field; put a value with a colon in quotes")
        if name == "*" and isinstance(node.expr, tree.Word) and node.expr.value == "*":
            return Everything()
        return self.read(node.expr, _resolve_field(name, node), depth)

    def _count(self, *, prefix: bool = False) -> None:
        self.clauses += 1
        self.prefixes += prefix
        if self.clauses > MAX_CLAUSES:
            raise InvalidArgument(f"a query has at most {MAX_CLAUSES} conditions")
        if self.prefixes > MAX_PREFIXES:
            raise InvalidArgument(f"a query has at most {MAX_PREFIXES} wildcards")

    def _clause(self, field: _Field, raw: str, node: Any, *, quoted: bool = False) -> Condition:
        """Reads a single word or phrase: `raw` is as written for a word, without quotes and escapes for a phrase."""
        text, prefix = (raw, False) if quoted else _split_wildcard(raw, node)
        self._count(prefix=prefix)
        match field.kind:
            case "body":
                return _read_words(text, prefix, node)
            case "number":
                return Everything() if prefix and not text else Number(field.name, *read_span(field.name, text))
            case "text" if prefix:
                return TextPrefix(field.name, normalise_value(field.name, text)) if text else Present(field.name)
            case "text":
                return Text(field.name, (normalise_value(field.name, text),))
            case "attribute" if prefix:
                return AttributePrefix(field.name, text) if text else AttributePresent(field.name)
            case "attribute":
                return Attribute(field.name, text)

    def _range(self, field: _Field, low: _Bound | None, high: _Bound | None, node: Any) -> Condition:
        self._count()
        match field.kind:
            case "number":
                first = last = None
                if low is not None:
                    span = read_span(field.name, low.text)
                    first = span[0] if low.included else span[1] + 1
                if high is not None:
                    span = read_span(field.name, high.text)
                    last = span[1] if high.included else span[0] - 1
                return Number(field.name, first, last)
            case "attribute":
                return _attribute_range(field.name, low, high, node)
        raise _refuse(node, f"{field.name} holds text: ranges are for numbers, severities and times; put < and > in quotes if they are text to look for")


def _resolve_field(name: str, node: Any) -> _Field:
    """Returns the field that a name stands for; an unknown name is a path in the attributes."""
    resolved = ALIASES.get(name, name)
    if resolved in TEXT_FIELDS:
        return _Field("text", resolved)
    if resolved in NUMBER_FIELDS:
        return _Field("number", resolved)
    if resolved == BODY:
        return _BODY
    path = name.removeprefix(ATTRIBUTES + ".")
    if path == ATTRIBUTES:
        raise _refuse(node, "name a value in the attributes, such as attributes.order_id:42")
    check_path(path)
    return _Field("attribute", path)


def check_path(path: str) -> None:
    """Raises InvalidArgument when a text cannot be a path in the attributes."""
    if "\\" in path or not path.isprintable() or len(path) > MAX_PATH_LENGTH or path.count(".") >= MAX_PATH_DEPTH or not all(path.split(".")):
        raise InvalidArgument(f"{path[:MAX_PATH_LENGTH]!r} is not a path in the attributes")


def _unescape(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)


def _split_wildcard(raw: str, node: Any) -> tuple[str, bool]:
    """Returns the text of a word, and whether it ends in a wildcard."""
    prefix = raw.endswith("*") and (len(raw) - len(raw[:-1].rstrip("\\")) - 1) % 2 == 0
    stem = raw[:-1] if prefix else raw
    bare = _ESCAPE.sub("", stem)
    if "*" in bare or "?" in bare:
        raise _refuse(node, f"{raw}: a wildcard is one * at the end of a word; put * and ? in quotes if they are text to look for")
    return _unescape(stem), prefix


def _read_words(text: str, prefix: bool, node: Any) -> Condition:
    if prefix and not text:
        return Everything()
    words = split_words(text)
    if not words:
        hint = {"&&": "write AND", "||": "write OR", "!": "write NOT"}.get(text, "a search needs letters or digits")
        raise _refuse(node, f"{text!r} has no word to look for; {hint}")
    if not all(map(is_searchable, words)):
        raise _refuse(node, "a word of more than 255 bytes cannot be searched")
    # In 10.0.* the star stands alone: whatever follows is welcome, also nothing.
    return Words(tuple(words), prefix and text[-1].isalnum())


def _text_of(node: Any) -> str:
    return _unescape(node.value[1:-1] if isinstance(node, tree.Phrase) else node.value)


def _bracketed(node: Any, included: bool) -> _Bound | None:
    """Returns a bound of a bracketed range; None for `*`."""
    if isinstance(node, tree.Prohibit):
        return _Bound("-" + _text_of(node.a), included)
    if isinstance(node, tree.Word) and node.value == "*":
        return None
    return _Bound(_text_of(node), included)


def _attribute_range(path: str, low: _Bound | None, high: _Bound | None, node: Any) -> Condition:
    numbers = [None if bound is None else read_number(bound.text) for bound in (low, high)]
    for bound, number in zip((low, high), numbers, strict=True):
        if bound is not None and number is None:
            raise _refuse(node, f"a range of {path} needs numbers, not {bound.text!r}")
    if low is None and high is None:
        return AttributePresent(path)
    kinds = {type(number) for number in numbers if number is not None}
    if len(kinds) == 2 and any(isinstance(number, int) and abs(number) > _EXACT_FLOAT for number in numbers):
        raise _refuse(node, f"a range of {path} between a whole number and a fraction takes whole numbers of at most 15 digits")
    return AttributeRange(path, numbers[0], numbers[1], low is not None and low.included, high is not None and high.included)


def _refuse(node: Any, message: str) -> QueryNotUnderstood:
    position = getattr(node, "pos", None)
    return QueryNotUnderstood(message if position is None else f"{message} (at position {position})", position=position or 0)
