"""The verifier of access tokens: what RFC 9068 and RFC 8725 demand, and nothing else, is accepted."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from time import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from kit.auth import LEEWAY_SECONDS, MAX_TOKEN_BYTES, Principal, Verifier
from kit.errors import PermissionDenied, Unauthenticated, Unavailable
from kit.revocations import RevocationList
from tests.fixtures.callers import ISSUER, Issuer

VECTORS = Path(__file__).parents[3] / "shared/data/wycheproof/json_web_signature_test.json"
ABSENT = ...


def encode(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(raw).decode().rstrip("=")


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time())
    valid = {
        "iss": ISSUER,
        "aud": "elis",
        "sub": "user:1",
        "name": "ada",
        "kind": "user",
        "role": "viewer",
        "scope": "events:read self:read",
        "iat": now,
        "exp": now + 600,
        "jti": "1",
        "client_id": "elis",
    }
    return {key: value for key, value in {**valid, **changed}.items() if value is not ABSENT}


def sign(issuer: Issuer, payload: Any, **header: Any) -> str:
    """Signs anything, also what no library would."""
    protected = {key: value for key, value in {"alg": "Ed25519", "typ": "at+jwt", "kid": "test", **header}.items() if value is not ABSENT}
    signed = f"{encode(protected)}.{encode(payload)}"
    return f"{signed}.{encode(issuer.key.private_key.sign(signed.encode()))}"  # type: ignore[union-attr]


async def refused(issuer: Issuer, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await issuer.verifier().verify(token)


async def test_valid_token_gives_its_principal(issuer: Issuer) -> None:
    token = sign(issuer, claims(sid="family", iat=1.5))
    caller = await issuer.verifier().verify(token)
    assert caller == Principal(
        subject="user:1",
        name="ada",
        kind="user",
        role="viewer",
        scopes=frozenset({"events:read", "self:read"}),
        token=token,
        expires_at=caller.expires_at,
        token_id="1",
        issued_at=1.5,
        session_id="family",
    )
    caller.require("events:read")
    with pytest.raises(PermissionDenied, match="users:write"):
        caller.require("users:write")


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": ABSENT},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": 1.7e9 + 0.5},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 0},
        {"exp": -1},
        {"iat": ABSENT},
        {"iat": "now"},
        {"iat": 4_000_000_000},
        {"nbf": 4_000_000_000},
        {"iss": "another"},
        {"iss": ABSENT},
        {"iss": ["elis"]},
        {"aud": "another"},
        {"aud": ["another", "elis2"]},
        {"aud": ABSENT},
        {"sub": ABSENT},
        {"sub": 1},
        {"sub": ""},
        {"jti": ABSENT},
        {"jti": 1},
        {"client_id": ABSENT},
        {"scope": ABSENT},
        {"scope": ["events:read"]},
        {"role": None},
        {"kind": 1},
        {"sid": 7},
        {"name": {"a": "b"}},
    ],
    ids=repr,
)
async def test_token_with_a_wrong_claim_is_refused(issuer: Issuer, changed: dict[str, Any]) -> None:
    await refused(issuer, sign(issuer, claims(**changed)))


async def test_infinite_expiry_written_as_1e400_is_refused(issuer: Issuer) -> None:
    payload = json.dumps(claims()).replace(f'"exp": {claims()["exp"]}', '"exp": 1e400')
    assert "1e400" in payload
    await refused(issuer, sign(issuer, payload.encode()))


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"1", b'"text"', b"{", b"[" * 4_000, b"\xff\xfe"])
async def test_payload_that_is_no_object_is_refused(issuer: Issuer, payload: bytes) -> None:
    await refused(issuer, sign(issuer, payload))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": ABSENT},
        {"typ": ["at+jwt"]},
        {"kid": "unknown"},
        {"kid": ABSENT},
        {"kid": ["test"]},
        {"kid": "../../etc/passwd"},
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "ES256"},
        {"alg": "EdDSA"},
        {"alg": ABSENT},
        {"crit": ["exp"]},
        {"crit": ["x5u"], "x5u": "https://example.org"},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
    ],
    ids=repr,
)
async def test_token_with_a_wrong_header_is_refused(issuer: Issuer, header: dict[str, Any]) -> None:
    await refused(issuer, sign(issuer, claims(), **header))


async def test_key_in_the_header_is_not_trusted(issuer: Issuer) -> None:
    other = Issuer(key=OKPKey.generate_key("Ed25519", {"kid": "test"}))
    for header in ({"jwk": other.key.as_dict(private=False)}, {"jku": "https://example.org/jwks"}, {"x5u": "https://example.org"}):
        await refused(issuer, sign(other, claims(), **header))


async def test_unsigned_token_is_refused(issuer: Issuer) -> None:
    for algorithm in ("none", "None", "Ed25519"):
        head = encode({"alg": algorithm, "typ": "at+jwt", "kid": "test"})
        for signature in ("", "AA", encode(bytes(64))):
            await refused(issuer, f"{head}.{encode(claims())}.{signature}")


async def test_public_key_is_no_shared_secret(issuer: Issuer) -> None:
    public = issuer.key.as_dict(private=False)
    pem = issuer.key.as_pem(private=False)
    signed = f"{encode({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'test'})}.{encode(claims())}"
    for secret in (pem, pem.strip(), b" " + pem, json.dumps(public).encode(), urlsafe_b64decode(str(public["x"]) + "=="), b""):
        await refused(issuer, f"{signed}.{encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}")


async def test_shared_keys_in_a_key_set_are_ignored() -> None:
    async def fetch() -> str:
        return json.dumps({"keys": [{"kty": "oct", "kid": "test", "k": encode(b"x" * 32)}]})

    signed = f"{encode({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'test'})}.{encode(claims())}"
    token = f"{signed}.{encode(hmac.new(b'x' * 32, signed.encode(), hashlib.sha256).digest())}"
    with pytest.raises(Unauthenticated):
        await Verifier(fetch, ISSUER).verify(token)


async def test_only_the_exact_spelling_of_a_token_is_accepted(issuer: Issuer) -> None:
    token = sign(issuer, claims())
    head, body, signature = token.split(".")
    for variant in (
        token + "=",
        token + "==",
        token + "\n",
        " " + token,
        token + ".",
        f"{head}.{body}",
        f"{head}..{signature}",
        f"{head}.{body}.{signature}.{signature}",
        f"{head}=.{body}.{signature}",
        f"{head}.{body}.{signature[:-1]}",
        f"{head}.{body}.{signature[:-2]}{'BA' if signature.endswith('AA') else 'AA'}",
        f"{head}.{body}.{signature[:-1] + ('g' if signature[-1] == 'Q' else 'Q')}",
        f"{head}.{encode(claims(role='admin'))}.{signature}",
        token.replace(".", "+", 1),
    ):
        await refused(issuer, variant)


async def test_an_ingest_token_is_told_apart_from_an_api_key(issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated, match=r"API key \(elis_…\), ingest tokens are for log agents"):
        await issuer.verifier().verify("54dff9c4-561d-4b20-9f73-5466fb0ebe0e")


async def test_oversize_token_is_refused_before_it_is_looked_at(issuer: Issuer) -> None:
    token = sign(issuer, claims(name="x" * MAX_TOKEN_BYTES))
    assert len(token) > MAX_TOKEN_BYTES
    with pytest.raises(Unauthenticated, match="malformed"):
        await issuer.verifier().verify(token)


async def test_expired_token_is_accepted_within_the_leeway_only(issuer: Issuer) -> None:
    now = int(time())
    await issuer.verifier().verify(sign(issuer, claims(exp=now - LEEWAY_SECONDS + 5)))
    with pytest.raises(Unauthenticated, match="expired"):
        await issuer.verifier().verify(sign(issuer, claims(exp=now - LEEWAY_SECONDS - 1)))


async def test_remembered_token_expires_too(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    token = sign(issuer, claims())
    caller = await verifier.verify(token)
    assert await verifier.verify(token) is caller
    verifier._verified[token] = Principal(**{**{name: getattr(caller, name) for name in Principal.__slots__}, "expires_at": int(time()) - 1})
    again = await verifier.verify(token)
    assert again is not caller
    assert again.expires_at == caller.expires_at


async def test_es256_is_accepted_with_its_own_key_only(issuer: Issuer) -> None:
    key = ECKey.generate_key("P-256", {"kid": "ec"})

    async def fetch() -> str:
        return json.dumps({"keys": [key.as_dict(private=False), issuer.key.as_dict(private=False)]})

    token = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": "ec"}, claims(), key, algorithms=["ES256"])
    assert (await Verifier(fetch, ISSUER).verify(token)).name == "ada"
    with pytest.raises(Unauthenticated):
        await Verifier(fetch, ISSUER).verify(sign(issuer, claims(), kid="ec"))


async def test_keys_are_fetched_once_for_many_tokens_and_unknown_keys(issuer: Issuer) -> None:
    fetched = 0

    async def fetch() -> str:
        nonlocal fetched
        fetched += 1
        return await issuer.jwks()

    verifier = Verifier(fetch, ISSUER)
    for number in range(20):
        await verifier.verify(sign(issuer, claims(jti=str(number))))
        with pytest.raises(Unauthenticated):
            await verifier.verify(sign(issuer, claims(), kid=f"unknown {number}"))
    assert fetched == 1


async def test_without_the_auth_service_known_keys_stay_in_use(issuer: Issuer) -> None:
    away = False

    async def fetch() -> str:
        if away:
            raise Unavailable("a service of ELIS does not answer")
        return await issuer.jwks()

    verifier = Verifier(fetch, ISSUER)
    await verifier.verify(sign(issuer, claims()))
    away = True
    verifier._fetched_at -= 60.0
    await verifier.verify(sign(issuer, claims(jti="2")))
    fresh = Verifier(fetch, ISSUER)
    with pytest.raises(Unavailable):
        await fresh.verify(sign(issuer, claims()))


async def test_revoked_token_is_refused_although_it_was_verified_before(issuer: Issuer) -> None:
    revoked: dict[str, float] = {}

    async def fetch_revocations(_: float | None) -> dict[str, float]:
        return dict(revoked)

    revocations = RevocationList(fetch_revocations)
    verifier = Verifier(issuer.jwks, ISSUER, revocations)
    now = time()
    token = sign(issuer, claims(iat=now, sid="family"))
    for subject in ("user:1", "session:family"):
        revoked.clear()
        revocations._revoked.clear()
        revocations._tried_at = -1.0
        await verifier.verify(token)
        revoked[subject] = now + 0.1
        revocations._tried_at = -1.0
        with pytest.raises(Unauthenticated, match="revoked"):
            await verifier.verify(token)
        await verifier.verify(sign(issuer, claims(iat=now + 0.2, sid="another")))


@given(st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]{2,40}\.[A-Za-z0-9_-]{2,40}\.[A-Za-z0-9_-]{2,90}", fullmatch=True))
@settings(max_examples=200, deadline=None)
async def test_no_text_whatever_raises_anything_else(token: str) -> None:
    issuer = Issuer()
    with pytest.raises(Unauthenticated):
        await issuer.verifier().verify(token)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5))
@settings(max_examples=100, deadline=None)
async def test_no_claim_whatever_raises_anything_else(value: Any) -> None:
    issuer = Issuer()
    for name in ("exp", "iat", "nbf", "sub", "aud", "iss", "scope", "kind", "sid", "jti"):
        try:
            await issuer.verifier().verify(sign(issuer, claims(**{name: value})))
        except Unauthenticated:
            continue


@pytest.mark.skipif(not VECTORS.exists(), reason="the Wycheproof vectors are not here")
async def test_wycheproof_signatures() -> None:
    """Vectors of ES256 keys pass exactly when they are valid; no other key and no other form passes at all."""
    passed: list[int] = []
    seen = 0
    for group in json.loads(VECTORS.read_text())["testGroups"]:
        key = group.get("public") or group.get("private")

        async def fetch(key: dict[str, Any] = key) -> str:
            return json.dumps({"keys": [key]})

        for test in group["tests"]:
            seen += 1
            token = test["jws"] if isinstance(test["jws"], str) else json.dumps(test["jws"])
            expected = test["result"] == "valid" and key.get("crv") == "P-256"
            try:
                await Verifier(fetch, ISSUER).verify_signature(token)
            except Unauthenticated:
                assert not expected, test["tcId"]
            else:
                passed.append(test["tcId"])
                assert expected, test["tcId"]
    assert seen == 401
    assert passed == [18, 378]
