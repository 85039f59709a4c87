"""Users: listed, added, changed; the last admin."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from elis.auth.v1 import auth_pb2 as pb
from kit.errors import AlreadyExists, ElisError, InvalidArgument, NotFound, PermissionDenied
from services.auth.scopes import ROLES
from tests.services.auth.conftest import PASSWORD, Auth


async def test_created_user_can_sign_in(auth: Auth) -> None:
    root = await auth.admin()
    request = pb.CreateUserRequest(username="Ada.Lovelace@example", password=PASSWORD, role="operator", display_name="Ada ☆ Lovelace")
    user = (await root.CreateUser(request)).user
    assert (user.username, user.role, user.display_name, user.disabled) == ("Ada.Lovelace@example", "operator", "Ada ☆ Lovelace", False)
    assert not user.HasField("last_login_at")
    assert (await auth.login("ada.lovelace@EXAMPLE")).user.id == user.id


async def test_name_is_taken_in_any_case(auth: Auth) -> None:
    root = await auth.admin()
    await auth.add_user("ada")
    with pytest.raises(AlreadyExists, match="ADA"):
        await root.CreateUser(pb.CreateUserRequest(username="ADA", password=PASSWORD, role="viewer"))


WRONG_USERS = [
    ("", PASSWORD, "viewer", "", "1 to 64 letters"),
    ("a b", PASSWORD, "viewer", "", "not 'a b'"),
    ("\u0430da", PASSWORD, "viewer", "", "letters"),  # a Cyrillic a
    ("x" * 65, PASSWORD, "viewer", "", "1 to 64"),
    ("ada", "short", "viewer", "", "at least 12"),
    ("ada", PASSWORD, "god", "", "not 'god'"),
    ("ada", PASSWORD, "viewer", "a\u202eb", "control characters"),
]


async def test_wrong_requests_are_told_what_is_wrong(auth: Auth) -> None:
    root = await auth.admin()
    for username, password, role, display_name, reason in WRONG_USERS:
        request = pb.CreateUserRequest(username=username, password=password, role=role, display_name=display_name)
        with pytest.raises(InvalidArgument, match=reason):
            await root.CreateUser(request)


async def test_users_are_listed_by_name_in_pages(auth: Auth) -> None:
    root = await auth.admin()
    for name in ("Zoe", "ada", "Bob", "carl"):
        await auth.add_user(name)
    first = await root.ListUsers(pb.ListUsersRequest(page_size=3))
    rest = await root.ListUsers(pb.ListUsersRequest(page_size=3, page_token=first.next_page_token))
    assert [user.username for user in first.users] == ["ada", "Bob", "carl"]
    assert [user.username for user in rest.users] == ["root", "Zoe"]
    assert not rest.next_page_token
    assert "pbkdf2" not in str(first)


async def test_wrong_pages_are_refused(auth: Auth) -> None:
    root = await auth.admin()
    for size, token in ((101, ""), (-1, ""), (1, "nonsense"), (1, "WyJcdTAwMDAiXQ"), (1, "WzFd")):
        with pytest.raises(InvalidArgument):
            await root.ListUsers(pb.ListUsersRequest(page_size=size, page_token=token))
        with pytest.raises(InvalidArgument):
            await root.ListApiKeys(pb.ListApiKeysRequest(page_size=size, page_token=token))


async def test_only_what_is_given_changes(auth: Auth) -> None:
    root = await auth.admin()
    user_id = await auth.add_user("ada", "analyst")
    user = (await root.UpdateUser(pb.UpdateUserRequest(id=user_id, display_name="Countess"))).user
    assert (user.display_name, user.role, user.disabled) == ("Countess", "analyst", False)
    await (await auth.signed_in("ada")).GetMe(pb.GetMeRequest())  # a new name ends no session
    disabled = (await root.UpdateUser(pb.UpdateUserRequest(id=user_id, disabled=True))).user
    assert (disabled.display_name, disabled.disabled) == ("Countess", True)
    enabled = (await root.UpdateUser(pb.UpdateUserRequest(id=user_id, disabled=False))).user
    assert not enabled.disabled
    await auth.login("ada")


async def test_wrong_changes_are_refused(auth: Auth) -> None:
    root = await auth.admin()
    user_id = await auth.add_user("ada")
    with pytest.raises(NotFound):
        await root.UpdateUser(pb.UpdateUserRequest(id=str(uuid4()), role="viewer"))
    with pytest.raises(InvalidArgument, match="not the id of a user"):
        await root.UpdateUser(pb.UpdateUserRequest(id="ada", role="viewer"))
    with pytest.raises(InvalidArgument, match="role must be one of"):
        await root.UpdateUser(pb.UpdateUserRequest(id=user_id, role=""))
    with pytest.raises(InvalidArgument, match="display name"):
        await root.UpdateUser(pb.UpdateUserRequest(id=user_id, display_name=""))


@pytest.mark.parametrize("change", [{"role": "operator"}, {"disabled": True}])
async def test_last_admin_stays(auth: Auth, change: dict[str, object]) -> None:
    root = await auth.admin()
    root_id = (await root.GetMe(pb.GetMeRequest())).caller.subject.removeprefix("user:")
    with pytest.raises(InvalidArgument, match="last admin"):
        await root.UpdateUser(pb.UpdateUserRequest(id=root_id, **change))  # type: ignore[arg-type]
    other = await auth.add_user("other", "admin")
    await root.UpdateUser(pb.UpdateUserRequest(id=other, disabled=True))
    with pytest.raises(InvalidArgument, match="last admin"):
        await root.UpdateUser(pb.UpdateUserRequest(id=root_id, **change))  # type: ignore[arg-type]


async def test_two_admins_who_demote_each_other_leave_one(auth: Auth) -> None:
    first = await auth.admin()
    first_id = (await first.GetMe(pb.GetMeRequest())).caller.subject.removeprefix("user:")
    second_id = await auth.add_user("other", "admin")
    second = await auth.signed_in("other")
    results = await asyncio.gather(
        first.UpdateUser(pb.UpdateUserRequest(id=second_id, role="viewer")),
        second.UpdateUser(pb.UpdateUserRequest(id=first_id, role="viewer")),
        return_exceptions=True,
    )
    assert sum(isinstance(result, ElisError) for result in results) == 1


async def test_each_role_holds_the_one_before_it(auth: Auth) -> None:
    viewer, analyst, operator, admin = ROLES.values()
    assert viewer < analyst < operator < admin
    await auth.add_user("ada", "operator")
    with pytest.raises(PermissionDenied, match="users:read"):
        await (await auth.signed_in("ada")).ListUsers(pb.ListUsersRequest())
