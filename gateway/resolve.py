"""Reads the fields of protobuf messages for GraphQL, so that no type needs a mapper.

A field of a GraphQL type that has no resolver of its own is read from the message under the same name:
what is not set is null, a zero enum is null, and an empty text is null where the schema allows null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from strawberry.types.base import StrawberryOptional, has_object_definition
from strawberry.types.field import StrawberryField

Reader = Callable[[Any], object]

TEXT_KINDS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


class UnknownTwin(TypeError):
    """A field of a GraphQL type has no field of that name in the message that the type shows."""


def create_resolver(twins: Mapping[type, type[Message]]) -> Callable[[Any, str], object]:
    """Returns the default resolver for GraphQL types and the messages that they show.

    Raises UnknownTwin when a type has a plain field that its message does not have.
    """
    readers = {message: _create_readers(graphql_type, message) for graphql_type, message in twins.items()}

    def read(source: Any, name: str) -> object:
        known = readers.get(type(source))
        return getattr(source, name) if known is None else known[name](source)

    return read


def plain_fields(graphql_type: type) -> list[StrawberryField]:
    """Returns the fields of a GraphQL type that are read from its message."""
    if not has_object_definition(graphql_type):
        raise TypeError(f"{graphql_type.__name__} is not a GraphQL type")
    return [field for field in graphql_type.__strawberry_definition__.fields if field.base_resolver is None]


def _create_readers(graphql_type: type, message: type[Message]) -> dict[str, Reader]:
    names = message.DESCRIPTOR.fields_by_name
    missing = [field.python_name for field in plain_fields(graphql_type) if field.python_name not in names]
    if missing:
        raise UnknownTwin(f"{graphql_type.__name__} shows {message.DESCRIPTOR.full_name}, which has no field {', '.join(missing)}")
    return {
        field.python_name: _create_reader(names[field.python_name], nullable=isinstance(field.type, StrawberryOptional)) for field in plain_fields(graphql_type)
    }


def _create_reader(field: Any, *, nullable: bool) -> Reader:
    get = attrgetter(field.name)
    if field.is_repeated:
        return lambda message: list(get(message))
    if field.has_presence:
        return lambda message: get(message) if message.HasField(field.name) else None
    if field.type == FieldDescriptor.TYPE_ENUM or (nullable and field.type in TEXT_KINDS):
        return lambda message: get(message) or None
    return get
