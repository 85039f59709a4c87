"""What masking keeps: sealed values and who may read them for how long, and tokens that stay joinable over keys."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
import pytest

from elis.ingest.v1 import masking_pb2 as pb
from elis.ingest.v1 import masking_pb2_grpc as rpc
from kit.errors import ElisError, InvalidArgument, NotFound, PermissionDenied
from services.ingest.batch import Batch
from services.ingest.masking import Masked
from services.ingest.masking.assembly import Masking
from services.ingest.masking.vault import Placed
from services.ingest.partitions import Partition, Partitions
from tests.services.ingest.masking.conftest import Connect, assemble

BLOCK, DAY = 7_000, 20_000
REASON = "ticket 4711, asked by eve@example.com"


async def store(masking: Masking, pool: asyncpg.Pool[Any], batch: Batch, *, block: int = BLOCK) -> Masked:
    """Masks a batch and keeps what belongs to it beside a block of that id, as the commit does; row i is event i."""
    masked = masking.masker.mask_batch(batch)
    async with pool.acquire() as connection:
        await Partitions(1).ensure(connection, [Partition(DAY, 0)])
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO ingest.blocks (id, day, events, first_timestamp, last_timestamp, summary, lines) VALUES ($1, $2, 1, 0, 0, '', '')", block, DAY
            )
            await masking.vault.insert(connection, masked, [Placed(block, DAY, range(len(batch)))])
    masking.vault.remember_joins(masked)
    return masked


def batch_of(*bodies: str, attributes: dict[str, Any] | None = None) -> Batch:
    batch = Batch()
    for body in bodies:
        batch.append(body, source="shop", attributes=attributes)
    return batch


@pytest.fixture
async def sealing(service: rpc.MaskingServiceAsyncStub) -> rpc.MaskingServiceAsyncStub:
    """The RPCs, with e-mail addresses sealed."""
    await service.PutMaskingRule(pb.PutMaskingRuleRequest(rule=pb.MaskingRule(name="email", enabled=True, sealed=True)))
    return service


async def test_sealed_values_are_revealed_by_token_or_field_and_audited(
    masking: Masking, sealing: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]
) -> None:
    batch = batch_of("clean", "to Bob@example.com password=hunter2", attributes={"a/b": {"mail": ["x", "eve@example.com"]}})
    await store(masking, pool, batch)
    event = (BLOCK << 20) + 1
    token = batch.body[1].split()[1]
    by_token = await sealing.RevealMasked(pb.RevealMaskedRequest(event_id=event, token=token, reason=REASON))
    assert list(by_token.values) == [pb.RevealedValue(field="body", rule="email", token=token, value="Bob@example.com")]
    [by_field] = (await sealing.RevealMasked(pb.RevealMaskedRequest(event_id=event, field="attributes/a~1b/mail/1", reason=REASON))).values
    assert by_field.value == "eve@example.com"
    assert not await pool.fetchval("SELECT true FROM ingest.sealed_values WHERE rule = 'credential'")

    entries = (await sealing.ListMaskingAudit(pb.ListMaskingAuditRequest())).entries
    assert [entry.action for entry in entries] == ["sensitive_read", "sensitive_read", "masking_rule_put"]
    detail = orjson.loads(entries[1].detail_json)
    assert (entries[1].actor, entries[1].target, detail["values"][0]["token"]) == ("user:ada", str(event), token)
    assert detail["reason"].startswith("ticket 4711, asked by [email:")
    assert b"example.com" not in b"".join(entry.detail_json for entry in entries)


async def test_the_place_of_a_sealed_value_may_have_any_length(masking: Masking, sealing: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]) -> None:
    name = "".join(f"{number:x}" for number in range(4_000))
    await store(masking, pool, batch_of("x", attributes={name: ["a@example.com", "b@example.com"]}))
    field = f"attributes/{name}/0"[:4_096]
    revealed = (await sealing.RevealMasked(pb.RevealMaskedRequest(event_id=BLOCK << 20, field=field, reason=REASON))).values
    assert {value.value for value in revealed} == {"a@example.com", "b@example.com"}


async def test_what_may_not_be_revealed_is_refused_and_not_audited(
    masking: Masking, sealing: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any], connect: Connect
) -> None:
    await store(masking, pool, batch_of("bob@example.com", "password=hunter2"))
    event = BLOCK << 20
    for request, error in (
        (pb.RevealMaskedRequest(event_id=event, field="body"), InvalidArgument),
        (pb.RevealMaskedRequest(event_id=event, field="body", reason="too short"), InvalidArgument),
        (pb.RevealMaskedRequest(event_id=event, field="body", reason="x" * 501), InvalidArgument),
        (pb.RevealMaskedRequest(event_id=event, reason=REASON), InvalidArgument),
        (pb.RevealMaskedRequest(event_id=event + 1, field="body", reason=REASON), NotFound),
        (pb.RevealMaskedRequest(event_id=2**64 - 1, field="body", reason=REASON), NotFound),
        (pb.RevealMaskedRequest(event_id=event, token="[email:000000000000]", reason=REASON), NotFound),
    ):
        with pytest.raises(error):
            await sealing.RevealMasked(request)
    async with connect(masking, "rules:write", "audit:read", "events:read") as other:
        with pytest.raises(PermissionDenied):
            await other.RevealMasked(pb.RevealMaskedRequest(event_id=event, field="body", reason=REASON))
    assert await pool.fetchval("SELECT count(*) FROM ingest.masking_audit WHERE action = 'sensitive_read'") == 0


async def test_who_finds_nothing_to_reveal_is_told_why(masking: Masking, sealing: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]) -> None:
    await store(masking, pool, batch_of("bob@example.com", "password=hunter2"))
    event = BLOCK << 20
    for event_id, field, reason in (
        (event, "attributes/mail", f"event {event} has no sealed value with field 'attributes/mail'; sealed are: body"),
        (event + 1, "body", f"nothing of event {event + 1} is sealed; only rules that say sealed keep what they replace"),
        (7 << 20, "body", f"there is no event {7 << 20}; it was deleted by retention, or never stored"),
    ):
        with pytest.raises(NotFound) as refused:
            await sealing.RevealMasked(pb.RevealMaskedRequest(event_id=event_id, field=field, reason=REASON))
        assert refused.value.message == reason


async def test_nothing_is_revealed_that_the_audit_cannot_keep(masking: Masking, sealing: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]) -> None:
    await store(masking, pool, batch_of("bob@example.com"))
    await pool.execute("ALTER TABLE ingest.masking_audit ADD CHECK (action <> 'sensitive_read')")
    with pytest.raises(ElisError) as caught:
        await sealing.RevealMasked(pb.RevealMaskedRequest(event_id=BLOCK << 20, field="body", reason=REASON))
    assert "bob" not in caught.value.message


async def test_a_sealed_value_belongs_to_its_event_and_field(masking: Masking, sealing: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]) -> None:
    await store(masking, pool, batch_of("bob@example.com", "eve@example.com"))
    first, second = BLOCK << 20, (BLOCK << 20) + 1
    assert not await pool.fetchval("SELECT true FROM ingest.sealed_values WHERE position('example'::bytea in sealed) > 0")
    await pool.execute(
        "UPDATE ingest.sealed_values SET sealed = (SELECT sealed FROM ingest.sealed_values WHERE event_id = $1) WHERE event_id = $2", first, second
    )
    with pytest.raises(NotFound, match="cannot be opened"):
        await sealing.RevealMasked(pb.RevealMaskedRequest(event_id=second, field="body", reason=REASON))
    await pool.execute("UPDATE ingest.sealed_values SET field = 'host' WHERE event_id = $1", first)
    with pytest.raises(NotFound, match="cannot be opened"):
        await sealing.RevealMasked(pb.RevealMaskedRequest(event_id=first, field="host", reason=REASON))


async def test_the_seal_key_can_be_changed(masking: Masking, sealing: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any], connect: Connect) -> None:
    await store(masking, pool, batch_of("bob@example.com"))
    request = pb.RevealMaskedRequest(event_id=BLOCK << 20, field="body", reason=REASON)
    rotated = assemble(pool, seal_keys=(b"n" * 32, bytes(32)))
    async with connect(rotated) as service:
        assert (await service.RevealMasked(request)).values[0].value == "bob@example.com"
    async with connect(assemble(pool, seal_keys=(b"n" * 32,))) as service:
        with pytest.raises(NotFound, match="is not configured; name it in ELIS_SEAL_OLD_KEYS"):
            await service.RevealMasked(request)


async def test_sealed_values_go_with_their_event(masking: Masking, sealing: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]) -> None:
    await store(masking, pool, batch_of("bob@example.com"))
    await store(masking, pool, batch_of("eve@example.com"), block=BLOCK + 1)
    await masking.upkeep.sweep()
    assert await pool.fetchval("SELECT count(*) FROM ingest.sealed_values") == 2
    await pool.execute("DELETE FROM ingest.blocks WHERE id = $1", BLOCK)
    with pytest.raises(NotFound):
        await sealing.RevealMasked(pb.RevealMaskedRequest(event_id=BLOCK << 20, field="body", reason=REASON))
    await masking.upkeep.sweep()
    assert [row["event_id"] for row in await pool.fetch("SELECT event_id FROM ingest.sealed_values")] == [(BLOCK + 1) << 20]


async def test_old_tokens_stay_joinable_over_several_keys(pool: asyncpg.Pool[Any], connect: Connect) -> None:
    first, second, third = b"first" * 8, b"second" * 8, b"third" * 8
    tokens: list[str] = []
    for number, keys in enumerate(((first,), (second, first), (third, second))):
        masking = assemble(pool, *keys)
        batch = batch_of("Bob@example.com", "bob@example.com and eve@example.com", attributes={"to": "bob@example.com"})
        batch.host[0] = "bob@example.com"
        await store(masking, pool, batch, block=BLOCK + number)
        assert batch.host[0] == batch.body[0]
        tokens.append(batch.body[0])
    assert len(set(tokens)) == 3
    async with connect(assemble(pool, third)) as service:
        for token in tokens:
            found = (await service.ListMaskingEquivalents(pb.ListMaskingEquivalentsRequest(token=token))).tokens
            assert found[0] == token
            assert sorted(found) == sorted(tokens)
        unknown = await service.ListMaskingEquivalents(pb.ListMaskingEquivalentsRequest(token="[email:000000000000]"))
        assert list(unknown.tokens) == ["[email:000000000000]"]
        with pytest.raises(InvalidArgument) as caught:
            await service.ListMaskingEquivalents(pb.ListMaskingEquivalentsRequest(token="x" * 65))
        assert "xx" not in caught.value.message


async def test_a_pair_of_tokens_is_kept_with_the_commit_or_not_at_all(pool: asyncpg.Pool[Any]) -> None:
    masking = assemble(pool, b"second" * 8, b"first" * 8)
    masked = masking.masker.mask_batch(batch_of("bob@example.com"))
    async with pool.acquire() as connection:
        failed = connection.transaction()
        await failed.start()
        await masking.vault.insert(connection, masked, [])
        await failed.rollback()
        assert await pool.fetchval("SELECT count(*) FROM ingest.masking_equivalents") == 0
        async with connection.transaction():
            await masking.vault.insert(connection, masked, [])
    assert await pool.fetchval("SELECT count(*) FROM ingest.masking_equivalents") == 1
