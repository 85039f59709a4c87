"""Masking through GraphQL."""

from __future__ import annotations

import pytest

from elis.ingest.v1 import masking_pb2 as pb
from kit.errors import InvalidArgument
from tests.gateway.peers import stamp
from tests.gateway.stack import Gateway

SCOPES = ("self:read", "sources:read", "rules:write", "events:read", "events:reveal", "audit:read")


@pytest.fixture
def token(gateway: Gateway) -> str:
    """A caller who may do all of it."""
    return gateway.peers.issuer.token(*SCOPES, role="admin")


async def test_rules_are_listed(gateway: Gateway, token: str) -> None:
    rule = pb.MaskingRule(name="customer", pattern="KD-x", hints=["KD-"], enabled=True, sealed=True, created_by="user:ada", created_at=stamp(5), hits_24h=2**40)
    rule.top_sources.add(source="shop", hits=3)
    rule.top_sources.add(hits=1)
    rule.exceptions.add(source="test", rule="customer", reason="made up there", created_by="user:ada")
    gateway.peers.answers["ListMaskingRules"] = pb.ListMaskingRulesResponse(rules=[rule])
    answer = await gateway.run(
        """{maskingRules{name pattern validator hints shapes keys enabled sealed builtIn changed createdBy updatedBy createdAt updatedAt hits24h
        topSources{source hits} exceptions{source rule reason createdBy createdAt}}}""",
        token=token,
    )
    assert answer["maskingRules"] == [
        {
            "name": "customer",
            "pattern": "KD-x",
            "validator": None,
            "hints": ["KD-"],
            "shapes": [],
            "keys": None,
            "enabled": True,
            "sealed": True,
            "builtIn": False,
            "changed": False,
            "createdBy": "user:ada",
            "updatedBy": None,
            "createdAt": "1970-01-01T00:00:00.000000005Z",
            "updatedAt": None,
            "hits24h": 2**40,
            "topSources": [{"source": "shop", "hits": 3}, {"source": None, "hits": 1}],
            "exceptions": [{"source": "test", "rule": "customer", "reason": "made up there", "createdBy": "user:ada", "createdAt": None}],
        }
    ]


async def test_rules_and_exceptions_are_changed(gateway: Gateway, token: str) -> None:
    answers = gateway.peers.answers
    answers["PutMaskingRule"] = lambda request: pb.PutMaskingRuleResponse(rule=request.rule)
    answers["DeleteMaskingRule"] = pb.DeleteMaskingRuleResponse()
    answers["PutMaskingException"] = pb.PutMaskingExceptionResponse()
    answers["DeleteMaskingException"] = pb.DeleteMaskingExceptionResponse()
    answer = await gateway.run(
        """mutation{putMaskingRule(rule:{name:"customer",pattern:"KD-x",hints:["KD-"],sealed:true}){name enabled sealed}
        putMaskingException(source:"test",rule:"customer",reason:"made up there") deleteMaskingException(source:"test",rule:"customer")
        deleteMaskingRule(name:"customer")}""",
        token=token,
    )
    assert answer["putMaskingRule"] == {"name": "customer", "enabled": True, "sealed": True}
    assert answer["deleteMaskingRule"] is True
    assert gateway.peers.requests("PutMaskingRule")[0].rule == pb.MaskingRule(name="customer", pattern="KD-x", hints=["KD-"], enabled=True, sealed=True)
    assert gateway.peers.requests("PutMaskingException")[0] == pb.PutMaskingExceptionRequest(source="test", rule="customer", reason="made up there")
    assert gateway.peers.requests("DeleteMaskingException")[0] == pb.DeleteMaskingExceptionRequest(source="test", rule="customer")
    answers["PutMaskingRule"] = InvalidArgument("the pattern '(' of masking rule x is not a regular expression")
    error = await gateway.fail('mutation{putMaskingRule(rule:{name:"x",pattern:"("}){name}}', token=token)
    assert (error["extensions"]["code"], error["message"]) == ("INVALID_ARGUMENT", "the pattern '(' of masking rule x is not a regular expression")


async def test_a_dry_run_shows_what_would_change(gateway: Gateway, token: str) -> None:
    gateway.peers.answers["PreviewMasking"] = pb.PreviewMaskingResponse(
        examined=3,
        changed=1,
        counts=[pb.MaskingCount(rule="customer", hits=2)],
        changes=[pb.MaskingChange(event_id=2**53 + 1, field="body", before="KD-1", after="[c]"), pb.MaskingChange(sample=1, field="body", after="x")],
    )
    answer = await gateway.run(
        '{previewMasking(rule:{name:"customer",pattern:"KD-x"},source:"shop"){examined changed counts{rule hits} changes{eventId sample field before after}}}',
        token=token,
    )
    assert answer["previewMasking"] == {
        "examined": 3,
        "changed": 1,
        "counts": [{"rule": "customer", "hits": 2}],
        "changes": [
            {"eventId": str(2**53 + 1), "sample": 0, "field": "body", "before": "KD-1", "after": "[c]"},
            {"eventId": None, "sample": 1, "field": "body", "before": None, "after": "x"},
        ],
    }
    [request] = gateway.peers.requests("PreviewMasking")
    assert (request.source, request.events, request.rule.name) == ("shop", 100, "customer")
    await gateway.run('{previewMasking(samples:["a"]){examined}}', token=token)
    assert not gateway.peers.requests("PreviewMasking")[1].HasField("rule")


async def test_equal_tokens_reveals_and_their_audit(gateway: Gateway, token: str) -> None:
    answers = gateway.peers.answers
    answers["ListMaskingEquivalents"] = pb.ListMaskingEquivalentsResponse(tokens=["[email:1]", "[email:2]"])
    answers["RevealMasked"] = pb.RevealMaskedResponse(values=[pb.RevealedValue(field="body", rule="email", token="[email:1]", value="bob@example.com")])
    entry = pb.MaskingAuditEntry(sequence=7, actor="user:ada", action="sensitive_read", target="5", detail_json=b'{"reason":"x"}', intact=True)
    answers["ListMaskingAudit"] = pb.ListMaskingAuditResponse(entries=[entry])
    answer = await gateway.run(
        '{maskingEquivalents(token:"[email:1]") maskingAudit(first:1){edges{node{sequence at actor action target detail requestId hash intact}}}}', token=token
    )
    assert answer["maskingEquivalents"] == ["[email:1]", "[email:2]"]
    [edge] = answer["maskingAudit"]["edges"]
    assert (edge["node"]["sequence"], edge["node"]["detail"], edge["node"]["intact"]) == (7, {"reason": "x"}, True)
    answer = await gateway.run('mutation{revealMasked(eventId:"5",token:"[email:1]",reason:"ticket 4711"){field rule token value}}', token=token)
    assert answer["revealMasked"] == [{"field": "body", "rule": "email", "token": "[email:1]", "value": "bob@example.com"}]
    assert gateway.peers.requests("RevealMasked") == [pb.RevealMaskedRequest(event_id=5, token="[email:1]", reason="ticket 4711")]
    error = await gateway.fail('mutation{revealMasked(eventId:"bob@example.com",reason:"ticket 4711"){value}}', token=token)
    assert error["message"] == "an event id is a number"


async def test_who_may_not_is_refused(gateway: Gateway) -> None:
    viewer = gateway.peers.issuer.token("self:read", "sources:read", "events:read")
    for operation in (
        'mutation{revealMasked(eventId:"5",field:"body",reason:"ticket 4711"){value}}',
        'mutation{putMaskingRule(rule:{name:"x"}){name}}',
        "{maskingAudit{edges{cursor}}}",
    ):
        assert (await gateway.fail(operation, token=viewer))["extensions"]["code"] == "PERMISSION_DENIED"
