"""Evidence: events that prove a claim, read from ingest and copied, because they must outlive the retention of events."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from elis.correlate.v1 import correlate_pb2 as pb
from kit.mapping import to_proto
from services.correlate.models import EvidenceEvent

KeyT = TypeVar("KeyT")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A canonical line, decoded."""

    event_id: int
    timestamp: int
    """Nanoseconds since 1970."""
    source: str = ""
    system: str = ""
    severity_number: int = 0
    fingerprint: str = ""
    body: str = ""
    host: str = ""
    service: str = ""
    severity_text: str = ""
    attributes: dict[str, Any] = {}
    trace_id: str = ""
    span_id: str = ""


_decode = msgspec.json.Decoder(Event).decode


def decode_line(line: bytes) -> Event:
    """Returns the event of a canonical line."""
    return _decode(line)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What of a canonical line says to which track it belongs; the rest is not decoded."""

    source: str = ""
    system: str = ""
    severity_number: int = 0
    fingerprint: str = ""
    service: str = ""


_decode_head = msgspec.json.Decoder(Head).decode


class Block:
    """The canonical lines of a block, decoded when they are looked at."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines
        self._events: dict[int, Event] = {}

    def __getitem__(self, place: int) -> Event:
        event = self._events.get(place)
        if event is None:
            event = self._events[place] = _decode(self._lines[place])
        return event

    def heads(self) -> Iterator[Head]:
        """Yields what says to which track each line belongs."""
        return map(_decode_head, self._lines)

    def traced(self) -> list[Event]:
        """Returns the events that belong to a trace."""
        events = [self[place] for place, line in enumerate(self._lines) if b'"trace_id":' in line]
        return [event for event in events if event.trace_id]

    def spread(self, most: int) -> list[Event]:
        """Returns about so many events from the whole length of the block."""
        return [self[place] for place in range(0, len(self._lines), max(1, len(self._lines) // most))]


async def copy_evidence(session: AsyncSession, lines: Iterable[bytes]) -> None:
    """Stores copies of events; one that is there already stays as it is."""
    rows = [_to_row(line, decode_line(line)) for line in lines]
    if rows:
        await session.execute(insert(EvidenceEvent).on_conflict_do_nothing(), sorted(rows, key=lambda row: row["event_id"]))


async def load_evidence(session: AsyncSession, ids: Collection[int]) -> dict[int, pb.EvidenceEvent]:
    """Returns the copied events by id; an id that was not copied is left out."""
    if not ids:
        return {}
    rows = await session.scalars(select(EvidenceEvent).where(EvidenceEvent.event_id.in_(ids)))
    return {row.event_id: _to_message(row) for row in rows}


def _to_message(row: EvidenceEvent) -> pb.EvidenceEvent:
    message = to_proto(pb.EvidenceEvent, row)
    message.timestamp.FromNanoseconds(row.timestamp_ns)
    return message


def _to_row(line: bytes, event: Event) -> dict[str, Any]:
    texts = {name: getattr(event, name).replace("\x00", "�") for name in ("source", "system", "service", "host", "severity_text", "body")}
    return {"event_id": event.event_id, "timestamp_ns": event.timestamp, "severity_number": event.severity_number, "line": line, **texts}
