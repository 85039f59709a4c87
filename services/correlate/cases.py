"""Cases: incidents while they are open, and how findings become incidents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from kit.rows import uuid7
from services.correlate.causes import SOLID, Cause, rank_causes
from services.correlate.findings import MINUTE_NS, Finding, FindingBook
from services.correlate.links import Link, Linker, combine, group_findings
from services.correlate.samples import Samples
from services.correlate.topology import Node, Topology

AFTER = 15
"""Minutes after the last finding of an incident in which others may still join it."""
MAX_FINDINGS = 300
"""Findings of one incident; further ones stay outside."""
STRONG = 0.5
"""Score of a finding that counts towards opening an incident."""
VERY_STRONG = 0.85
FATAL = 21
LEAST_ERRORS = 4
"""Errors that a finding must be about to count."""
LASTING = 3
"""Minutes that a fault of a single service must last before it is an incident."""


@dataclass(slots=True, eq=False)
class Case:
    """An open incident."""

    id: UUID
    findings: list[Finding]
    opened_minute: int
    acknowledged: bool = False
    causes: list[Cause] = field(default_factory=list)
    merged: list[UUID] = field(default_factory=list)
    """Incidents that this one took in and that are not stored as such yet."""
    joined: list[Finding] = field(default_factory=list)
    """Findings that are not stored as belonging to it yet."""
    is_new: bool = False
    searched: set[Node] = field(default_factory=set)
    """Nodes for which heralds were looked for."""

    @property
    def started(self) -> int:
        """Onset of the first finding, in nanoseconds since 1970."""
        return min((finding.onset for finding in self.findings), default=self.opened_minute * MINUTE_NS)

    @property
    def last(self) -> int:
        """Minute of the last finding's end."""
        return max((finding.last for finding in self.findings), default=self.opened_minute)

    @property
    def severity(self) -> str:
        """critical: a fatal error, or three systems; major: more than one service; minor: one."""
        errors = [finding for finding in self.findings if finding.is_error]
        if any(finding.severity >= FATAL for finding in errors) or len({finding.system for finding in errors}) >= 3:
            return "critical"
        return "major" if len({finding.node for finding in errors}) > 1 else "minor"

    @property
    def title(self) -> str:
        """What the best cause says, and how far it reaches."""
        best = self.causes[0]
        services = len({finding.node for finding in self.findings})
        systems = len({finding.system for finding in self.findings})
        reach = f"{systems} systems affected" if systems > 1 else f"{services} services affected" if services > 1 else ""
        words = best.summary.rpartition(" (")[0] or best.summary
        return f"{best.node[1]}: {words[:140]}" + (f"; {reach}" if reach else "")


class CaseBook:
    """The open incidents, the findings outside of them, and the links between findings. Knows no database."""

    def __init__(self, samples: Samples, topology: Topology, linker: Linker) -> None:
        self._samples = samples
        self._topology = topology
        self._linker = linker
        self.cases: dict[UUID, Case] = {}
        self.loose: dict[UUID, Finding] = {}
        self.links: dict[tuple[UUID, UUID, str], Link] = {}

    def findings(self) -> list[Finding]:
        """Returns every finding that may be linked: those outside and those of open incidents."""
        return [*self.loose.values(), *(finding for case in self.cases.values() for finding in case.findings)]

    def close(self, case: Case, book: FindingBook) -> None:
        """Ends a case whose incident was resolved: it absorbs nothing any more."""
        del self.cases[case.id]
        for finding in case.findings:
            book.freeze(finding)

    def assemble(self, changed: Sequence[Finding], minute: int) -> tuple[list[Case], list[Link]]:
        """Links changed findings, opens, extends and merges cases; returns the cases that changed and the links that are new or surer."""
        for finding in changed:
            if finding.incident is None:
                self.loose[finding.id] = finding
        links = self._note(self._linker.link(self.findings(), changed))
        confidence = combine(list(self.links.values()))
        touched: dict[UUID, Case] = {}
        for group in group_findings(self._candidates(minute), confidence):
            case = self._settle(group, minute)
            if case is not None and (case.joined or case.merged or any(finding in changed for finding in group)):
                touched[case.id] = case
        for case in touched.values():
            case.causes = self._rank(case)
        return list(touched.values()), links

    def add(self, case: Case, findings: Sequence[Finding]) -> None:
        """Puts findings into a case without asking for links, and ranks its causes anew."""
        self._move(case, findings)
        case.causes = self._rank(case)

    def forget(self, minute: int) -> None:
        """Drops findings that can no longer become part of an incident, and links that lead to nothing."""
        self.loose = {key: finding for key, finding in self.loose.items() if finding.last >= minute - 2 * AFTER}
        alive = {finding.id for finding in self.findings()}
        self.links = {key: link for key, link in self.links.items() if link.first in alive and link.second in alive}

    def _note(self, links: Sequence[Link]) -> list[Link]:
        fresh = []
        for link in links:
            pair = (link.first, link.second) if (link.second, link.first, link.rule) not in self.links else (link.second, link.first)
            known = self.links.get((*pair, link.rule))
            if known is None or abs(known.confidence - link.confidence) >= 0.02:
                noted = Link(*pair, link.rule, link.detail, link.confidence, link.evidence)
                self.links[(*pair, link.rule)] = noted
                fresh.append(noted)
        return fresh

    def _candidates(self, minute: int) -> list[Finding]:
        ended = [finding for case in self.cases.values() if case.last < minute - AFTER for finding in case.findings]
        late = {finding.id for finding in ended}
        return [finding for finding in self.findings() if finding.id not in late]

    def _settle(self, group: Sequence[Finding], minute: int) -> Case | None:
        """Gives a group of linked findings its case: the oldest that is among them, else a new one if it is serious."""
        ids = {finding.incident for finding in group if finding.incident is not None}
        cases = sorted((self.cases[case_id] for case_id in ids), key=lambda case: (case.opened_minute, case.id))
        outside = [finding for finding in group if finding.incident is None]
        if not cases:
            if not is_serious(outside):
                return None
            case = Case(uuid7(), [], minute, is_new=True)
            self.cases[case.id] = case
        else:
            case = cases[0]
        for other in cases[1:]:
            case.merged += [*([] if other.is_new else [other.id]), *other.merged]
            self._move(case, other.findings)
            del self.cases[other.id]
        self._move(case, outside[: max(0, MAX_FINDINGS - len(case.findings))])
        return case

    def _move(self, case: Case, findings: Sequence[Finding]) -> None:
        for finding in list(findings):
            self.loose.pop(finding.id, None)
            finding.incident = case.id
            case.findings.append(finding)
            case.joined.append(finding)

    def _rank(self, case: Case) -> list[Cause]:
        begun = case.started - 2 * MINUTE_NS
        groups = [group for group in self._samples.groups.values() if len(group) > 1 and min(group.values()) >= begun]
        return rank_causes(case.findings, list(self.links.values()), groups, self._topology)


def is_serious(findings: Sequence[Finding]) -> bool:
    """Says whether linked findings are an incident: errors, more than once, in more than one place or for long enough.

    Several services with errors are, when those of one are strong. One service alone is when errors of several kinds
    last, when errors that cannot be chance come with a change of what the service does, or when they are fatal.
    """
    errors = [finding for finding in findings if finding.is_error and finding.observed >= LEAST_ERRORS]
    strong = [finding for finding in errors if finding.score >= STRONG]
    if not strong:
        return False
    very_strong = any(finding.score >= VERY_STRONG for finding in strong)
    if len({finding.node for finding in strong}) >= 2 or (very_strong and len({finding.node for finding in errors if finding.score >= SOLID}) >= 2):
        return True
    lasting = max(finding.last for finding in strong) - min(finding.first for finding in strong) + 1 >= LASTING
    kinds = {finding.template for finding in strong if finding.template is not None}
    changed = any(finding.detector in ("volume_drop", "silence") for finding in findings)
    fatal = any(finding.severity >= FATAL for finding in strong)
    return lasting and very_strong and (len(kinds) >= 2 or changed or fatal)
