"""RPCs of masking: rules and exceptions, dry runs, equal tokens, reading what sealed rules kept, the audit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

from elis.ingest.v1 import masking_pb2 as pb
from elis.ingest.v1 import masking_pb2_grpc
from kit.auth import principal, requires
from kit.db import uses_database
from kit.errors import InvalidArgument
from kit.mapping import to_proto
from kit.paging import clamp_page_size, decode_token, encode_token
from services.ingest.blocks import decompress_lines, get_blocks, newest_block_ids
from services.ingest.masking import BUILT_IN_RULES, Masker, RuleSet
from services.ingest.masking.audit import list_entries
from services.ingest.masking.book import RuleBook
from services.ingest.masking.dry_run import DryRun, try_events, try_samples
from services.ingest.masking.hits import RuleHits, read_hits
from services.ingest.masking.stored import BUILT_INS, StoredRule, combine
from services.ingest.masking.trial import check_rule
from services.ingest.masking.vault import MaskingVault

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

MAX_SAMPLES = 100
MAX_SAMPLE = 64 * 1024
MAX_EVENTS = 1_000
SEARCHED_BLOCKS = 5_000
"""Newest blocks in which stored events of a source are looked for."""
MAX_NAME = 32
MAX_TOKEN = 64
MAX_FIELD = 4_096


class MaskingServicer(masking_pb2_grpc.MaskingServiceServicer):
    """Shows and changes how values are masked; gives back what sealed rules kept."""

    def __init__(self, pool: asyncpg.Pool[Any], book: RuleBook, masker: Masker, vault: MaskingVault) -> None:
        self._pool = pool
        self._book = book
        self._masker = masker
        self._vault = vault
        self._trials = asyncio.Semaphore(1)
        """Patterns are tried one at a time: a trial may take a second of a core that events need too."""

    @requires("sources:read")
    @uses_database
    async def ListMaskingRules(self, _: pb.ListMaskingRulesRequest, __: RpcContext) -> pb.ListMaskingRulesResponse:
        """All rules, the built-in ones first."""
        await self._book.load()
        return pb.ListMaskingRulesResponse(rules=await self._describe())

    @requires("rules:write")
    @uses_database
    async def PutMaskingRule(self, request: pb.PutMaskingRuleRequest, _: RpcContext) -> pb.PutMaskingRuleResponse:
        """Stores a rule; every process masks with it within seconds, this one at once."""
        rule = _stored_of(request.rule)
        async with self._trials:
            await self._book.put_rule(rule)
        return pb.PutMaskingRuleResponse(rule=next(shown for shown in await self._describe() if shown.name == rule.name))

    @requires("rules:write")
    @uses_database
    async def DeleteMaskingRule(self, request: pb.DeleteMaskingRuleRequest, _: RpcContext) -> pb.DeleteMaskingRuleResponse:
        """Deletes a rule of the team; a built-in rule is again as it was delivered."""
        await self._book.delete_rule(request.name)
        return pb.DeleteMaskingRuleResponse()

    @requires("rules:write")
    @uses_database
    async def PutMaskingException(self, request: pb.PutMaskingExceptionRequest, _: RpcContext) -> pb.PutMaskingExceptionResponse:
        """Exempts a source from a rule."""
        await self._book.put_exception(request.source, request.rule, request.reason)
        return pb.PutMaskingExceptionResponse()

    @requires("rules:write")
    @uses_database
    async def DeleteMaskingException(self, request: pb.DeleteMaskingExceptionRequest, _: RpcContext) -> pb.DeleteMaskingExceptionResponse:
        """Lets a rule apply to a source again."""
        await self._book.delete_exception(request.source, request.rule)
        return pb.DeleteMaskingExceptionResponse()

    @requires("rules:write")
    @uses_database
    async def PreviewMasking(self, request: pb.PreviewMaskingRequest, _: RpcContext) -> pb.PreviewMaskingResponse:
        """Says what a rule, or all in use, would change; changes nothing."""
        if bool(request.samples) == bool(request.source):
            raise InvalidArgument("give samples or a source, one of them")
        if len(request.samples) > MAX_SAMPLES or any(len(sample) > MAX_SAMPLE for sample in request.samples):
            raise InvalidArgument(f"samples are at most {MAX_SAMPLES} texts of at most {MAX_SAMPLE} characters")
        if request.source and not 1 <= request.events <= MAX_EVENTS:
            raise InvalidArgument(f"events is 1 to {MAX_EVENTS}, not {request.events}")
        if request.source:
            principal().require("events:read")
        await self._book.load()
        async with self._trials:
            masker = await asyncio.to_thread(self._trial_masker, request)
            lines = await self._newest_events(request.source, request.events) if request.source else []
            run = await asyncio.to_thread(lambda: try_events(masker, lines) if request.source else try_samples(masker, list(request.samples)))
        return _to_response(run)

    @requires("events:read")
    @uses_database
    async def ListMaskingEquivalents(self, request: pb.ListMaskingEquivalentsRequest, _: RpcContext) -> pb.ListMaskingEquivalentsResponse:
        """All tokens of the value that a token stands for."""
        return pb.ListMaskingEquivalentsResponse(tokens=await self._vault.equivalents(_checked("token", request.token, MAX_TOKEN)))

    @requires("events:reveal")
    @uses_database
    async def RevealMasked(self, request: pb.RevealMaskedRequest, _: RpcContext) -> pb.RevealMaskedResponse:
        """What a sealed rule replaced in an event; an audit entry tells who read it and why."""
        field, token = _checked("field", request.field, MAX_FIELD, least=0), _checked("token", request.token, MAX_TOKEN, least=0)
        values = await self._vault.reveal(request.event_id, field=field, token=token, reason=request.reason)
        return pb.RevealMaskedResponse(values=[to_proto(pb.RevealedValue, value) for value in values])

    @requires("audit:read")
    @uses_database
    async def ListMaskingAudit(self, request: pb.ListMaskingAuditRequest, _: RpcContext) -> pb.ListMaskingAuditResponse:
        """Who changed rules and exceptions, and who revealed what, newest first."""
        size = clamp_page_size(request.page_size)
        after = decode_token(request.page_token, int)
        entries = await list_entries(self._pool, before=after[0] if after is not None else 0, limit=size)
        last = entries[-1][0].sequence if entries else 1
        return pb.ListMaskingAuditResponse(
            entries=[
                to_proto(pb.MaskingAuditEntry, entry, detail_json=entry.detail.encode(), hash=entry.hash.hex(), intact=intact) for entry, intact in entries
            ],
            next_page_token=encode_token(last) if len(entries) == size and last > 1 else "",
        )

    async def _describe(self) -> list[pb.MaskingRule]:
        hits = await read_hits(self._pool)
        stored = {rule.name: rule for rule in self._book.stored.rules}
        shown = [_show_built_in(rule.name, stored.pop(rule.name, None)) for rule in BUILT_IN_RULES]
        shown += [to_proto(pb.MaskingRule, stored[name]) for name in sorted(stored)]
        for rule in shown:
            counted = hits.get(rule.name, RuleHits(0, []))
            rule.hits_24h = counted.total
            rule.top_sources.extend(pb.MaskingSource(source=source, hits=count) for source, count in counted.by_source)
            rule.exceptions.extend(to_proto(pb.MaskingException, exception) for exception in self._book.stored.exceptions if exception.rule == rule.name)
        return shown

    def _trial_masker(self, request: pb.PreviewMaskingRequest) -> Masker:
        if not request.HasField("rule"):
            return self._masker.with_rules(self._masker.rule_set)
        tried = _stored_of(request.rule)
        made = tried.to_rule()
        if made.linear:
            check_rule(made)
        rules = combine([*(rule for rule in self._book.stored.rules if rule.name != tried.name), tried])
        return self._masker.with_rules(RuleSet(rules, self._masker.rule_set.exceptions))

    async def _newest_events(self, source: str, count: int) -> list[bytes]:
        found: list[bytes] = []
        ids = await newest_block_ids(self._pool, SEARCHED_BLOCKS)
        for start in range(0, len(ids), 64):
            summaries = await get_blocks(self._pool, ids[start : start + 64], with_lines=False, with_summary=True)
            holding = [block.id for block in summaries if source in block.summary.sources]
            for number in holding:
                for block in await get_blocks(self._pool, [number], with_lines=True, with_summary=False):
                    found += await asyncio.to_thread(_lines_of, block.lines, source)
                if len(found) >= count:
                    return found[:count]
        return found


def _lines_of(lines: bytes, source: str) -> list[bytes]:
    """Returns the events of a source in a block, newest first."""
    named = orjson.dumps(source)
    return [line for line in reversed(decompress_lines(lines).splitlines()) if named in line and orjson.loads(line)["source"] == source]


def _stored_of(rule: pb.MaskingRule) -> StoredRule:
    _checked("name", rule.name, MAX_NAME)
    if any("\x00" in text for text in (rule.validator, *rule.hints, *rule.shapes)):
        raise InvalidArgument(f"the validator, a hint or a shape of masking rule {rule.name} holds a NUL")
    return StoredRule(
        name=rule.name,
        pattern=rule.pattern,
        validator=rule.validator,
        hints=tuple(rule.hints),
        shapes=tuple(rule.shapes),
        keys=rule.keys,
        enabled=rule.enabled,
        sealed=rule.sealed,
    )


def _show_built_in(name: str, stored: StoredRule | None) -> pb.MaskingRule:
    built_in = BUILT_INS[name]
    if stored is None:
        return to_proto(pb.MaskingRule, built_in, enabled=True, built_in=True)
    own = stored if stored.pattern or stored.keys else built_in
    shown = {field: getattr(own, field) for field in ("pattern", "validator", "hints", "shapes", "keys")}
    return to_proto(pb.MaskingRule, stored, **shown, built_in=True, changed=True)


def _to_response(run: DryRun) -> pb.PreviewMaskingResponse:
    return pb.PreviewMaskingResponse(
        changes=[to_proto(pb.MaskingChange, change) for change in run.changes],
        counts=[pb.MaskingCount(rule=rule, hits=count) for rule, count in sorted(run.counts.items())],
        examined=run.examined,
        changed=run.changed,
    )


def _checked(what: str, text: str, most: int, least: int = 1) -> str:
    # The text is not told back: it may be the very value that somebody looks for.
    if not least <= len(text) <= most or "\x00" in text:
        raise InvalidArgument(f"the {what} has {least} to {most} characters, without NUL")
    return text
