"""Root causes: which of the nodes of an incident broke first, and which the others' trouble leads to.

Each node with findings is a candidate. Its score has three parts, each 0 to 1:

- onset: exp(-d / 45 s), d being how much later than the first of all candidates it began, by its own strongest findings
  or by those of a candidate that plainly suffers from it;
- upstream: how many of the walks end at it that start at every other candidate and go on to whatever explains its trouble
  (an absorbing Markov chain, in the manner of MonitorRank, Kim et al., SIGMETRICS 2013, and MicroRank, Yu et al., WWW 2021);
- strength: how unlikely its findings are, taken together, new errors counting more than changes of volume.

What explains trouble: A's failing messages name B; A is known to need B; in the transactions that failed in both, B had
trouble first; B is linked with A and began earlier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from services.correlate.findings import Finding
from services.correlate.links import Link, combine
from services.correlate.topology import Node, Topology

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]

MAX_CAUSES = 8
MAX_EVIDENCE = 8
ONSET_SCALE_NS = 45e9
LEAD_SCALE_NS = 5e9
LAG_SCALE_NS = 600e9
TIME_ONLY = 0.3
"""What a link by time alone counts when causes are ranked."""
BLAME_SCALE_NS = 120e9
LEADING = 0.35
"""Share of the others' trouble that must lead to a node before upstream is a whole argument: else it would be made of noise."""
FAINT = 0.1
"""An explanation that is no better than this moves nothing."""
PLAIN = 0.5
"""From here on an explanation is plain enough to count the explained trouble as the first sign of the other's."""
SELF = 0.4
"""Weight with which a node explains its own trouble: the walk ends there unless something better explains it."""
PARTS = (0.4, 0.4, 0.2)
"""Weights of onset, upstream and strength."""
SHARPNESS = 6.0
"""How clearly the better of two causes stands out: the odds of two causes are exp(SHARPNESS x difference of their sums)."""
SOLID = 0.35
"""Score from which a finding may say when a node began."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A candidate root cause."""

    node: Node
    summary: str
    score: float
    onset: float
    upstream: float
    strength: float
    started: int
    """Nanoseconds since 1970."""
    findings: tuple[Finding, ...]
    """Its findings, most telling first."""

    @property
    def evidence(self) -> list[int]:
        """Ids of the events to show: the most telling one, what may have set it off, then the first ones of each finding.

        The events of a change of volume are ordinary ones; they are shown only when there is nothing else.
        """
        telling = [finding for finding in self.findings if finding.template is not None or finding.is_error] or list(self.findings)
        ordered = [telling[0], *(finding for finding in telling if finding.herald), *telling[1:]]
        chosen = dict.fromkeys(finding.evidence[place] for place in range(3) for finding in ordered if place < len(finding.evidence))
        return list(chosen)[:MAX_EVIDENCE]


def rank_causes(findings: Sequence[Finding], links: Sequence[Link], groups: Sequence[Mapping[Node, int]], topology: Topology) -> list[Cause]:
    """Returns the candidates of an incident, best first. `groups` are transactions with the time of first trouble per node."""
    by_node: dict[Node, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_node[finding.node].append(finding)
    nodes = sorted(by_node)
    if not nodes:
        return []
    beginnings = {node: _begin_of(by_node[node]) for node in nodes}
    started = {node: beginnings[node].onset for node in nodes}
    strength = {node: _strength_of(by_node[node]) for node in nodes}
    linked = _link_nodes(by_node, links)
    explained = _explain(nodes, by_node, beginnings, linked, groups, topology)
    upstream = _walk(nodes, explained, strength)
    signs = _first_signs(nodes, explained, started)
    earliest = min(signs.values())
    onset = {node: exp(-(signs[node] - earliest) / ONSET_SCALE_NS) for node in nodes}
    raw = {node: PARTS[0] * onset[node] + PARTS[1] * upstream[node] + PARTS[2] * strength[node] for node in nodes}
    odds = {node: exp(SHARPNESS * raw[node]) for node in nodes}
    total = sum(odds.values())
    ranked = sorted(nodes, key=lambda node: (-raw[node], started[node], node))[:MAX_CAUSES]
    return [
        Cause(
            node=node,
            summary=describe(by_node[node]),
            score=odds[node] / total,
            onset=onset[node],
            upstream=upstream[node],
            strength=strength[node],
            started=started[node],
            findings=tuple(sorted(by_node[node], key=_how_telling)),
        )
        for node in ranked
    ]


def describe(findings: Sequence[Finding]) -> str:
    """Returns what went wrong with a node, in the words of its most telling finding."""
    finding = min(findings, key=_how_telling)
    body = finding.bodies[0].split("\n")[0].strip() if finding.bodies and finding.template is not None else ""
    return f"{body[:160]} ({finding.summary})" if body else f"{finding.summary} ({finding.baseline})"


def _how_telling(finding: Finding) -> tuple[float, int]:
    """Sorts findings of a node: errors of one text before rates and volumes, sure ones before others, of like ones the earlier."""
    kind = 0.0 if finding.template is not None and finding.is_error else 0.15 if finding.template is not None else 0.4
    return kind - round(finding.score, 1), finding.onset


def _begin_of(findings: Sequence[Finding]) -> Finding:
    """Returns the finding that says when a node began: of its templates where they are solid, since rates and volumes only know minutes."""
    solid = [finding for finding in findings if finding.score >= SOLID or finding.herald]
    told = [finding for finding in solid if finding.template is not None]
    return min(told or solid or findings, key=lambda finding: finding.onset)


def _link_nodes(by_node: Mapping[Node, Sequence[Finding]], links: Sequence[Link]) -> dict[tuple[Node, Node], float]:
    """Returns how surely nodes are linked, both ways. That two things began together is little reason to put one down to the other."""
    owner = {finding.id: node for node, findings in by_node.items() for finding in findings}
    weighed = [link if link.rule != "time" else replace(link, confidence=TIME_ONLY * link.confidence) for link in links]
    linked: dict[tuple[Node, Node], float] = defaultdict(float)
    for (first, second), sure in combine(weighed).items():
        one, other = owner.get(first), owner.get(second)
        if one is not None and other is not None and one != other:
            linked[one, other] = linked[other, one] = max(linked[one, other], sure)
    return linked


def _first_signs(nodes: Sequence[Node], explained: Matrix, started: Mapping[Node, int]) -> dict[Node, int]:
    """Returns when each node's trouble first showed, be it in the messages of a node that plainly suffers from it."""
    return {
        node: min([started[node], *(started[victim] for row, victim in enumerate(nodes) if explained[row, column] >= PLAIN)])
        for column, node in enumerate(nodes)
    }


def _strength_of(findings: Sequence[Finding]) -> float:
    doubt = 1.0
    for finding in sorted(findings, key=lambda item: -item.score)[:6]:
        doubt *= 1.0 - 0.7 * finding.score
    return 1.0 - doubt


def _explain(
    nodes: Sequence[Node],
    by_node: Mapping[Node, Sequence[Finding]],
    beginnings: Mapping[Node, Finding],
    linked: Mapping[tuple[Node, Node], float],
    groups: Sequence[Mapping[Node, int]],
    topology: Topology,
) -> Matrix:
    """Returns how well the trouble of each node (row) is explained by that of each other (column)."""
    place = {node: number for number, node in enumerate(nodes)}
    started = {node: beginnings[node].onset for node in nodes}
    exact = {node: beginnings[node].exact for node in nodes}
    before = _count_firsts(groups, place)
    blame = np.array([[_blame(by_node[node], node, other, topology) for other in nodes] for node in nodes])
    explained = np.zeros((len(nodes), len(nodes)))
    for node in nodes:
        for other in nodes:
            if other == node:
                continue
            lead = started[node] - started[other]
            scale = LEAD_SCALE_NS if exact[node] and exact[other] else 4 * LEAD_SCALE_NS
            # What a message says outweighs which log was written first, unless the other's trouble came much later.
            blamed, blames = blame[place[node], place[other]], blame[place[other], place[node]]
            reasons = [
                blamed * exp(min(0.0, lead) / BLAME_SCALE_NS),
                0.8 * _precedence(before, place[other], place[node]) * (1.0 - blames),
                0.7 * linked.get((node, other), 0.0) * (1 - exp(-lead / scale)) * exp(-lead / LAG_SCALE_NS) * (1.0 - blames) if lead > 0 else 0.0,
            ]
            explained[place[node], place[other]] = 1.0 - float(np.prod([1.0 - reason for reason in reasons]))
    # Two nodes that explain each other explain nothing: only the difference counts.
    return np.maximum(0.0, explained - explained.T - FAINT)


def _blame(findings: Sequence[Finding], node: Node, other: Node, topology: Topology) -> float:
    """Returns how much speaks for a node having its trouble from another: its failing messages name it, or it is known to need it."""
    if node == other:
        return 0.0
    named = max((finding.score * min(1.0, 2 * finding.needs.get(other, 0) / finding.sampled) for finding in findings if finding.sampled), default=0.0)
    return 1.0 - (1.0 - 0.85 * named) * (1.0 - 0.6 * topology.need(node, other)[0])


def _count_firsts(groups: Sequence[Mapping[Node, int]], place: Mapping[Node, int]) -> Matrix:
    """Returns in how many transactions one node (row) had trouble before another (column)."""
    before = np.zeros((len(place), len(place)))
    for group in groups:
        times = [(at, place[node]) for node, at in group.items() if node in place]
        for at, one in times:
            for later, other in times:
                if at < later:
                    before[one, other] += 1
    return before


def _precedence(before: Matrix, one: int, other: int) -> float:
    """Returns how clearly one node has trouble before another in the transactions they share: 0 unless mostly so."""
    there, back = before[one, other], before[other, one]
    total = there + back
    return float(max(0.0, (there - back) / total) * total / (total + 2.0)) if total else 0.0


def _walk(nodes: Sequence[Node], explained: Matrix, strength: Mapping[Node, float]) -> dict[Node, float]:
    """Returns how much of the others' trouble leads to each node and no further, relative to the largest (at least LEADING)."""
    out = explained.sum(axis=1)
    stay = SELF / (SELF + out)
    moves = explained / (SELF + out)[:, None]
    ends = np.linalg.inv(np.eye(len(nodes)) - moves) * stay[None, :]
    weight = np.array([strength[node] for node in nodes]) + 1e-6
    from_others = weight @ ends - weight * np.diag(ends)
    share = (from_others / (weight.sum() - weight) if len(nodes) > 1 else np.ones(1)) * np.diag(ends)
    return {node: float(share[number] / max(share.max(), LEADING)) for number, node in enumerate(nodes)}
