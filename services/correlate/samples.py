"""Samples: events behind the findings, read from ingest, and what they tell: onset, keys, who names whom, who was first."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from services.correlate.evidence import Block, Event, decode_line
from services.correlate.findings import MINUTE_NS, Finding, choose_evidence
from services.correlate.history import History
from services.correlate.keys import KeyBook, extract_keys, phrases
from services.correlate.rollups import ORDINAL_BITS
from services.correlate.scene import WARNING, Track
from services.correlate.topology import MAX_READ, Names, Node, Topology, node_of

BLOCKS_PER_ROUND = 16
MAX_SAMPLED = 400
"""Events of a finding that are looked at."""
MAX_KEYS = 300
ORDINARY = 0.3
"""Share of a node's ordinary events from which a key says nothing about it."""
MAX_LEARNED = 2_000
"""Events of a block of normal operation that are looked at, side by side, so that traces stay whole: what detection costs must not grow with the blocks."""
MAX_NORMAL = 100
"""Events of a block of normal operation whose keys are noted."""
MAX_GROUPS = 50_000
_KNOWN_BLOCKS = 20_000
_FAMILIAR_NS = 10 * MINUTE_NS
"""A key that was met so long before a fault is not one of a transaction that met the fault."""


class Reader(Protocol):
    """Reads events from the truth. Both methods leave out what is not there (any more)."""

    async def read_events(self, ids: Sequence[int]) -> list[bytes]:
        """Returns canonical lines."""
        ...

    async def read_block(self, block_id: int) -> list[bytes]:
        """Returns the canonical lines of a block."""
        ...


class Samples:
    """What was read, bounded. Feeds the findings, the topology and the order in which nodes went wrong."""

    def __init__(self, reader: Reader, topology: Topology) -> None:
        self._reader = reader
        self._topology = topology
        self._book = KeyBook()
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.lines: dict[int, bytes] = {}
        """Lines of evidence that was read in this round, by event id."""
        self.groups: OrderedDict[str, dict[Node, int]] = OrderedDict()
        """Keys of single transactions to when each node first had trouble with them (nanoseconds since 1970)."""

    async def learn_normal(self, block_ids: Iterable[int], names: Names) -> None:
        """Learns the topology and the keys that are always about from blocks of normal operation."""
        for block_id in block_ids:
            block = Block((await self._read(block_id))[:MAX_LEARNED])
            self._topology.learn(block.traced(), block.spread(MAX_READ), names)
            for event in block.spread(MAX_NORMAL):
                self._book.meet_ordinary(node_of(event), extract_keys(event), event.timestamp)

    async def study(self, changed: Sequence[Finding], current: Sequence[Finding], history: History, names: Names, templates: Mapping[int, int]) -> None:
        """Completes changed findings: evidence, onset, keys. `current` are all that may explain an event; `templates` maps fingerprints."""
        self.lines = {}
        for finding in changed:
            await self._collect_evidence(finding, history, names)
        by_track: dict[Track, list[Finding]] = defaultdict(list)
        for finding in filter(_is_telling, current):
            for track in finding.tracks:
                by_track[track].append(finding)
        wanted, known = {track.template for track in by_track}, dict[str, int]()
        for block_id in self._choose_blocks(changed, history):
            block = Block(await self._read(block_id))
            self._topology.learn(block.traced(), block.spread(MAX_READ), names)
            for place, head in enumerate(block.heads()):
                template = known.get(head.fingerprint)
                if template is None:
                    signed = _signed(head.fingerprint)
                    template = known[head.fingerprint] = templates.get(signed, signed)
                if template not in wanted:
                    continue
                found = by_track.get(Track(head.system, head.source, head.service, template, head.severity_number), ())
                wanting = [finding for finding in found if finding.sampled < MAX_SAMPLED]
                if wanting:
                    self._use_event(wanting, block[place], names)
        for finding in changed:
            finding.onset, finding.exact = estimate_onset(finding, history)

    def specific_keys(self, finding: Finding) -> set[str]:
        """Returns the keys of a finding that belong to single transactions of its time."""
        since = finding.onset - _FAMILIAR_NS
        return {key for key in finding.keys if self._book.is_specific(key, since)}

    def telling_constants(self, finding: Finding) -> set[str]:
        """Returns the keys that most events of a finding have and few ordinary events of its node."""
        return {key for key in finding.constants if self._book.ordinary_share(finding.node, key) < ORDINARY}

    def _choose_blocks(self, changed: Sequence[Finding], history: History) -> list[int]:
        chosen: dict[int, None] = {}
        queues = []
        for finding in sorted(changed, key=lambda item: -item.score):
            if finding.sampled < MAX_SAMPLED and _is_telling(finding):
                events = history.events_of(finding.tracks, finding.first, finding.last)
                queues.append([event >> ORDINAL_BITS for _, _, event in events])
        for place in range(max(map(len, queues), default=0)):
            for queue in queues:
                if place < len(queue) and queue[place] not in self._blocks:
                    chosen[queue[place]] = None
                    if len(chosen) >= BLOCKS_PER_ROUND:
                        return list(chosen)
        return list(chosen)

    async def _read(self, block_id: int) -> Sequence[bytes]:
        if block_id in self._blocks:
            return []
        self._blocks[block_id] = None
        while len(self._blocks) > _KNOWN_BLOCKS:
            self._blocks.popitem(last=False)
        return await self._reader.read_block(block_id)

    async def _collect_evidence(self, finding: Finding, history: History, names: Names) -> None:
        chosen = choose_evidence(finding, history)
        wanted = [event for event in chosen if event not in finding.evidence]
        if not wanted:
            return
        for line in await self._reader.read_events(wanted):
            event = decode_line(line)
            self.lines[event.event_id] = line
            finding.evidence.append(event.event_id)
            if len(finding.bodies) < 3:
                finding.bodies.append(event.body[:500])
            self._use_event([finding], event, names)

    def _use_event(self, findings: Sequence[Finding], event: Event, names: Names) -> None:
        keys = extract_keys(event)
        self._book.meet(keys, event.timestamp)
        for finding in findings:
            finding.sampled += 1
            if finding.template is not None and finding.detector == "new_template":
                finding.onset = min(finding.onset, event.timestamp) if finding.exact else event.timestamp
                finding.exact = True
        telling = list(filter(_is_telling, findings))
        if telling:
            said = phrases(event.body) if any(len(finding.phrases) < MAX_KEYS for finding in telling) else set()
            named = names.named_in(event)
            for finding in telling:
                self._use(finding, event, keys, said, named)

    def _use(self, finding: Finding, event: Event, keys: Sequence[str], said: set[str], named: set[Node]) -> None:
        finding.phrases |= said if len(finding.phrases) < MAX_KEYS else set()
        for node in named:
            finding.needs[node] = finding.needs.get(node, 0) + 1
        for key in keys:
            if key in finding.keys or len(finding.keys) < MAX_KEYS:
                finding.keys.setdefault(key, event.event_id)
                finding.key_counts[key] += 1
            if event.severity_number >= WARNING and key.startswith(("trace:", "id:")) and self._book.is_specific(key, event.timestamp - _FAMILIAR_NS):
                group = self.groups.setdefault(key, {})
                node = node_of(event)
                group[node] = min(event.timestamp, group.get(node, event.timestamp))
        while len(self.groups) > MAX_GROUPS:
            self.groups.popitem(last=False)


def estimate_onset(finding: Finding, history: History) -> tuple[int, bool]:
    """Returns when a finding began, and whether that is the time of an event.

    A new template began with its first event. Where there was noise before, the minute is split: if the second minute
    is taken to run at full rate, the first was hit for the share of it that its count is of the second's.
    """
    if finding.exact:
        return finding.onset, True
    rate = finding.expected / (finding.last - finding.first + 1)
    counts = history.counts_by_minute(finding.tracks, finding.first, finding.last)
    hit = next((place for place, number in enumerate(counts) if number > max(2 * rate, rate + 2)), 0)
    excess = counts[hit] - rate
    if finding.detector in ("silence", "volume_drop"):
        # The minute before was still normal for the share of it that its count is of the usual one.
        left = counts[0]
        normal = history.count(finding.tracks, finding.first - 1, finding.first - 1) - left
        return int((finding.first - 1 + min(1.0, max(0.0, normal) / max(1.0, rate - left))) * MINUTE_NS), False
    if excess <= 0:
        return finding.first * MINUTE_NS, False
    full = max(excess, (counts[hit + 1] - rate) if hit + 1 < len(counts) else excess)
    return int((finding.first + hit + 1 - excess / full) * MINUTE_NS), False


def _is_telling(finding: Finding) -> bool:
    """Says whether the events of a finding tell anything about it: those of a change of volume and of a silence are ordinary ones."""
    return finding.severity >= WARNING or finding.template is not None


def _signed(fingerprint: str) -> int:
    value = int(fingerprint or "0", 16)
    return value - (1 << 64) if value >= 1 << 63 else value
