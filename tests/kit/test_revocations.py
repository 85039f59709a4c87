"""The list of revoked tokens in a verifier's process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from kit.errors import Unauthenticated, Unavailable
from kit.revocations import FRESH_SECONDS, RevocationList


class Source:
    """Stands for the table of the auth service."""

    def __init__(self) -> None:
        self.revoked: dict[str, float] = {}
        self.asked: list[float | None] = []
        self.away = False
        self.page = 10_000

    async def fetch(self, since: float | None) -> Mapping[str, float]:
        self.asked.append(since)
        if self.away:
            raise Unavailable("a service of ELIS does not answer")
        newer = sorted((at, subject) for subject, at in self.revoked.items() if since is None or at > since)
        return {subject: at for at, subject in newer[: self.page]}


async def test_only_tokens_issued_before_the_revocation_are_refused() -> None:
    source = Source()
    source.revoked["user:1"] = 1_000.5
    revocations = RevocationList(source.fetch)
    for issued_at in (0.0, 1_000.0, 1_000.5):
        with pytest.raises(Unauthenticated, match="revoked"):
            await revocations.check(issued_at, "user:1", "session:2")
    await revocations.check(1_000.6, "user:1", "session:2")
    await revocations.check(0.0, "user:2", "session:")


async def test_list_is_asked_for_at_most_twice_a_second_however_many_calls_come() -> None:
    source = Source()
    revocations = RevocationList(source.fetch)
    for _ in range(50):
        await asyncio.gather(*(revocations.check(1.0, "user:1") for _ in range(20)))
    assert len(source.asked) == 1
    source.revoked["user:1"] = 2.0
    await asyncio.sleep(FRESH_SECONDS)
    with pytest.raises(Unauthenticated):
        await revocations.check(1.0, "user:1")


async def test_only_what_is_new_is_asked_for_with_an_overlap() -> None:
    source = Source()
    source.revoked = {f"user:{number}": 10_000.0 + number for number in range(10)}
    revocations = RevocationList(source.fetch)
    await revocations.check(20_000.0, "user:1")
    source.asked.clear()
    source.revoked["late"] = 9_990.0  # its transaction committed after one that took a later time
    await asyncio.sleep(FRESH_SECONDS)
    with pytest.raises(Unauthenticated):
        await revocations.check(9_000.0, "late")
    assert source.asked[0] == 10_009.0 - 60.0


async def test_list_of_many_pages_is_read_to_its_end() -> None:
    source = Source()
    source.page = 7
    source.revoked = {f"user:{number}": 100.0 + number for number in range(50)}
    revocations = RevocationList(source.fetch)
    for number in range(50):
        with pytest.raises(Unauthenticated):
            await revocations.check(1.0, f"user:{number}")


async def test_last_list_stays_in_use_while_the_auth_service_is_away() -> None:
    source = Source()
    source.revoked["user:1"] = 10.0
    revocations = RevocationList(source.fetch)
    await revocations.check(20.0, "user:1")
    source.away = True
    await asyncio.sleep(FRESH_SECONDS)
    await revocations.check(1.0, "user:2")
    with pytest.raises(Unauthenticated):
        await revocations.check(1.0, "user:1")


async def test_process_that_never_had_a_list_refuses_to_guess() -> None:
    source = Source()
    source.away = True
    revocations = RevocationList(source.fetch)
    with pytest.raises(Unavailable):
        await revocations.check(1.0, "user:1")
    source.away = False
    await asyncio.sleep(FRESH_SECONDS)
    await revocations.check(1.0, "user:1")


async def test_nobody_waits_for_an_auth_service_that_hangs() -> None:
    source = Source()
    revocations = RevocationList(source.fetch)
    await revocations.check(1.0, "user:1")

    async def hang(_: float | None) -> Mapping[str, float]:
        await asyncio.sleep(60)
        raise AssertionError

    revocations._fetch = hang
    await asyncio.sleep(FRESH_SECONDS)
    async with asyncio.timeout(2.0):
        for _ in range(5):
            await revocations.check(1.0, "user:1")
    assert revocations._reading is not None
    revocations._reading.cancel()
