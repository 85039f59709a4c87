"""Rules as data: stored, changed, refused, followed by every process, tried before they are used."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
import pytest

from elis.ingest.v1 import masking_pb2 as pb
from elis.ingest.v1 import masking_pb2_grpc as rpc
from kit.errors import InvalidArgument, NotFound, PermissionDenied
from services.ingest.batch import Batch
from services.ingest.masking import BUILT_IN_RULES
from services.ingest.masking.assembly import Masking
from tests.services.ingest.masking.conftest import Connect, assemble

CUSTOMER = pb.MaskingRule(name="customer", pattern=r"\bKD-(?P<secret>\d{6})\b", hints=["KD-"], enabled=True)


def put(**fields: Any) -> pb.PutMaskingRuleRequest:
    """Returns a request to store a rule."""
    return pb.PutMaskingRuleRequest(rule=pb.MaskingRule(**{"enabled": True, **fields}))


def batch_of(*bodies: str, source: str = "shop", **attributes: Any) -> Batch:
    """Returns a batch of one source."""
    batch = Batch()
    for body in bodies:
        batch.append(body, source=source, attributes=attributes or None)
    return batch


async def test_the_built_in_rules_are_listed_in_their_order(service: rpc.MaskingServiceAsyncStub) -> None:
    rules = (await service.ListMaskingRules(pb.ListMaskingRulesRequest())).rules
    assert [rule.name for rule in rules] == [rule.name for rule in BUILT_IN_RULES]
    assert all(rule.built_in and rule.enabled and not rule.sealed and not rule.changed for rule in rules)
    assert rules[-1].validator == "card"


async def test_a_rule_masks_at_once_here_and_with_the_next_reading_elsewhere(
    masking: Masking, service: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]
) -> None:
    other = assemble(pool)
    await other.book.load()
    shown = (await service.PutMaskingRule(pb.PutMaskingRuleRequest(rule=CUSTOMER))).rule
    assert (shown.name, shown.created_by, shown.updated_by, shown.built_in) == ("customer", "user:ada", "user:ada", False)
    assert shown.HasField("created_at")
    for each in (masking, other):
        await each.book.reload()
        assert each.masker.mask_text("paid by KD-123456").startswith("paid by KD-[customer:")
    assert masking.masker.mask_text("KD-123456") == other.masker.mask_text("KD-123456")
    await service.DeleteMaskingRule(pb.DeleteMaskingRuleRequest(name="customer"))
    assert masking.masker.mask_text("KD-123456") == "KD-123456"
    assert other.masker.mask_text("KD-123456") != "KD-123456"
    await other.book.reload()
    assert other.masker.mask_text("KD-123456") == "KD-123456"


async def test_a_built_in_rule_can_be_switched_off_changed_and_restored(masking: Masking, service: rpc.MaskingServiceAsyncStub) -> None:
    mail = "bob@example.com"
    shown = (await service.PutMaskingRule(put(name="email", enabled=False))).rule
    assert (shown.built_in, shown.changed, shown.enabled) == (True, True, False)
    assert shown.pattern == next(rule.pattern for rule in BUILT_IN_RULES if rule.name == "email")
    assert masking.masker.mask_text(mail) == mail
    await service.PutMaskingRule(put(name="email", pattern=r"bob@(?P<secret>[a-z.]{3,20})", hints=["bob@"]))
    assert masking.masker.mask_text(f"{mail} eve@example.com").startswith("bob@[email:")
    assert "eve@example.com" in masking.masker.mask_text(f"{mail} eve@example.com")
    await service.DeleteMaskingRule(pb.DeleteMaskingRuleRequest(name="email"))
    assert masking.masker.mask_text(mail).startswith("[email:")
    with pytest.raises(NotFound, match="built in and unchanged"):
        await service.DeleteMaskingRule(pb.DeleteMaskingRuleRequest(name="email"))
    with pytest.raises(NotFound, match="none of that name"):
        await service.DeleteMaskingRule(pb.DeleteMaskingRuleRequest(name="nope"))


async def test_a_rule_that_cannot_work_is_refused_and_changes_nothing(masking: Masking, service: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]) -> None:
    before = masking.masker.rule_set
    for fields, says in (
        ({"name": "Bad Name", "pattern": "abc"}, "the name of a masking rule"),
        ({"name": "own", "pattern": "ab(?:[^c]*c)?"}, "too slow"),
        ({"name": "email", "enabled": False, "sealed": True}, "seals nothing"),
        ({"name": "own", "pattern": "abcd", "hints": ["a\x00"]}, "holds a NUL"),
        ({"name": "email", "validator": "\x00"}, "holds a NUL"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            await service.PutMaskingRule(put(**fields))
    assert masking.masker.rule_set is before
    assert await pool.fetchval("SELECT count(*) FROM ingest.masking_rules") == 0
    assert await pool.fetchval("SELECT count(*) FROM ingest.masking_audit") == 0


async def test_a_stored_rule_that_this_version_cannot_use_leaves_the_others_as_they_were(
    masking: Masking, service: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]
) -> None:
    await service.PutMaskingRule(pb.PutMaskingRuleRequest(rule=CUSTOMER))
    before = masking.masker.rule_set
    await pool.execute("INSERT INTO ingest.masking_rules VALUES ('later', '(?<=new syntax)x', '', '{}', '{}', '', true, false, now(), 'x', now(), 'x')")
    await masking.book.reload()
    assert masking.masker.rule_set is before
    with pytest.raises(InvalidArgument, match="later"):
        await assemble(pool).book.load()


async def test_a_source_can_be_exempt_from_a_rule(masking: Masking, service: rpc.MaskingServiceAsyncStub) -> None:
    await service.PutMaskingException(pb.PutMaskingExceptionRequest(source="test-shop", rule="email", reason="made-up addresses, by bob@example.com"))
    exempt, other = batch_of("mail bob@example.com password=hunter2", source="test-shop", to="bob@example.com"), batch_of("bob@example.com")
    masking.masker.mask_batch(exempt)
    masking.masker.mask_batch(other)
    assert exempt.body[0].startswith("mail bob@example.com password=[credential:")
    assert exempt.attributes == [{"to": "bob@example.com"}]
    assert other.body[0].startswith("[email:")
    together = batch_of("a bob@example.com", source="test-shop")
    together.extend(batch_of("b bob@example.com"))
    masking.masker.mask_batch(together)
    assert together.body[0] == "a bob@example.com"
    assert together.body[1].startswith("b [email:")

    [email] = [rule for rule in (await service.ListMaskingRules(pb.ListMaskingRulesRequest())).rules if rule.exceptions]
    assert (email.name, email.exceptions[0].source, email.exceptions[0].created_by) == ("email", "test-shop", "user:ada")
    assert email.exceptions[0].reason.startswith("made-up addresses, by [email:")

    await service.DeleteMaskingException(pb.DeleteMaskingExceptionRequest(source="test-shop", rule="email"))
    again = batch_of("bob@example.com", source="test-shop")
    masking.masker.mask_batch(again)
    assert again.body[0].startswith("[email:")


async def test_an_exception_needs_a_rule_a_source_and_a_reason(service: rpc.MaskingServiceAsyncStub) -> None:
    with pytest.raises(NotFound, match="no masking rule 'nope'"):
        await service.PutMaskingException(pb.PutMaskingExceptionRequest(source="s", rule="nope", reason="long enough, surely"))
    for source, reason in (("", "long enough, surely"), ("s", "short"), ("s", "x" * 501)):
        with pytest.raises(InvalidArgument):
            await service.PutMaskingException(pb.PutMaskingExceptionRequest(source=source, rule="email", reason=reason))
    with pytest.raises(NotFound, match="not exempt"):
        await service.DeleteMaskingException(pb.DeleteMaskingExceptionRequest(source="s", rule="email"))


async def test_changes_are_audited_in_a_chain_that_shows_what_was_tampered_with(service: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]) -> None:
    await service.PutMaskingRule(pb.PutMaskingRuleRequest(rule=CUSTOMER))
    await service.PutMaskingException(pb.PutMaskingExceptionRequest(source="s", rule="customer", reason="a test system of ours"))
    await service.DeleteMaskingException(pb.DeleteMaskingExceptionRequest(source="s", rule="customer"))
    await service.DeleteMaskingRule(pb.DeleteMaskingRuleRequest(name="customer"))
    entries = (await service.ListMaskingAudit(pb.ListMaskingAuditRequest())).entries
    assert [entry.action for entry in entries] == ["masking_rule_deleted", "masking_exception_deleted", "masking_exception_put", "masking_rule_put"]
    assert [entry.sequence for entry in entries] == [4, 3, 2, 1]
    assert all(entry.intact and entry.actor == "user:ada" and entry.request_id for entry in entries)
    assert orjson.loads(entries[2].detail_json) == {"reason": "a test system of ours", "source": "s"}
    page = await service.ListMaskingAudit(pb.ListMaskingAuditRequest(page_size=3))
    rest = await service.ListMaskingAudit(pb.ListMaskingAuditRequest(page_size=3, page_token=page.next_page_token))
    assert [entry.sequence for entry in [*page.entries, *rest.entries]] == [4, 3, 2, 1]
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await pool.execute("DELETE FROM ingest.masking_audit")
    await pool.execute("ALTER TABLE ingest.masking_audit DISABLE TRIGGER append_only")
    await pool.execute("""UPDATE ingest.masking_audit SET actor = 'user:eve' WHERE sequence = 2""")
    entries = (await service.ListMaskingAudit(pb.ListMaskingAuditRequest())).entries
    assert [entry.sequence for entry in entries if not entry.intact] == [2]
    await pool.execute("DELETE FROM ingest.masking_audit WHERE sequence = 2")
    assert [entry.sequence for entry in (await service.ListMaskingAudit(pb.ListMaskingAuditRequest())).entries if not entry.intact] == [3]


async def test_a_dry_run_on_texts_stores_and_changes_nothing(masking: Masking, service: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]) -> None:
    before = masking.masker.rule_set
    run = await service.PreviewMasking(pb.PreviewMaskingRequest(rule=CUSTOMER, samples=["KD-123456 bob@example.com", "nothing"]))
    assert (run.examined, run.changed) == (2, 1)
    assert {count.rule: count.hits for count in run.counts} == {"customer": 1, "email": 1}
    [change] = run.changes
    assert (change.sample, change.before, change.event_id) == (0, "", 0)
    assert change.after.startswith("KD-[customer:")
    assert "bob@" not in change.after
    assert masking.masker.rule_set is before
    assert await pool.fetchval("SELECT count(*) FROM ingest.masking_rules") == 0
    await masking.upkeep.flush()
    assert await pool.fetchval("SELECT count(*) FROM ingest.masking_hits") == 0
    for request in (pb.PreviewMaskingRequest(), pb.PreviewMaskingRequest(samples=["a"], source="s"), pb.PreviewMaskingRequest(source="s", events=1_001)):
        with pytest.raises(InvalidArgument):
            await service.PreviewMasking(request)
    with pytest.raises(InvalidArgument, match="missing"):
        await service.PreviewMasking(pb.PreviewMaskingRequest(samples=["a"], rule=pb.MaskingRule(name="x", pattern="(", enabled=True)))


async def test_stored_events_are_for_those_who_may_read_events(masking: Masking, connect: Connect) -> None:
    async with connect(masking, "rules:write") as service:
        with pytest.raises(PermissionDenied):
            await service.PreviewMasking(pb.PreviewMaskingRequest(source="s", events=1))
        assert (await service.PreviewMasking(pb.PreviewMaskingRequest(samples=["a"]))).examined == 1


async def test_hits_are_counted_by_rule_and_source(masking: Masking, service: rpc.MaskingServiceAsyncStub, pool: asyncpg.Pool[Any]) -> None:
    masking.masker.mask_batch(batch_of("bob@example.com eve@example.com", "clean", "password=x1y2"))
    masking.masker.mask_batch(batch_of("bob@example.com", source="crm"))
    await masking.upkeep.flush()
    masking.masker.mask_batch(batch_of("bob@example.com", source="crm"))
    await masking.upkeep.flush()
    rules = {rule.name: rule for rule in (await service.ListMaskingRules(pb.ListMaskingRulesRequest())).rules}
    assert (rules["email"].hits_24h, rules["credential"].hits_24h, rules["card"].hits_24h) == (4, 1, 0)
    assert [(top.source, top.hits) for top in rules["email"].top_sources] == [("crm", 2), ("shop", 2)]
    await pool.execute("UPDATE ingest.masking_hits SET hour = now() - interval '40 days'")
    await masking.upkeep.sweep()
    assert await pool.fetchval("SELECT count(*) FROM ingest.masking_hits") == 0
