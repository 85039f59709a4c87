"""How secrets and personal data are hidden: rules, dry runs, equal tokens, and reading what sealed rules kept."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import strawberry

from elis.ingest.v1 import masking_pb2 as pb
from gateway.context import Info
from gateway.events import parse_event_id
from gateway.paging import PAGE_SIZE, After, Connection, First, Page, read_page
from gateway.scalars import JSON, BigInt, DateTime
from kit.auth import principal
from kit.errors import InvalidArgument

DEFAULT_EVENTS = 100

RuleName = Annotated[str, strawberry.argument(description="Name of the rule.")]
SourceName = Annotated[str, strawberry.argument(description="Name of the source.")]


@strawberry.type(description="How often a rule replaced something in a source in the last 24 hours.")
class MaskingSource:
    """Shows elis.ingest.v1.MaskingSource."""

    source: str | None = strawberry.field(description="Name of the source; null for names of hosts and the like, which sources share.")
    hits: BigInt = strawberry.field(description="Values replaced.")


@strawberry.type(description="A source that a masking rule does not apply to.")
class MaskingException:
    """Shows elis.ingest.v1.MaskingException."""

    source: str = strawberry.field(description="Name of the source.")
    rule: str = strawberry.field(description="Name of the rule.")
    reason: str = strawberry.field(description="Why.")
    created_by: str = strawberry.field(description="Who decided it.")
    created_at: DateTime | None = strawberry.field(description="When.")


@strawberry.type(description="One kind of value to hide: each is replaced by a token such as `[email:7f3a90c2d1e4]`, equal values by equal tokens.")
class MaskingRule:
    """Shows elis.ingest.v1.MaskingRule."""

    name: str = strawberry.field(description="Name of the rule, and the first part of its tokens.")
    pattern: str = strawberry.field(description="Regular expression; groups named `secret`, `secret2` … mark what is replaced.")
    validator: str | None = strawberry.field(description="Check of what was found: `card` or `iban`.")
    hints: list[str] = strawberry.field(description="Texts without which the pattern cannot match; the first four characters count, in any case.")
    shapes: list[str] = strawberry.field(description="The same for runs of digits: `card`, `iban`.")
    keys: str | None = strawberry.field(description="Regular expression for names of attributes whose whole value is hidden.")
    enabled: bool = strawberry.field(description="Whether it is applied.")
    sealed: bool = strawberry.field(description="Whether values are kept encrypted and can be revealed.")
    built_in: bool = strawberry.field(description="Whether it comes with ELIS.")
    changed: bool = strawberry.field(description="Whether a built-in rule is not as it came.")
    created_by: str | None = strawberry.field(description="Who made or changed it first.")
    updated_by: str | None = strawberry.field(description="Who changed it last.")
    created_at: DateTime | None = strawberry.field(description="When it was made.")
    updated_at: DateTime | None = strawberry.field(description="When it was changed last.")
    hits_24h: BigInt = strawberry.field(description="Values that it replaced in the last 24 hours.")
    top_sources: list[MaskingSource] = strawberry.field(description="The sources in which it replaced most, up to ten.")
    exceptions: list[MaskingException] = strawberry.field(description="The sources that it does not apply to.")


@strawberry.input(description="A masking rule. Under the name of a built-in rule, it changes that; without pattern and keys, only `enabled` and `sealed`.")
class MaskingRuleInput:
    """Becomes elis.ingest.v1.MaskingRule."""

    name: str = strawberry.field(description="1 to 32 of a-z, 0-9 and _, beginning with a letter.")
    pattern: str = strawberry.field(
        default="", description="Regular expression in RE2 syntax; groups named `secret`, `secret2` … mark what is replaced, without them all of it is."
    )
    validator: str | None = strawberry.field(default=None, description="Check of what was found: `card` or `iban`.")
    hints: list[str] | None = strawberry.field(
        default=None, description="ASCII texts of which one stands in every match. They keep masking fast: only texts that hold one are searched."
    )
    shapes: list[str] | None = strawberry.field(default=None, description="Instead of hints, for runs of digits: `card`, `iban`.")
    keys: str | None = strawberry.field(default=None, description="Regular expression for names of attributes whose whole value is hidden.")
    enabled: bool = strawberry.field(default=True, description="Whether it is applied.")
    sealed: bool = strawberry.field(default=False, description="Whether values are kept encrypted, to be revealed by an operator.")


@strawberry.type(description="How often a rule would replace something.")
class MaskingCount:
    """Shows elis.ingest.v1.MaskingCount."""

    rule: str = strawberry.field(description="Name of the rule.")
    hits: BigInt = strawberry.field(description="Values that it would replace.")


def _read_event_id(change: strawberry.Parent[pb.MaskingChange]) -> strawberry.ID | None:
    return strawberry.ID(str(change.event_id)) if change.event_id else None


@strawberry.type(description="What masking would change in one field.")
class MaskingChange:
    """Shows elis.ingest.v1.MaskingChange."""

    event_id: strawberry.ID | None = strawberry.field(resolver=_read_event_id, description="The stored event; null for a sample.")
    sample: int = strawberry.field(description="Place of the sample among those given, from 0.")
    field: str = strawberry.field(description="`body`, or `attributes` as JSON.")
    before: str | None = strawberry.field(description="The field as it is stored; null for a sample, which is not handed back.")
    after: str = strawberry.field(description="The field as it would be.")


@strawberry.type(description="What a dry run found. Nothing was changed.")
class MaskingPreview:
    """Shows elis.ingest.v1.PreviewMaskingResponse."""

    examined: int = strawberry.field(description="Samples or events that were looked at.")
    changed: int = strawberry.field(description="How many of them would change.")
    counts: list[MaskingCount] = strawberry.field(description="How often each rule would replace something.")
    changes: list[MaskingChange] = strawberry.field(description="The first changes, up to 50.")


@strawberry.type(description="A value as it was sent, before a sealed rule replaced it.")
class RevealedValue:
    """Shows elis.ingest.v1.RevealedValue."""

    field: str = strawberry.field(description="Where it stood: `body`, or `attributes` and a JSON pointer.")
    rule: str = strawberry.field(description="The rule that replaced it.")
    token: str = strawberry.field(description="The token that stands for it.")
    value: str = strawberry.field(description="The value.")


def _read_detail(entry: strawberry.Parent[pb.MaskingAuditEntry]) -> JSON:
    return JSON(entry.detail_json)


@strawberry.type(description="Who changed masking or read a sealed value.")
class MaskingAuditEntry:
    """Shows elis.ingest.v1.MaskingAuditEntry."""

    sequence: BigInt = strawberry.field(description="Its number; no number is left out.")
    at: DateTime | None = strawberry.field(description="When.")
    actor: str = strawberry.field(description="Who, such as `user:…` or `key:…`.")
    action: str = strawberry.field(description="What was done, such as `sensitive_read` or `masking_rule_put`.")
    target: str = strawberry.field(description="The rule, or the event.")
    detail: JSON = strawberry.field(resolver=_read_detail, description="Particulars, such as the reason. Never a value.")
    request_id: str = strawberry.field(description="Request in which it was done.")
    hash: str = strawberry.field(description="SHA-256 over the entry and the hash before it.")
    intact: bool = strawberry.field(description="Whether it fits its hash and the entry before it.")


@strawberry.type
class MaskingQuery:
    """Part of Query."""

    @strawberry.field(
        graphql_type=list[MaskingRule], description="Masking rules: the built-in ones in their order, then the team's. Needs the scope `sources:read`."
    )
    async def masking_rules(self, info: Info) -> Sequence[pb.MaskingRule]:
        """Returns all rules."""
        return (await info.context.services.masking.ListMaskingRules(pb.ListMaskingRulesRequest())).rules

    @strawberry.field(
        graphql_type=MaskingPreview,
        description="Tries a rule, or those in use, on texts or on stored events, and changes nothing. "
        "Stored events are masked already: what would change is what the rule adds. Needs the scope `rules:write`, and `events:read` for events.",
    )
    async def preview_masking(
        self,
        info: Info,
        rule: Annotated[MaskingRuleInput | None, strawberry.argument(description="A rule to try beside those in use, or in place of that of its name.")] = None,
        samples: Annotated[list[str] | None, strawberry.argument(description="Up to 100 texts.")] = None,
        source: Annotated[str | None, strawberry.argument(description="Instead of texts: the newest stored events of this source.")] = None,
        events: Annotated[int, strawberry.argument(description="How many events, 1 to 1,000.")] = DEFAULT_EVENTS,
    ) -> pb.PreviewMaskingResponse:
        """Returns what would change."""
        await info.context.rates.spend("account", principal().subject)
        request = pb.PreviewMaskingRequest(samples=samples or (), source=source or "", events=events)
        if rule is not None:
            request.rule.CopyFrom(_to_rule(rule))
        return await info.context.services.masking.PreviewMasking(request)

    @strawberry.field(
        description="All tokens that stand for the same value as a token, itself first: those made before and after the masking key was changed. "
        "Needs the scope `events:read`."
    )
    async def masking_equivalents(
        self, info: Info, token: Annotated[str, strawberry.argument(description="A token, such as `[email:7f3a90c2d1e4]`.")]
    ) -> list[str]:
        """Returns the tokens."""
        response = await info.context.services.masking.ListMaskingEquivalents(pb.ListMaskingEquivalentsRequest(token=token))
        return list(response.tokens)

    @strawberry.field(
        graphql_type=Connection[MaskingAuditEntry],
        description="Who changed masking rules or read sealed values, newest first. Needs the scope `audit:read`.",
    )
    async def masking_audit(self, info: Info, first: First = PAGE_SIZE, after: After = None) -> Page:
        """Returns a page of the audit."""

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.MaskingAuditEntry], str]:
            response = await info.context.services.masking.ListMaskingAudit(pb.ListMaskingAuditRequest(page_size=size, page_token=token))
            return response.entries, response.next_page_token

        return await read_page(fetch, first, after)


@strawberry.type
class MaskingMutation:
    """Part of Mutation."""

    @strawberry.mutation(
        graphql_type=MaskingRule,
        description="Adds or replaces a masking rule. Every process masks with it within ten seconds; stored events stay as they are. "
        "Needs the scope `rules:write`.",
    )
    async def put_masking_rule(self, info: Info, rule: Annotated[MaskingRuleInput, strawberry.argument(description="The rule.")]) -> pb.MaskingRule:
        """Stores a rule."""
        await info.context.rates.spend("account", principal().subject)
        return (await info.context.services.masking.PutMaskingRule(pb.PutMaskingRuleRequest(rule=_to_rule(rule)))).rule

    @strawberry.mutation(description="Deletes a rule of the team, or makes a built-in one what it was. Needs the scope `rules:write`.")
    async def delete_masking_rule(self, info: Info, name: RuleName) -> bool:
        """Deletes a rule."""
        await info.context.rates.spend("account", principal().subject)
        await info.context.services.masking.DeleteMaskingRule(pb.DeleteMaskingRuleRequest(name=name))
        return True

    @strawberry.mutation(description="Exempts a source from a masking rule, such as a test system with made-up addresses. Needs the scope `rules:write`.")
    async def put_masking_exception(
        self,
        info: Info,
        source: SourceName,
        rule: RuleName,
        reason: Annotated[str, strawberry.argument(description="Why, 10 to 500 characters; it is kept.")],
    ) -> bool:
        """Stores an exception."""
        await info.context.rates.spend("account", principal().subject)
        await info.context.services.masking.PutMaskingException(pb.PutMaskingExceptionRequest(source=source, rule=rule, reason=reason))
        return True

    @strawberry.mutation(description="Lets a masking rule apply to a source again. Needs the scope `rules:write`.")
    async def delete_masking_exception(self, info: Info, source: SourceName, rule: RuleName) -> bool:
        """Deletes an exception."""
        await info.context.rates.spend("account", principal().subject)
        await info.context.services.masking.DeleteMaskingException(pb.DeleteMaskingExceptionRequest(source=source, rule=rule))
        return True

    @strawberry.mutation(
        graphql_type=list[RevealedValue],
        description="Reads what sealed rules replaced in an event, by field or token or both. The audit keeps who read it and why. "
        "Needs the scope `events:reveal`.",
    )
    async def reveal_masked(
        self,
        info: Info,
        event_id: Annotated[strawberry.ID, strawberry.argument(description="The event.")],
        reason: Annotated[str, strawberry.argument(description="Why, 10 to 500 characters; it is kept.")],
        field: Annotated[str | None, strawberry.argument(description="Where it stands: `body`, or `attributes` and a JSON pointer.")] = None,
        token: Annotated[str | None, strawberry.argument(description="The token that stands for it.")] = None,
    ) -> Sequence[pb.RevealedValue]:
        """Returns the values."""
        await info.context.rates.spend("account", principal().subject)
        number = parse_event_id(event_id)
        if number is None:
            raise InvalidArgument("an event id is a number")
        request = pb.RevealMaskedRequest(event_id=number, field=field or "", token=token or "", reason=reason)
        return (await info.context.services.masking.RevealMasked(request)).values


def _to_rule(rule: MaskingRuleInput) -> pb.MaskingRule:
    return pb.MaskingRule(
        name=rule.name,
        pattern=rule.pattern,
        validator=rule.validator or "",
        hints=rule.hints or (),
        shapes=rule.shapes or (),
        keys=rule.keys or "",
        enabled=rule.enabled,
        sealed=rule.sealed,
    )
