"""Heralds: messages that were never seen before and came just before a service got into trouble.

A changed rule, a deployment, a restart say so once, and a disk that fills up warns a few times: too little for a
detector, and yet the lines that an engineer looks for first. They are looked up only for services that are part of an
incident, and only where new messages are rare. Warnings and errors must have come more than once or twice, since single
ones come by chance, while what is done to a system is said calmly and once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kit.rows import uuid7
from services.correlate.evidence import decode_line
from services.correlate.findings import MINUTE_NS, Finding
from services.correlate.history import History
from services.correlate.samples import Reader
from services.correlate.scene import WARNING, Track
from services.correlate.topology import Node

BEFORE_NS = 120_000_000_000
"""How long before the onset a herald may come."""
BEFORE = 2
"""The same in minutes."""
REPEATED = 3
"""Events that make a warning or an error a herald."""
SETTLED = 10
"""Minutes after the begin of the history in which everything is new."""
MOST_EXPECTED = 0.2
"""New messages in BEFORE minutes that a service may be expected to have, at most, for a herald to mean something."""
MOST = 3
"""Heralds of one service."""
SURPRISE = 2.0
WEIGHT = 0.4


async def find_heralds(node: Node, onset: int, known: Collection[Track], history: History, reader: Reader) -> tuple[list[Finding], list[bytes]]:
    """Returns heralds of a node's trouble that began at `onset` (nanoseconds since 1970), and their canonical lines."""
    minute = onset // MINUTE_NS
    settled = history.oldest + SETTLED
    calm = minute - BEFORE - settled
    tracks = [track for track in history.debuts(*node, minute - BEFORE, minute) if track not in known]
    if not tracks or calm < SETTLED:
        return [], []
    if len(history.debuts(*node, settled, minute - BEFORE - 1)) / calm * BEFORE > MOST_EXPECTED:
        return [], []
    tracks = [track for track in tracks if track.severity < WARNING or history.count([track], minute - BEFORE, minute) >= REPEATED]
    events = {event: track for _, track, event in history.events_of(tracks, minute - BEFORE, minute)}
    lines = await reader.read_events(list(events)[: 4 * MOST]) if events else []
    heralds: dict[Track, Finding] = {}
    kept: list[bytes] = []
    for event, line in sorted(((decode_line(line), line) for line in lines), key=lambda pair: pair[0].timestamp):
        track = events[event.event_id]
        if onset - BEFORE_NS <= event.timestamp < onset and track not in heralds and len(heralds) < MOST:
            times = history.count([track], minute - BEFORE, minute)
            heralds[track] = _describe(track, event.event_id, event.timestamp, event.body, times, settled)
            kept.append(line)
    return list(heralds.values()), kept


def _describe(track: Track, event_id: int, timestamp: int, body: str, times: int, settled: int) -> Finding:
    minute = timestamp // MINUTE_NS
    return Finding(
        id=uuid7(),
        detector="new_template",
        system=track.system,
        source=track.source,
        service=track.service,
        template=track.template,
        severity=track.severity,
        first=minute,
        last=minute,
        onset=timestamp,
        expected=0.0,
        observed=float(times),
        surprise=SURPRISE,
        weight=WEIGHT,
        baseline=f"never seen in {minute - settled + SETTLED} minutes",
        summary="first seen just before the trouble" + (f", {times} times" if times > 1 else ""),
        tracks={track},
        evidence=[event_id],
        bodies=[body[:500]],
        exact=True,
        herald=True,
    )


def tracks_of(findings: Sequence[Finding]) -> set[Track]:
    """Returns what findings are about."""
    return {track for finding in findings for track in finding.tracks}
