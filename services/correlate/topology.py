"""Topology: which service needs which, learned from traces and from who names whom, or declared."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from services.correlate.evidence import Event
from services.correlate.keys import words_of

Node = tuple[str, str]
"""System and service (the source's name where an event names no service)."""
MAX_READ = 100
"""Events of a block whose text is searched for names."""
_SHORT = 100
"""Characters of a value whose words are remembered."""
_WORDS = re.compile(r"[a-z]+")
_FULL_WEIGHT = 5.0
"""Observations after which a learned dependency is as good as certain."""
_CALLERS = {"client", "user", "origin", "from"}
"""What stands before the name of somebody who called …"""
_READS = {
    "read",
    "reading",
    "recv",
    "receive",
    "received",
    "fetch",
    "fetching",
    "load",
    "loading",
    "response",
    "answer",
    "reply",
    "header",
    "data",
    "copy",
    "pull",
}
"""… unless these stand before "from": then the name is that of somebody who was called."""
_SECONDS_PER_UNIT = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
_DURATION_NAMES = {"request_time": 1.0, "upstream_response_time": 1.0, "duration": 0.0, "elapsed": 0.0, "latency": 0.0, "took": 0.0, "response_time": 0.0}


def node_of(event: Event) -> Node:
    """Returns the node that an event belongs to."""
    return event.system, event.service or event.source


@dataclass(frozen=True, slots=True)
class Names:
    """What names a node: its host, its service, its source. Words are lower case."""

    nodes: dict[str, set[Node]]

    @classmethod
    def collect(cls, rows: Iterable[tuple[Node, str, str]]) -> Names:
        """Builds the names from (node, source, host) as they occur together."""
        names = cls({})
        names.extend(rows)
        return names

    def extend(self, rows: Iterable[tuple[Node, str, str]]) -> None:
        """Adds names from (node, source, host)."""
        for node, source, host in rows:
            for word in (node[1], source, host, host.partition(".")[0]):
                if len(word) >= 4:
                    self.nodes.setdefault(word.lower(), set()).add(node)

    def named_in(self, event: Event) -> set[Node]:
        """Returns the nodes that an event names as something it needs: not itself, its own host, or who called."""
        own = {event.host.lower(), event.host.partition(".")[0].lower(), event.service.lower(), event.source.lower()}
        values = [value for value in event.attributes.values() if isinstance(value, str)]
        found: set[Node] = set()
        # Values of attributes come again and again; bodies do not.
        for text, said in [
            (event.body, words_of(event.body)),
            *((value, _words_of_value(value) if len(value) <= _SHORT else words_of(value)) for value in values),
        ]:
            for word in said:
                if word in self.nodes and word not in own and not _names_caller(text.lower(), word):
                    found |= self.nodes[word]
        found.discard(node_of(event))
        return found


@lru_cache(4096)
def _words_of_value(value: str) -> set[str]:
    return words_of(value)


def _names_caller(text: str, word: str) -> bool:
    before = ["", "", *_WORDS.findall(text[: text.find(word)][-60:])]
    return before[-1] in _CALLERS and not (before[-1] == "from" and before[-2] in _READS)


class Topology:
    """Dependencies between nodes with what showed them. `weights` maps (caller, callee, origin) to a count."""

    def __init__(self, declared: Sequence[tuple[str, str]] = ()) -> None:
        self._declared = {(caller.lower(), callee.lower()) for caller, callee in declared}
        self.weights: dict[tuple[Node, Node, str], float] = {}
        self.changed: set[tuple[Node, Node, str]] = set()

    def learn(self, traced: Iterable[Event], sampled: Iterable[Event], names: Names) -> None:
        """Learns from events of normal operation and of faults alike: calls from those with a trace, needs from what a sample of them names."""
        by_trace: dict[str, list[Event]] = defaultdict(list)
        for event in traced:
            by_trace[event.trace_id].append(event)
        for event in sampled:
            for node in names.named_in(event):
                self._count(node_of(event), node, "mention", 0.2)
        for spans in by_trace.values():
            for caller, callee in infer_calls(spans):
                self._count(caller, callee, "trace", 1.0)

    def need(self, caller: Node, callee: Node) -> tuple[float, str]:
        """Returns how sure it is that one node needs another (0 to 1), and how that is known."""
        if (caller[1].lower(), callee[1].lower()) in self._declared:
            return 1.0, "declared"
        best, origin = 0.0, ""
        for kind, limit in (("trace", 0.9), ("mention", 0.7)):
            there = self.weights.get((caller, callee, kind), 0.0)
            back = self.weights.get((callee, caller, kind), 0.0)
            if there > back:
                sure = limit * min(1.0, (there - back) / _FULL_WEIGHT) * (there - back) / (there + back)
                if sure > best:
                    best, origin = sure, kind
        return best, origin

    def _count(self, caller: Node, callee: Node, origin: str, weight: float) -> None:
        key = (caller, callee, origin)
        self.weights[key] = min(self.weights.get(key, 0.0) + weight, 1e6)
        self.changed.add(key)


def infer_calls(spans: Sequence[Event]) -> set[tuple[Node, Node]]:
    """Returns who called whom within one trace: by parent spans where events have them, else by whose time holds whose.

    A node's time in a trace runs from its first event (less the duration that the event reports) to its last.
    """
    owner = {event.span_id: node_of(event) for event in spans if event.span_id}
    calls: set[tuple[Node, Node]] = set()
    times: dict[Node, tuple[float, float]] = {}
    for event in spans:
        node = node_of(event)
        parent = event.attributes.get("parent_span_id") or event.attributes.get("parentSpanId")
        if isinstance(parent, str) and owner.get(parent, node) != node:
            calls.add((owner[parent], node))
        start = event.timestamp - duration_ns(event.attributes)
        first, last = times.get(node, (start, event.timestamp))
        times[node] = (min(first, start), max(last, event.timestamp))
    if calls:
        return calls
    for outer, (begin, end) in times.items():
        for inner, (first, last) in times.items():
            if outer != inner and begin < first and last < end:
                calls.add((outer, inner))
    return calls


def duration_ns(attributes: dict[str, Any]) -> int:
    """Returns the duration that attributes report, in nanoseconds; 0 when none does or its unit is not clear."""
    for name, value in attributes.items():
        if isinstance(value, bool):
            continue
        stem, _, unit = name.lower().rpartition("_")
        known = _DURATION_NAMES.get(name.lower(), 0.0)
        factor = _SECONDS_PER_UNIT.get(unit, 0.0) if stem in _DURATION_NAMES else known
        if factor:
            try:
                return int(float(value) * factor * 1e9)
            except (TypeError, ValueError):
                continue
    return 0
