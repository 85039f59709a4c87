"""Findings: observations of one subject, minute after minute, joined into one episode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from kit.rows import uuid7
from services.correlate.baselines import to_score
from services.correlate.detectors.base import Observation
from services.correlate.history import History
from services.correlate.scene import ERROR, WARNING, Track
from services.correlate.topology import Node

MINUTE_NS = 60_000_000_000
MAX_EVIDENCE = 10
MOST = 0.6
PAUSE = 5
"""Minutes without an observation after which the next one begins a new finding."""
MAX_PER_SERVICE = 15
"""Findings of one service that may go on at a time; further ones are left out, weakest first."""

Subject = tuple[str, str, str, str, int | None, int]
"""Detector, system, source, service, template, level (2 error, 1 warning, 0 below)."""


@dataclass(slots=True, eq=False)
class Finding:
    """One episode of something unusual."""

    id: UUID
    detector: str
    system: str
    source: str
    service: str
    template: int | None
    severity: int
    first: int
    last: int
    """Minutes, both included."""
    onset: int
    """Nanoseconds since 1970."""
    expected: float
    observed: float
    surprise: float
    weight: float
    baseline: str
    summary: str
    tracks: set[Track] = field(default_factory=set)
    evidence: list[int] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
    """Keys of sampled events to an event that has them."""
    key_counts: Counter[str] = field(default_factory=Counter)
    """How many of the sampled events have each of the keys."""
    phrases: set[str] = field(default_factory=set)
    bodies: list[str] = field(default_factory=list)
    """Bodies of the first evidence."""
    needs: dict[Node, int] = field(default_factory=dict)
    """Nodes that its events name, to how many did."""
    sampled: int = 0
    """Events that were looked at for keys."""
    exact: bool = False
    """Whether the onset is that of an event, not of a minute."""
    herald: bool = False
    """A message that was never seen before and came just before the trouble of its service: perhaps what set it off."""
    incident: UUID | None = None

    @property
    def score(self) -> float:
        """0 to 1: how unlikely it is, and how much its kind means."""
        return round(self.weight * to_score(self.surprise), 4)

    @property
    def node(self) -> Node:
        """The node that it is about."""
        return self.system, self.service or self.source

    @property
    def is_error(self) -> bool:
        """Whether errors were counted."""
        return self.severity >= ERROR

    @property
    def constants(self) -> set[str]:
        """Keys that most of its events have: what it is about."""
        return {key for key, number in self.key_counts.items() if self.sampled >= 2 and number >= MOST * self.sampled}

    @property
    def severities(self) -> tuple[int, int]:
        """Least and greatest severity of the events that it is about."""
        if self.severity >= ERROR:
            return ERROR, 24
        if self.severity >= WARNING:
            return WARNING, ERROR - 1
        return 0, 24 if self.template is None else WARNING - 1

    @property
    def subject(self) -> Subject:
        """What makes two observations the same finding."""
        return subject_of(self)


def subject_of(item: Observation | Finding) -> Subject:
    """Returns the subject of an observation or finding."""
    level = 2 if item.severity >= ERROR else 1 if item.severity >= WARNING else 0
    return item.detector, item.system, item.source if item.template is not None else "", item.service, item.template, level


class FindingBook:
    """The findings that are going on. `frozen` subjects stay closed up to a minute: their incident was resolved."""

    def __init__(self) -> None:
        self._current: dict[Subject, Finding] = {}
        self._frozen: dict[Subject, int] = {}

    def restore(self, findings: Iterable[Finding]) -> None:
        """Takes up findings of before."""
        for finding in findings:
            known = self._current.get(finding.subject)
            if known is None or known.last < finding.last:
                self._current[finding.subject] = finding

    def current(self) -> list[Finding]:
        """Returns the findings that may be continued."""
        return list(self._current.values())

    def index(self) -> None:
        """Finds the subjects anew after templates were merged; of two findings that became one the earlier goes on."""
        findings = sorted(self._current.values(), key=lambda finding: finding.first, reverse=True)
        self._current = {finding.subject: finding for finding in findings}

    def freeze(self, finding: Finding) -> None:
        """Ends a finding: what comes after is another one."""
        if self._current.get(finding.subject) is finding:
            del self._current[finding.subject]
        self._frozen[finding.subject] = finding.last + 1

    def absorb(self, observations: Sequence[Observation], history: History) -> list[Finding]:
        """Joins observations to the findings they continue, begins new ones; returns those that changed."""
        changed = []
        busy: dict[Node, int] = {}
        for observation in sorted(observations, key=lambda item: -item.surprise * item.weight):
            subject = subject_of(observation)
            if observation.last <= self._frozen.get(subject, observation.last - 1):
                continue
            finding = self._current.get(subject)
            if finding is None or observation.first > finding.last + PAUSE:
                node = (observation.system, observation.service or observation.source)
                busy[node] = busy.get(node, self._count_current(node, observation.first))
                if busy[node] >= MAX_PER_SERVICE:
                    continue
                busy[node] += 1
                finding = self._current[subject] = _begin(observation)
                self._frozen.pop(subject, None)
            elif observation.last > finding.last or observation.surprise > finding.surprise or observation.first < finding.first:
                _continue(finding, observation, history)
            else:
                continue
            changed.append(finding)
        return changed

    def forget(self, before: int) -> None:
        """Drops findings that ended before a minute."""
        self._current = {subject: finding for subject, finding in self._current.items() if finding.last >= before}
        self._frozen = {subject: minute for subject, minute in self._frozen.items() if minute >= before}

    def _count_current(self, node: Node, minute: int) -> int:
        return sum(finding.node == node and finding.last + PAUSE >= minute for finding in self._current.values())


def choose_evidence(finding: Finding, history: History) -> list[int]:
    """Returns ids of events that prove a finding: the first of all, then the first of each minute, track and host."""
    if len(finding.evidence) >= MAX_EVIDENCE:
        return finding.evidence[:MAX_EVIDENCE]
    known = set(finding.evidence)
    chosen = list(finding.evidence)
    events = history.events_of(finding.tracks, finding.first, finding.last)
    seen: set[tuple[int, Track]] = set()
    for minute, track, event in events:
        if event not in known and (minute, track) not in seen:
            seen.add((minute, track))
            known.add(event)
            chosen.append(event)
    chosen += [event for _, _, event in events if event not in known]
    return chosen[:MAX_EVIDENCE]


def _begin(observation: Observation) -> Finding:
    return Finding(
        id=uuid7(),
        detector=observation.detector,
        system=observation.system,
        source=observation.source,
        service=observation.service,
        template=observation.template,
        severity=observation.severity,
        first=observation.first,
        last=observation.last,
        onset=observation.first * MINUTE_NS,
        expected=observation.expected,
        observed=observation.observed,
        surprise=observation.surprise,
        weight=observation.weight,
        baseline=observation.baseline,
        summary=observation.summary,
        tracks=set(observation.tracks),
    )


def _continue(finding: Finding, observation: Observation, history: History) -> None:
    per_minute = observation.expected / (observation.last - observation.first + 1)
    if observation.first < finding.first:
        finding.first = observation.first
        finding.exact = False
    finding.last = max(finding.last, observation.last)
    finding.tracks.update(observation.tracks)
    finding.severity = max(finding.severity, observation.severity)
    if observation.surprise > finding.surprise:
        finding.surprise = observation.surprise
        finding.summary = observation.summary
        finding.baseline = observation.baseline
    minutes = finding.last - finding.first + 1
    finding.expected = per_minute * minutes
    finding.observed = max(finding.observed, float(history.count(finding.tracks, finding.first, finding.last)))
