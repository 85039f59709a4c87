from __future__ import annotations

import pytest
import strawberry

from elis.auth.v1 import auth_pb2
from elis.correlate.v1 import correlate_pb2
from gateway.resolve import UnknownTwin, create_resolver
from gateway.schema import TWINS
from tests.gateway.peers import stamp


@strawberry.type
class Shown:
    """A type that shows a user."""

    username: str
    display_name: str | None
    disabled: bool
    created_at: str | None


@strawberry.type
class Wrong:
    """A type with a field that a user does not have."""

    username: str
    password: str


def test_fields_are_read_by_name() -> None:
    read = create_resolver({Shown: auth_pb2.User})
    user = auth_pb2.User(username="ada", display_name="Ada", created_at=stamp(5))
    assert [read(user, name) for name in ("username", "display_name", "disabled", "created_at")] == ["ada", "Ada", False, stamp(5)]


def test_what_is_not_set_is_null_where_null_is_allowed() -> None:
    read = create_resolver({Shown: auth_pb2.User})
    assert [read(auth_pb2.User(), name) for name in ("username", "display_name", "disabled", "created_at")] == ["", None, False, None]


def test_lists_are_lists_and_zero_enums_are_null() -> None:
    read = create_resolver(TWINS)
    incident = correlate_pb2.Incident(systems=["sap"])
    assert read(incident, "systems") == ["sap"]
    assert read(incident, "causes") == []
    assert read(incident, "state") is None
    assert read(incident, "number") == 0


def test_other_objects_are_read_by_attribute() -> None:
    assert create_resolver(TWINS)(Shown(username="ada", display_name=None, disabled=False, created_at=None), "username") == "ada"


def test_a_field_that_the_message_does_not_have_is_named() -> None:
    with pytest.raises(UnknownTwin, match=r"Wrong shows elis\.auth\.v1\.User, which has no field password"):
        create_resolver({Wrong: auth_pb2.User})
