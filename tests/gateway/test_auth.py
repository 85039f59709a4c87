from __future__ import annotations

from elis.auth.v1 import auth_pb2 as pb
from kit.errors import AlreadyExists, Unauthenticated
from tests.gateway.peers import Peers, soon, stamp
from tests.gateway.stack import Gateway, run_gateway

PAIR = pb.TokenPair(access_token="a.b.c", refresh_token="r1", access_expires_at=stamp(1_767_225_600_000_000_000))
USER = pb.User(id="7", username="ada", role="viewer")
LOGIN = """mutation { login(username: "Ada", password: "correct horse") {
  tokens { accessToken refreshToken accessExpiresAt refreshExpiresAt } user { username displayName role disabled } } }"""


async def test_anybody_may_sign_in(gateway: Gateway) -> None:
    gateway.peers.answers["Login"] = pb.LoginResponse(tokens=PAIR, user=USER)
    assert (await gateway.run(LOGIN, token=""))["login"] == {
        "tokens": {"accessToken": "a.b.c", "refreshToken": "r1", "accessExpiresAt": "2026-01-01T00:00:00.000000000Z", "refreshExpiresAt": None},
        "user": {"username": "ada", "displayName": None, "role": "viewer", "disabled": False},
    }
    [request] = gateway.peers.requests("Login")
    assert (request.username, request.password) == ("Ada", "correct horse")


async def test_anybody_may_refresh(gateway: Gateway) -> None:
    gateway.peers.answers["Refresh"] = pb.RefreshResponse(tokens=PAIR)
    assert await gateway.run('mutation{refresh(refreshToken:"r0"){refreshToken}}', token="") == {"refresh": {"refreshToken": "r1"}}


async def test_a_wrong_password_is_told_as_one(gateway: Gateway) -> None:
    gateway.peers.answers["Login"] = Unauthenticated("the user name or the password is wrong")
    error = await gateway.fail(LOGIN, token="")
    assert error["message"] == "the user name or the password is wrong"
    assert error["extensions"]["code"] == "UNAUTHENTICATED"


async def test_every_login_of_a_request_counts(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    peers.answers["Login"] = Unauthenticated("the user name or the password is wrong")
    batch = "mutation{" + " ".join(f'a{number}:login(username:"Batch",password:"{number}"){{user{{id}}}}' for number in range(6)) + "}"
    async with run_gateway(peers, addresses, valkey_url, rate_limits={"login": "4/hour"}) as gateway:
        errors = [await gateway.fail(text, token="") for text in (batch, batch.replace("Batch", "bATCH"), batch, batch, batch)]
    assert len(peers.requests("Login")) == 4
    assert errors[-1]["extensions"]["code"] == "RESOURCE_EXHAUSTED"


async def test_guessing_one_password_for_many_users_is_slowed_down(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    peers.answers["Login"] = Unauthenticated("the user name or the password is wrong")
    async with run_gateway(peers, addresses, valkey_url, rate_limits={"logins": "3/hour"}) as gateway:
        for number in range(5):
            error = await gateway.fail(f'mutation{{login(username:"user-{number}",password:"spring"){{user{{id}}}}}}', token="")
    assert error["extensions"]["code"] == "RESOURCE_EXHAUSTED"
    assert len(peers.requests("Login")) == 3


async def test_clients_behind_a_proxy_are_told_apart_only_when_it_is_trusted(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    attempt = 'mutation{login(username:"ada",password:"spring"){user{id}}}'
    for proxies, expected in (("127.0.0.1", 4), ("10.0.0.1", 2)):
        peers.answers["Login"] = Unauthenticated("the user name or the password is wrong")
        before = len(peers.requests("Login"))
        async with run_gateway(peers, addresses, valkey_url, rate_limits={"login": "2/hour"}, trusted_proxies=proxies) as gateway:
            for client in (f"192.0.2.{expected}", f"198.51.100.{expected}"):
                for _ in range(3):
                    await gateway.fail(attempt, token="", x_forwarded_for=client)
        assert len(peers.requests("Login")) - before == expected


async def test_users(gateway: Gateway) -> None:
    gateway.peers.answers["ListUsers"] = pb.ListUsersResponse(users=[USER])
    page = await gateway.run("{users(first:5){edges{node{id username}} pageInfo{hasNextPage}}}")
    assert page["users"] == {"edges": [{"node": {"id": "7", "username": "ada"}}], "pageInfo": {"hasNextPage": False}}


async def test_users_are_added_and_changed(gateway: Gateway) -> None:
    gateway.peers.answers["CreateUser"] = pb.CreateUserResponse(user=USER)
    gateway.peers.answers["UpdateUser"] = pb.UpdateUserResponse(user=USER)
    await gateway.run('mutation{createUser(username:"ada",password:"correct horse",role:"viewer"){id}}')
    await gateway.run('mutation{updateUser(id:"7",disabled:false){id}}')
    [created] = gateway.peers.requests("CreateUser")
    assert (created.username, created.role, created.display_name) == ("ada", "viewer", "")
    [changed] = gateway.peers.requests("UpdateUser")
    assert changed.HasField("disabled")
    assert not changed.disabled
    assert not changed.HasField("role")
    gateway.peers.answers["CreateUser"] = AlreadyExists("user ada exists already", username="ada")
    error = await gateway.fail('mutation{createUser(username:"ada",password:"correct horse",role:"viewer"){id}}')
    assert (error["extensions"]["code"], error["extensions"]["username"]) == ("ALREADY_EXISTS", "ada")


async def test_keys(gateway: Gateway) -> None:
    key = pb.ApiKey(id="k1", name="robot", prefix="elis_abc", kind="api", role="admin", expires_at=soon())
    gateway.peers.answers["CreateApiKey"] = pb.CreateApiKeyResponse(key=key, secret="elis_abcdef")
    gateway.peers.answers["ListApiKeys"] = pb.ListApiKeysResponse(keys=[key])
    created = await gateway.run('mutation{createApiKey(name:"robot",role:"admin",expiresAt:"2030-01-01T00:00:00.5Z"){secret key{prefix role source}}}')
    assert created["createApiKey"] == {"secret": "elis_abcdef", "key": {"prefix": "elis_abc", "role": "admin", "source": None}}
    [request] = gateway.peers.requests("CreateApiKey")
    assert (request.kind, request.expires_at.seconds, request.expires_at.nanos) == ("api", 1_893_456_000, 500_000_000)
    assert (await gateway.run("{apiKeys{edges{node{id revoked}}}}"))["apiKeys"]["edges"] == [{"node": {"id": "k1", "revoked": False}}]


async def test_limits_of_a_token(gateway: Gateway) -> None:
    key = pb.ApiKey(id="k1", name="web", kind="ingest", bytes_per_second=1 << 40)
    gateway.peers.answers["UpdateApiKey"] = pb.UpdateApiKeyResponse(key=key)
    changed = await gateway.run('mutation{updateApiKey(id:"k1",bytesPerSecond:1099511627776){eventsPerSecond bytesPerSecond}}')
    assert changed["updateApiKey"] == {"eventsPerSecond": None, "bytesPerSecond": 1 << 40}
    [request] = gateway.peers.requests("UpdateApiKey")
    assert (request.id, request.HasField("events_per_second"), request.bytes_per_second) == ("k1", False, 1 << 40)
    gateway.peers.answers["CreateApiKey"] = pb.CreateApiKeyResponse(key=key, secret="s")
    await gateway.run('mutation{createApiKey(name:"web",kind:"ingest",eventsPerSecond:500){secret}}')
    assert gateway.peers.requests("CreateApiKey")[0].events_per_second == 500


async def test_a_revoked_key_opens_nothing_any_more(gateway: Gateway) -> None:
    gateway.peers.answers["RevokeApiKey"] = lambda request: pb.RevokeApiKeyResponse(key=pb.ApiKey(id=request.id, name="robot", kind="api", revoked=True))
    await gateway.run("{__typename}", token="elis_admin_revoked")
    gateway.peers.answers["ExchangeApiKey"] = Unauthenticated("the API key was revoked")
    await gateway.run("{__typename}", token="elis_admin_revoked")
    assert (await gateway.run('mutation{revokeApiKey(id:"robot"){revoked}}'))["revokeApiKey"] == {"revoked": True}
    assert (await gateway.post("{me{name}}", token="elis_admin_revoked")).status_code == 401


async def test_logout(gateway: Gateway) -> None:
    gateway.peers.answers["Logout"] = pb.LogoutResponse()
    assert await gateway.run('mutation{logout(refreshToken:"r1")}') == {"logout": True}
    assert gateway.peers.requests("Logout")[0].refresh_token == "r1"
