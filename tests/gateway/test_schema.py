from __future__ import annotations

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    specified_scalar_types,
)

from gateway.schema import SDL_PATH, TWINS, Schema, check_sdl, create_schema, main


@pytest.fixture(scope="module")
def schema() -> Schema:
    return create_schema()


def own_types(schema: Schema) -> list[GraphQLNamedType]:
    return [kind for name, kind in schema._schema.type_map.items() if not name.startswith("__") and name not in specified_scalar_types]


def test_the_committed_sdl_is_current() -> None:
    assert check_sdl() == ""


def test_the_check_names_what_is_not_current(monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    stale = SDL_PATH.read_text().replace("totalCount", "totalNumber")
    path = type(SDL_PATH)(str(tmp_path)) / "schema.graphql"
    path.write_text(stale)
    monkeypatch.setattr("gateway.schema.SDL_PATH", path)
    assert main(["--check"]) == 1
    assert "-  totalNumber" in capsys.readouterr().err
    assert path.read_text() == stale
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert path.read_text() == SDL_PATH.read_text()
    assert main(["--chekc"]) == 2


def test_everything_is_described(schema: Schema) -> None:
    missing = []
    for kind in own_types(schema):
        if not kind.description:
            missing.append(kind.name)
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in kind.fields.items():
                missing += [f"{kind.name}.{name}"] if not field.description else []
                missing += [f"{kind.name}.{name}({argument})" for argument, definition in field.args.items() if not definition.description]
        elif isinstance(kind, GraphQLInputObjectType):
            missing += [f"{kind.name}.{name}" for name, field in kind.fields.items() if not field.description]
        elif isinstance(kind, GraphQLEnumType):
            missing += [f"{kind.name}.{name}" for name, value in kind.values.items() if not value.description]
    assert missing == []


def test_no_description_is_code(schema: Schema) -> None:
    for kind in own_types(schema):
        assert "elis." not in (kind.description or ""), kind.name


def test_scalars_are_the_ones_documented(schema: Schema) -> None:
    scalars = {kind.name for kind in own_types(schema) if isinstance(kind, GraphQLScalarType)}
    assert scalars == {"BigInt", "DateTime", "Duration", "JSON"}


def test_every_type_without_a_twin_is_built_by_the_gateway(schema: Schema) -> None:
    shown = {kind.__name__ for kind in TWINS}
    objects = {kind.name for kind in own_types(schema) if isinstance(kind, GraphQLObjectType)}
    built = {"Query", "Mutation", "Subscription", "PageInfo", "EventConnection", "Histogram", "Facets", "Patterns", "TailEvents", "Gap", "Heartbeat"}
    assert {name for name in objects - shown - built if not name.endswith(("Connection", "Edge"))} == set()
