"""Passwords: the hash, what is accepted, the bounded pool."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.errors import InvalidArgument, RateLimited
from services.auth.passwords import MAX_CHARACTERS, PasswordHash, PasswordHasher, PasswordPolicy, derive, load_policy

VECTORS = Path(__file__).parents[4] / "shared/data/wycheproof/pbkdf2_hmacsha256_test.json"
ROUNDS = 10_000


def test_rfc_7914_vector() -> None:
    expected = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
    assert derive(b"passwd", b"salt", 1, 64).hex().startswith(expected)


@pytest.mark.skipif(not VECTORS.exists(), reason="the Wycheproof vectors are not here")
def test_wycheproof_pbkdf2_vectors() -> None:
    groups = json.loads(VECTORS.read_text())["testGroups"]
    checked = 0
    for test in (test for group in groups for test in group["tests"]):
        got = derive(bytes.fromhex(test["password"]), bytes.fromhex(test["salt"]), test["iterationCount"], test["dkLen"])
        assert (got.hex() == test["dk"]) == (test["result"] != "invalid"), test["tcId"]
        checked += 1
    assert checked == 60


@given(st.text(min_size=1, max_size=MAX_CHARACTERS).filter(lambda text: not text.endswith("\x00")), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_any_password_matches_itself_and_nothing_cut_or_longer(password: str, rounds: int) -> None:
    kept = PasswordHash.parse(str(PasswordHash.create(password, rounds)))
    assert kept.matches(password)
    assert not kept.matches(password + "x")
    assert not kept.matches(password[:-1])
    assert not kept.matches(password + "\x00")


def test_hash_carries_its_parameters_and_a_salt_of_its_own() -> None:
    first, second = str(PasswordHash.create("same", 10)), str(PasswordHash.create("same", 10))
    scheme, rounds, salt, _ = first.split("$")
    assert (scheme, rounds) == ("pbkdf2-sha256", "10")
    assert len(PasswordHash.parse(first).salt) == 16
    assert salt != second.split("$")[2]


def test_same_key_strokes_match_however_they_were_composed() -> None:
    assert PasswordHash.create("Zürich am See", 1).matches("Zu\u0308rich am See")


@pytest.mark.parametrize("text", ["", "plain", "pbkdf2-sha256$1$AA==", "bcrypt$1$AA==$AA==", "pbkdf2-sha256$x$AA==$AA==", "pbkdf2-sha256$1$?$AA=="])
def test_what_is_not_a_hash_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        PasswordHash.parse(text)


@pytest.fixture(scope="module")
def policy() -> PasswordPolicy:
    return load_policy()


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("elevenchars", "at least 12"),
        ("x" * 257, "at most 256"),
        ("aaaaaaaaaaaaaa", "too few different"),
        ("ada.lovelace rules", "contains the username"),
        ("my-ADA.Lovelace-1", "contains the username"),
        ("1234567890123", "sequence"),
        ("abcdefghijklmn", "sequence"),
        ("passwordpassword", "again and again"),
        ("Sunshine2024!", "guessed first"),
        ("!!PASSWORD1234", "guessed first"),
        ("qwertyuiop1!", "guessed first"),
    ],
)
def test_weak_passwords_are_refused_with_the_reason(policy: PasswordPolicy, password: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        policy.check(password, "ada.lovelace")


@pytest.mark.parametrize(
    "password",
    ["correct horse battery staple", "kx7Qp0vLr2Zt", "8402552399123381", "пароль из четырёх слов", "a\x00b c\x7fd e-12345", "q" + "wzxyv" * 50 + "end"],
)
def test_passphrases_of_any_characters_are_accepted(policy: PasswordPolicy, password: str) -> None:
    policy.check(password, "ad")


@pytest.fixture
async def hasher() -> AsyncIterator[PasswordHasher]:
    hasher = PasswordHasher(ROUNDS)
    yield hasher
    hasher.close()


async def test_unknown_user_and_overlong_password_never_match(hasher: PasswordHasher) -> None:
    kept = str(PasswordHash.create("x" * 300, ROUNDS))
    assert not (await hasher.check("anything at all", None)).matches
    assert not (await hasher.check("", None)).matches
    assert not (await hasher.check("x" * 300, kept)).matches


async def test_hash_with_fewer_rounds_is_made_anew_when_it_matches(hasher: PasswordHasher) -> None:
    kept = str(PasswordHash.create("the password", 1_000))
    verdict = await hasher.check("the password", kept)
    assert verdict.matches
    assert verdict.rehashed is not None
    assert PasswordHash.parse(verdict.rehashed).rounds == ROUNDS
    assert (await hasher.check("the password", verdict.rehashed)).rehashed is None
    assert (await hasher.check("another password", kept)).rehashed is None


async def test_flood_is_refused_instead_of_queued(hasher: PasswordHasher) -> None:
    async def check() -> bool:
        async with hasher.admission():
            return (await hasher.check("wrong", None)).matches

    results = await asyncio.gather(*(check() for _ in range(60)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, RateLimited)]
    assert len(refused) == 42
    assert refused[0].detail["retry_after"] > 0
    assert results.count(False) == 18
    assert not await check()
