"""Links: why two findings belong together. Each rule says what it saw and how sure that makes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp
from uuid import UUID

from services.correlate.findings import MINUTE_NS, Finding
from services.correlate.samples import Samples
from services.correlate.scene import WARNING
from services.correlate.topology import Topology

TOGETHER = 0.5
"""Confidence from which two findings belong to one incident."""
HORIZON_NS = 20 * MINUTE_NS
"""Findings whose onsets lie further apart and that did not overlap are not compared."""
TIME_SCALE_NS = 240e9
STRONG_WARNING = 0.7
SAME_NODE = 0.9
FAMILIAR_MINUTES = 5
"""Phrases that were about so long before a finding link nothing."""
MAX_PARTNERS = 60
"""Findings that one finding is compared with, nearest onset first."""


@dataclass(frozen=True, slots=True)
class Link:
    """Why two findings belong together; `first` has the earlier onset."""

    first: UUID
    second: UUID
    rule: str
    detail: str
    confidence: float
    evidence: tuple[int, ...] = ()


class Linker:
    """Compares findings."""

    def __init__(self, samples: Samples, topology: Topology) -> None:
        self._samples = samples
        self._topology = topology
        self._phrases: dict[str, int] = {}

    def learn_phrases(self, found: Iterable[str], minute: int) -> None:
        """Notes phrases of a template and the minute in which it was first seen."""
        for phrase in found:
            self._phrases[phrase] = min(minute, self._phrases.get(phrase, minute))

    def link(self, findings: Sequence[Finding], changed: Sequence[Finding]) -> list[Link]:
        """Returns the links of changed findings with all others."""
        fresh = {finding.id for finding in changed}
        links = []
        for finding in changed:
            others = [other for other in findings if other is not finding and (other.id not in fresh or other.id < finding.id)]
            others.sort(key=lambda other: abs(other.onset - finding.onset))
            for other in others[:MAX_PARTNERS]:
                if _are_near(finding, other):
                    links += self.compare(finding, other)
        return links

    def compare(self, one: Finding, other: Finding) -> list[Link]:
        """Returns every link between two findings."""
        first, second = (one, other) if one.onset <= other.onset else (other, one)
        found = [self._by_keys(first, second, "trace:", "trace"), self._by_keys(first, second, "", "key")]
        found += [self._by_phrase(first, second), self._by_topology(first, second), _by_time(first, second)]
        return [link for link in found if link is not None]

    def _by_keys(self, first: Finding, second: Finding, prefix: str, rule: str) -> Link | None:
        shared = [key for key in first.keys.keys() & second.keys.keys() if key.startswith("trace:") == bool(prefix)]
        if not shared or first.node == second.node:
            return None
        specific = set(shared) & self._samples.specific_keys(first) & self._samples.specific_keys(second)
        about = set(shared) & self._samples.telling_constants(first) & self._samples.telling_constants(second) - specific
        others = len(shared) - len(specific) - len(about)
        # Two transactions that failed in both are as good as proof. That both are about one thing (an address, a
        # user) and ordinary life is not, is a reason; what is always about only hints.
        doubt = 0.25 ** min(len(specific), 3) * 0.5 ** min(len(about), 2) * 0.75 ** min(others, 2)
        best = sorted(shared, key=lambda key: (key not in specific, key not in about, key))[:3]
        detail = ", ".join(key.replace(":", " ", 1) for key in best) + (f" and {len(shared) - 3} more" if len(shared) > 3 else "")
        evidence = [finding.keys[key] for key in best for finding in (first, second)]
        return Link(first.id, second.id, rule, detail, round(1 - doubt, 3), tuple(dict.fromkeys(evidence)))

    def _by_phrase(self, first: Finding, second: Finding) -> Link | None:
        began = first.first - FAMILIAR_MINUTES
        shared = [phrase for phrase in first.phrases & second.phrases if self._phrases.get(phrase, began) >= began]
        if not shared or first.node == second.node or (first.system == second.system and first.template == second.template):
            return None
        longest = max(shared, key=lambda phrase: (len(phrase), phrase))
        evidence = (*first.evidence[:1], *second.evidence[:1])
        return Link(first.id, second.id, "key", f"both say “{longest}”", 0.6 if len(shared) > 1 else 0.45, evidence)

    def _by_topology(self, first: Finding, second: Finding) -> Link | None:
        if first.node == second.node:
            apart = 0 if second.first <= first.last + 1 else abs(second.onset - first.onset)
            return Link(first.id, second.id, "topology", f"both in {first.node[1]}", round(SAME_NODE * exp(-apart / (2 * TIME_SCALE_NS)), 3))
        best, detail = 0.0, ""
        for caller, callee in ((first, second), (second, first)):
            sure, origin = self._topology.need(caller.node, callee.node)
            named = caller.needs.get(callee.node, 0)
            if named and caller.sampled:
                blamed = 0.7 * min(1.0, 2 * named / caller.sampled)
                if blamed > sure:
                    sure, origin = blamed, "its messages name it"
            if sure > best:
                best, detail = sure, f"{caller.node[1]} needs {callee.node[1]} ({origin})"
        if best < 0.1:
            return None
        # A dependency alone is no evidence that both broke for one reason: only near in time it is.
        nearness = exp(-abs(first.onset - second.onset) / (2 * TIME_SCALE_NS))
        return Link(first.id, second.id, "topology", detail, round(0.8 * best * nearness, 3))


def _by_time(first: Finding, second: Finding) -> Link | None:
    seconds = abs(first.onset - second.onset) / 1e9
    most = 0.55 if _is_telling(first) and _is_telling(second) else 0.4
    confidence = most * exp(-abs(first.onset - second.onset) / TIME_SCALE_NS)
    if confidence < 0.1:
        return None
    return Link(first.id, second.id, "time", f"{seconds:.0f} s apart", round(confidence, 3))


def _is_telling(finding: Finding) -> bool:
    """Says whether a finding is about errors, or about strong and new warnings: what rarely happens at the same time by chance."""
    return finding.is_error or (finding.severity >= WARNING and finding.template is not None and finding.score >= STRONG_WARNING)


def _are_near(one: Finding, other: Finding) -> bool:
    if abs(one.onset - other.onset) <= HORIZON_NS:
        return True
    return one.first <= other.last and other.first <= one.last


def combine(links: Sequence[Link]) -> dict[tuple[UUID, UUID], float]:
    """Returns the confidence of each linked pair: the chance that not every link of the pair is a coincidence."""
    doubt: dict[tuple[UUID, UUID], float] = {}
    for link in links:
        pair = (link.first, link.second)
        doubt[pair] = doubt.get(pair, 1.0) * (1.0 - link.confidence)
    return {pair: 1.0 - value for pair, value in doubt.items()}


def group_findings(findings: Sequence[Finding], confidence: dict[tuple[UUID, UUID], float]) -> list[list[Finding]]:
    """Returns the findings grouped by links that are sure enough, transitively; the earliest onset first."""
    leader = {finding.id: finding.id for finding in findings}

    def find(node: UUID) -> UUID:
        while leader[node] != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for (first, second), sure in confidence.items():
        if sure >= TOGETHER and first in leader and second in leader:
            leader[find(first)] = find(second)
    groups: dict[UUID, list[Finding]] = {}
    for finding in sorted(findings, key=lambda item: (item.onset, item.id)):
        groups.setdefault(find(finding.id), []).append(finding)
    return list(groups.values())
