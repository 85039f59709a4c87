"""Records that could not become events: what they were, who sent them, and how they get another try."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# ruff: noqa: A002
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated

import strawberry

from elis.ingest.v1 import rejections_pb2 as pb
from gateway.context import Info
from gateway.paging import PAGE_SIZE, After, Connection, First, Page, read_page
from gateway.scalars import JSON, BigInt, DateTime
from kit.auth import principal


@strawberry.type(description="Who sent what was rejected; what is not known is null.")
class RejectedSender:
    """Shows elis.ingest.v1.RejectedSender."""

    token_id: str | None = strawberry.field(description="Id of the token that the sender used.")
    token_name: str | None = strawberry.field(description="Name of that token.")
    protocol: str | None = strawberry.field(description="Protocol, such as `hec` or `otlp_grpc`.")
    address: str | None = strawberry.field(description="Network address.")
    user_agent: str | None = strawberry.field(description="What the sender calls itself.")


@strawberry.type(description="Records of one day that could not become events and are alike: same source, reason, kind of detail and sender.")
class RejectedEvent:
    """Shows elis.ingest.v1.RejectedEvent."""

    id: strawberry.ID = strawberry.field(description="Identifies the group of records.")
    source: str | None = strawberry.field(description="Name of the sender.")
    reason: str = strawberry.field(description="Why they were rejected: one of a closed list.")
    detail: str | None = strawberry.field(description="What exactly was wrong with the newest of them.")
    retryable: bool = strawberry.field(description="Whether ELIS can be set so that it takes the same bytes, with nothing changed at the sender.")
    first_seen_at: DateTime | None = strawberry.field(description="When the first of them came in.")
    last_seen_at: DateTime | None = strawberry.field(description="When the last of them came in.")
    count: BigInt = strawberry.field(description="How many came in.")
    sender: RejectedSender = strawberry.field(description="Who sent them.")
    bytes: BigInt = strawberry.field(description="Bytes of all of them, as they were sent.")
    kept: BigInt = strawberry.field(description="How many have their bytes kept; the others were beyond what is kept per source and day.")
    replayed: BigInt = strawberry.field(description="How many became events in a replay.")


@strawberry.type(description="One record that could not become an event, with its bytes kept.")
class RejectedRecord:
    """Shows elis.ingest.v1.RejectedRecord."""

    id: strawberry.ID = strawberry.field(description="Identifies the record.")
    event_id: strawberry.ID = strawberry.field(description="The `RejectedEvent` that it belongs to.")
    detail: str | None = strawberry.field(description="What exactly was wrong.")
    size: BigInt = strawberry.field(description="Bytes, as they were sent.")
    rejected_at: DateTime = strawberry.field(description="When it came in.")
    replayed_at: DateTime | None = strawberry.field(description="When a replay stored it; null: not yet.")


@strawberry.type(description="What was rejected for one reason, as long as it is kept.")
class RejectedTotal:
    """Shows elis.ingest.v1.RejectedTotal."""

    reason: str = strawberry.field(description="The reason.")
    retryable: bool = strawberry.field(description="Whether ELIS can be set so that it takes the same bytes, with nothing changed at the sender.")
    count: BigInt = strawberry.field(description="How many records.")
    bytes: BigInt = strawberry.field(description="Their bytes, as they were sent.")
    kept: BigInt = strawberry.field(description="How many have their bytes kept.")
    replayed: BigInt = strawberry.field(description="How many became events in a replay.")
    last_seen_at: DateTime | None = strawberry.field(description="When the last of them came in.")


@strawberry.type(description="A rejected record as it was sent. It is not masked.")
class RevealedRecord:
    """Shows elis.ingest.v1.RevealRejectedResponse."""

    @strawberry.field(graphql_type=JSON, description="What came with it, such as its time and attributes: an object.")
    def fields(self: pb.RevealRejectedResponse) -> bytes:
        """Returns encoded JSON."""
        return self.fields_json

    @strawberry.field(description="Its bytes, in base64.")
    def raw(self: pb.RevealRejectedResponse) -> str:
        """Returns the bytes as text that survives JSON."""
        return b64encode(self.raw).decode()

    @strawberry.field(description="Its bytes read as UTF-8; what is none is shown as U+FFFD.")
    def text(self: pb.RevealRejectedResponse) -> str:
        """Returns the bytes as a person reads them."""
        return self.raw.decode("utf-8", "replace")


@strawberry.type(description="A record that stays rejected.")
class ReplayProblem:
    """Shows elis.ingest.v1.ReplayProblem."""

    id: strawberry.ID = strawberry.field(description="The record.")
    problem: str = strawberry.field(description="Why it stays rejected, and what would help.")


@strawberry.type(description="What became of a replay.")
class ReplayPayload:
    """Shows elis.ingest.v1.ReplayRejectedResponse."""

    accepted: BigInt = strawberry.field(description="Events that are stored now.")
    duplicates: BigInt = strawberry.field(description="Events that an earlier try had stored.")
    rejected: BigInt = strawberry.field(description="Records that stay rejected.")
    problems: list[ReplayProblem] = strawberry.field(description="Why, of up to 50 of them.")
    remaining: BigInt = strawberry.field(description="Records behind those that were tried: send the same mutation again with `after`.")
    next_page_token: str | None = strawberry.field(name="endCursor", description="The `after` of the next call; null when nothing remains.")


@strawberry.type
class RejectionQuery:
    """Part of Query."""

    @strawberry.field(
        graphql_type=Connection[RejectedEvent],
        description="Records that could not become events, alike ones together, newest group first. Needs the scope `rejected:read`.",
    )
    async def rejected_events(
        self,
        info: Info,
        source: Annotated[str | None, strawberry.argument(description="Only of this sender.")] = None,
        reason: Annotated[str | None, strawberry.argument(description="Only for this reason.")] = None,
        first: First = PAGE_SIZE,
        after: After = None,
    ) -> Page:
        """Returns a page of groups."""

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.RejectedEvent], str]:
            request = pb.ListRejectedEventsRequest(page_size=size, page_token=token, source=source or "", reason=reason or "")
            response = await info.context.services.rejections.ListRejectedEvents(request)
            return response.events, response.next_page_token

        return await read_page(fetch, first, after)

    @strawberry.field(graphql_type=list[RejectedTotal], description="How much was rejected, by reason. Needs the scope `rejected:read`.")
    async def rejected_totals(
        self,
        info: Info,
        source: Annotated[str | None, strawberry.argument(description="Only of this sender.")] = None,
    ) -> Sequence[pb.RejectedTotal]:
        """Returns the counts."""
        response = await info.context.services.rejections.GetRejectedTotals(pb.GetRejectedTotalsRequest(source=source or ""))
        return response.totals

    @strawberry.field(
        graphql_type=Connection[RejectedRecord],
        description="The records of a `RejectedEvent` whose bytes are kept, newest first. Needs the scope `rejected:read`.",
    )
    async def rejected_records(
        self,
        info: Info,
        event_id: Annotated[strawberry.ID, strawberry.argument(description="Id of the `RejectedEvent`.")],
        first: First = PAGE_SIZE,
        after: After = None,
    ) -> Page:
        """Returns a page of records."""

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.RejectedRecord], str]:
            request = pb.ListRejectedRecordsRequest(event_id=event_id, page_size=size, page_token=token)
            response = await info.context.services.rejections.ListRejectedRecords(request)
            return response.records, response.next_page_token

        return await read_page(fetch, first, after)


@strawberry.type
class RejectionMutation:
    """Part of Mutation."""

    @strawberry.mutation(
        graphql_type=ReplayPayload,
        description="Puts rejected records through intake again, after a fix. What is stored once is not stored twice. Needs the scope `rejected:replay`.",
    )
    async def replay_rejected(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="Up to 500 ids of `RejectedRecord` or of `RejectedEvent` (all its records).")],
        format: Annotated[
            str | None, strawberry.argument(description="Log format that cuts and parses them; without it each is one record of its source's format.")
        ] = None,
        source: Annotated[str | None, strawberry.argument(description="Whose events they become; without it, those they were rejected for.")] = None,
        after: Annotated[str | None, strawberry.argument(description="`endCursor` of the call before: goes on behind what it tried.")] = None,
    ) -> pb.ReplayRejectedResponse:
        """Replays."""
        await info.context.rates.spend("ingest", principal().subject)
        request = pb.ReplayRejectedRequest(ids=ids, format=format or "", source=source or "", page_token=after or "")
        return await info.context.services.rejections.ReplayRejected(request)

    @strawberry.mutation(
        graphql_type=RevealedRecord,
        description="Shows a rejected record as it was sent, not masked; who asked and why goes into the audit. Needs the scope `events:reveal`.",
    )
    async def reveal_rejected(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="Id of a `RejectedRecord`.")],
        reason: Annotated[str, strawberry.argument(description="Why it has to be seen, 10 to 500 characters.")],
    ) -> pb.RevealRejectedResponse:
        """Opens a record."""
        await info.context.rates.spend("account", principal().subject)
        return await info.context.services.rejections.RevealRejected(pb.RevealRejectedRequest(id=id, reason=reason))
