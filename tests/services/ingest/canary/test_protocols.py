"""The canary's way in over Fluent where senders must prove who they are."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from kit.errors import PermissionDenied
from services.ingest.canary.protocols import PROTOCOLS, CanaryCredentials, now_ns
from services.ingest.intake import Intake
from services.ingest.settings import IngestSettings
from tests.services.ingest.receivers.sockets import HOST, open_sockets
from tests.services.ingest.receivers.stored import read_events


@pytest.mark.parametrize(
    ("key", "users", "says"),
    [
        ("secret", "canary:word, other:word", ""),
        ("secret", "canary:wrong", "password is wrong"),
        ("wrong", "canary:word", "shared key"),
        ("", "", "asks for its shared key"),
    ],
)
async def test_fluent_with_a_shared_key_and_users(
    settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any], monkeypatch: pytest.MonkeyPatch, key: str, users: str, says: str
) -> None:
    monkeypatch.setenv("ELIS_FLUENT_SHARED_KEY", key)
    monkeypatch.setenv("ELIS_FLUENT_USERS", users)
    async with open_sockets(settings, intake, fluent_shared_key="secret", fluent_users="canary:word") as sockets, AsyncExitStack() as stack:
        credentials = CanaryCredentials("", "", "", "", "", "", "", f"{HOST}:{sockets.port('fluent')}")
        send = await PROTOCOLS["fluent"].open(credentials, stack)
        if says:
            with pytest.raises(PermissionDenied, match=says):
                await send("canary", now_ns())
            return
        await send("canary one", now_ns())
        await send("canary two", now_ns())
    assert [event["body"] for event in await read_events(pool)] == ["canary one", "canary two"]
