"""Spans of traces, reduced to what tells who calls whom. Source: opentelemetry-proto trace.proto, semantic conventions."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import SpanFlags, Status

from services.ingest.tokens import Agent

MAX_NAME = 200
MAX_DURATION_NS = 86_400 * 1_000_000_000
OLDEST_NS = 3_600 * 1_000_000_000
"""A span that started longer ago, or later than now, counts as of now: it says nothing about when the call was."""

SERVICE = "service"
DATABASE = "database"
MESSAGING = "messaging"
EXTERNAL = "external"
_CALLS = (WireSpan.SPAN_KIND_CLIENT, WireSpan.SPAN_KIND_PRODUCER)
_ENTRIES = (WireSpan.SPAN_KIND_SERVER, WireSpan.SPAN_KIND_CONSUMER)
_ADDRESSES = ("server.address", "net.peer.name", "network.peer.address", "net.peer.ip")
_DATABASES = ("db.system.name", "db.system")


@dataclass(frozen=True, slots=True)
class Span:
    """One span: who, under whom, how long and whether it failed."""

    key: bytes
    """Trace id and span id."""
    parent: bytes
    """Trace id and the parent's span id; empty for a root."""
    service: str
    minute: int
    """Minutes since 1970."""
    duration_ns: int
    failed: bool
    entry: bool
    """Whether its parent may be a span of another service."""
    calls: bool
    """Whether its children are, by its kind, spans of another service."""
    peer: str = ""
    """What it calls, by its attributes; empty when they do not tell."""
    peer_kind: str = EXTERNAL


def collect_spans(request: ExportTraceServiceRequest, agent: Agent) -> list[Span]:
    """Returns the spans of a request that have valid ids."""
    now = time.time_ns()
    spans: list[Span] = []
    for resource_spans in request.resource_spans:
        resource = _texts(resource_spans.resource.attributes, ("service.name",))
        service = _name(resource.get("service.name", "")) or _name(agent.source or agent.name)
        for scope_spans in resource_spans.scope_spans:
            spans.extend(_read(span, service, now) for span in scope_spans.spans if _is_id(span.trace_id, 16) and _is_id(span.span_id, 8))
    return spans


def _read(span: WireSpan, service: str, now: int) -> Span:
    start = span.start_time_unix_nano if now - OLDEST_NS <= span.start_time_unix_nano <= now else now
    calls = span.kind in _CALLS
    peer, kind = _find_peer(span) if calls else ("", EXTERNAL)
    remote = bool(span.flags & SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
    return Span(
        key=span.trace_id + span.span_id,
        parent=span.trace_id + span.parent_span_id if _is_id(span.parent_span_id, 8) else b"",
        service=service,
        minute=start // 60_000_000_000,
        duration_ns=min(max(span.end_time_unix_nano - span.start_time_unix_nano, 0), MAX_DURATION_NS),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        entry=remote or span.kind in _ENTRIES,
        calls=calls,
        peer=peer,
        peer_kind=kind,
    )


def _is_id(raw: bytes, length: int) -> bool:
    """Says whether an id has its length and is not all zero, which means none (W3C Trace Context)."""
    return len(raw) == length and any(raw)


def _find_peer(span: WireSpan) -> tuple[str, str]:
    """Returns name and kind of what a span calls: `peer.service`, or a database, a broker or a host by its address."""
    found = _texts(span.attributes, ("peer.service", "messaging.system", *_DATABASES, *_ADDRESSES))
    address = next((found[name] for name in _ADDRESSES if found.get(name)), "")
    database = next((found[name] for name in _DATABASES if found.get(name)), "")
    messaging = found.get("messaging.system", "")
    kind = DATABASE if database else MESSAGING if messaging else EXTERNAL
    if found.get("peer.service"):
        return _name(found["peer.service"]), kind
    return _name("/".join(part for part in (database or messaging, address) if part)), kind


def _texts(attributes: Iterable[KeyValue], names: tuple[str, ...]) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in attributes if pair.key in names}


def _name(text: str) -> str:
    """Returns a name that can be stored and stands on one line."""
    return " ".join(text.replace("\0", " ").split())[:MAX_NAME]
