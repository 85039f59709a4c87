from __future__ import annotations

from time import perf_counter

import pytest
from graphql import GraphQLError, get_introspection_query, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission import parse_document
from gateway.limits import (
    MAX_ALIASES,
    MAX_DEPTH,
    MAX_DIRECTIVES,
    MAX_DOCUMENT_CHARACTERS,
    MAX_FIELDS,
    MAX_ROOT_FIELDS,
    asks_for_schema,
    check_document,
    may_run_anonymously,
    measure_document,
)
from gateway.schema import create_schema

SCHEMA = create_schema()._schema


def nest(depth: int) -> str:
    return "{a" * depth + "}" * depth


@pytest.mark.parametrize(
    ("write", "limit", "what"),
    [
        (nest, MAX_DEPTH, "levels of fields"),
        (lambda count: "{x{" + " ".join(f"a{number}:b" for number in range(count)) + "}}", MAX_ALIASES, "aliases"),
        (lambda count: "{a" + " @include(if: true)" * count + "}", MAX_DIRECTIVES, "directives"),
        (lambda count: "{" + " ".join(f"a{number}" for number in range(count)) + "}", MAX_ROOT_FIELDS, "root fields"),
        (lambda count: "{x{" + " ".join("a" for _ in range(count - 1)) + "}}", MAX_FIELDS, "fields"),
        (lambda count: "{...F} fragment F on T" + nest(count), MAX_DEPTH, "levels of fields"),
        (lambda count: "{x{...F}} fragment F on T{" + " ".join(f"a{number}:b" for number in range(count)) + "}", MAX_ALIASES, "aliases"),
        (lambda count: "query" + " @a" * count + "{b}", MAX_DIRECTIVES, "directives"),
        (lambda count: "{...F} fragment F on T" + " @a" * count + "{b}", MAX_DIRECTIVES, "directives"),
        (lambda count: "{...F" + " @a" * count + "} fragment F on T{b}", MAX_DIRECTIVES, "directives"),
        (lambda count: "{" + "... on Query{" * 3 + " ".join(f"a{number}" for number in range(count)) + "}" * 4, MAX_ROOT_FIELDS, "root fields"),
    ],
)
def test_just_within_passes_and_just_over_fails(write: object, limit: int, what: str) -> None:
    assert callable(write)
    assert check_document(parse(write(limit))) == []
    assert f"the document has more than {limit} {what}" in [error.message for error in check_document(parse(write(limit + 1)))]


def test_nested_fragments_are_counted_without_being_expanded() -> None:
    fragments = "".join(f"fragment F{number} on T {{ a:b ...F{number + 1} ...F{number + 1} }}\n" for number in range(60))
    document = parse("{...F0}" + fragments + "fragment F60 on T {a}")
    started = perf_counter()
    errors = check_document(document)
    assert perf_counter() - started < 2
    assert {error.message.rpartition(" ")[2] for error in errors} >= {"aliases", "fields"}


def test_circular_fragments_end() -> None:
    assert measure_document(parse("{...A} fragment A on Query{me{name ...A}}")).fields == 2
    errors = parse_document("{...A} fragment A on Query{me{name ...A}}").validate(SCHEMA)
    assert any("itself" in error.message for error in errors)


def test_the_query_that_tools_read_the_schema_with_is_within_the_limits() -> None:
    document = parse_document(get_introspection_query(specified_by_url=True, directive_is_repeatable=True, input_value_deprecation=True))
    assert document.validate(SCHEMA) == []


def test_introspection_cannot_be_nested_without_end() -> None:
    deep = "{__schema{types{fields{type{fields{type{fields{type{fields{type{name}}}}}}}}}}}"
    assert any("introspection depth" in error.message for error in parse_document(deep).validate(SCHEMA))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{me{name}}" + " " * MAX_DOCUMENT_CHARACTERS, "more than 65536 characters"),
        ("{" + "a " * 1_000 + "}", "more than 1000 tokens"),
        ("#" + "x" * 60_000 + "\n" * 3_000 + "{" + "a " * 1_000 + "}", "more than 1000 tokens"),
        ("{a" * 450, "Syntax Error|nested too deeply"),
        ("{me(", "Syntax Error"),
    ],
)
def test_a_document_that_is_too_large_is_not_parsed(text: str, message: str) -> None:
    started = perf_counter()
    with pytest.raises(GraphQLError, match=message):
        parse_document(text)
    assert perf_counter() - started < 2


def test_errors_suggest_nothing() -> None:
    for text in ("{events{edge{cursor}}}", "{events(frist:1){degraded}}", "{events(order:NEWEST_FIRS){degraded}}", "{x:event(id:1){... on LogEven{id}}}"):
        errors = parse_document(text).validate(SCHEMA)
        assert errors
        assert not any("Did you mean" in error.message for error in errors)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ('mutation{login(username:"a",password:"b"){user{id}}}', True),
        ('mutation{refresh(refreshToken:"a"){accessToken} __typename}', True),
        ("{__typename}", True),
        ("{a:__typename}", True),
        ("{me{name}}", False),
        ("{__schema{types{name}}}", False),
        ('{__type(name:"User"){name}}', False),
        ("{__typename me{name}}", False),
        ("{... on Query{__typename}}", False),
        ("{...F} fragment F on Query{me{name}}", False),
        ('mutation{logout(refreshToken:"a")}', False),
        ('mutation{login(username:"a",password:"b"){user{id}} createUser(username:"a",password:"b",role:"admin"){id}}', False),
        ("subscription{tail{__typename}}", False),
        ("subscription{__typename}", False),
        ("query A{__typename} query B{me{name}}", False),
    ],
)
def test_what_anonymous_callers_may_run(text: str, allowed: bool) -> None:
    assert may_run_anonymously(parse(text)) is allowed


def test_reading_the_schema_is_seen_through_fragments() -> None:
    assert asks_for_schema(parse("{...F} fragment F on Query{... on Query{__schema{types{name}}}}"))
    assert not asks_for_schema(parse("{me{__typename}}"))


@settings(max_examples=200)
@given(st.text(alphabet='{}()@$:!"abc \n#.,[]=|&', max_size=200))
def test_no_text_breaks_the_limits(text: str) -> None:
    try:
        document = parse_document(text)
    except GraphQLError:
        return
    document.validate(SCHEMA)
