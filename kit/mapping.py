"""Rows to protobuf messages by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message

MessageT = TypeVar("MessageT", bound=Message)


def to_proto(message_class: type[MessageT], row: object, **derived: Any) -> MessageT:
    """Builds a message from the same-named attributes of a row; `derived` gives the fields that have none.

    UUIDs become text, None leaves a field unset, aware datetimes become Timestamps. The message is the
    allow-list: a column that it does not name cannot leave.
    """
    values: dict[str, Any] = {}
    for field in message_class.DESCRIPTOR.fields:
        value = derived.pop(field.name) if field.name in derived else getattr(row, field.name, None)
        if value is None:
            continue
        values[field.name] = _convert(field, value)
    if derived:
        raise TypeError(f"{message_class.__name__} has no field {', '.join(derived)}")
    return message_class(**values)


def _convert(field: Any, value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError(f"{field.full_name}: a time without zone")
    return value
