"""Analysis: judges minute after minute and keeps what follows from it. Knows neither database nor feed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import structlog

from services.correlate.cases import AFTER, Case, CaseBook
from services.correlate.detectors import DETECTORS
from services.correlate.detectors.base import Observation
from services.correlate.evidence import decode_line
from services.correlate.findings import Finding, FindingBook
from services.correlate.heralds import find_heralds, tracks_of
from services.correlate.history import History
from services.correlate.keys import phrases
from services.correlate.links import Link, Linker
from services.correlate.rollups import ORDINAL_BITS
from services.correlate.samples import Reader, Samples
from services.correlate.topology import Names, Topology

log = structlog.get_logger()

NORMAL_BLOCKS = 3
"""Blocks of normal operation that are read in a round, to learn the topology."""


class Seasons(Protocol):
    """What was usual at this time of the day and week; knows more than the recent past."""

    async def sift(self, observations: Sequence[Observation]) -> list[Observation]:
        """Returns the observations of a minute the like of which has not happened at this time before."""
        ...


class NoSeasons:
    """For a history that is shorter than a day: explains nothing."""

    async def sift(self, observations: Sequence[Observation]) -> list[Observation]:
        """Returns all of them."""
        return list(observations)


@dataclass(frozen=True, slots=True)
class Round:
    """What came of judging some minutes."""

    minute: int
    findings: Sequence[Finding]
    """New and changed ones."""
    cases: Sequence[Case]
    links: Sequence[Link]
    lines: Mapping[int, bytes]
    """Canonical lines of new evidence, by event id."""


class Analyst:
    """Everything between counts and incidents. One per process that holds the lease; not safe for concurrent use."""

    def __init__(self, history: History, reader: Reader, topology: Topology, seasons: Seasons | None = None) -> None:
        self.history = history
        self.topology = topology
        self.samples = Samples(reader, topology)
        self.linker = Linker(self.samples, topology)
        self.findings = FindingBook()
        self.cases = CaseBook(self.samples, topology, self.linker)
        self.templates: dict[int, int] = {}
        """Fingerprint to template, where they differ."""
        self.names = Names({})
        self._reader = reader
        self._seasons: Seasons = seasons or NoSeasons()

    def learn_template(self, text: str, first_minute: int) -> None:
        """Notes what a template says and since when: what was always said links nothing."""
        self.linker.learn_phrases(phrases(text), first_minute)

    def merge_templates(self, moved: Mapping[int, int], mapping: Mapping[int, int]) -> None:
        """Follows a revision of the templates; `mapping` is that of all fingerprints."""
        self.templates.update(mapping)
        self.history.merge_templates(moved)
        for finding in (*self.findings.current(), *self.cases.findings()):
            if finding.template is not None:
                finding.template = moved.get(finding.template, finding.template)
            finding.tracks = {track._replace(template=moved.get(track.template, track.template)) for track in finding.tracks}
        self.findings.index()

    def mask_findings(self) -> None:
        """Keeps what is known to be unusual out of the baseline, after the history was read back."""
        for finding in (*self.findings.current(), *self.cases.findings()):
            if not finding.tracks:
                least, most = finding.severities
                finding.tracks = self.history.tracks_of(finding.node, finding.template, least, most)
            self.history.mask(finding.tracks, finding.first, finding.last)

    async def judge(self, minutes: Iterable[int]) -> Round:
        """Judges minutes in order of time and assembles what was found in them."""
        changed: dict[object, Finding] = {}
        minute, ahead = -1, list(minutes)
        while ahead:
            passed, observations = await asyncio.to_thread(self._observe, ahead)
            minute, ahead = ahead[passed - 1], ahead[passed:]
            observations = await self._seasons.sift(observations)
            for observation in observations:
                self.history.mask(observation.tracks, observation.first, observation.last)
            for finding in self.findings.absorb(observations, self.history):
                changed[finding.id] = finding
        findings = list(changed.values())
        await self._learn_normal(minute)
        await self.samples.study(findings, self._current(findings), self.history, self.names, self.templates)
        cases, links = self.cases.assemble(findings, minute)
        for case in cases:
            await self._add_heralds(case)
        self.findings.forget(minute - 4 * AFTER)
        self.cases.forget(minute)
        return Round(minute, findings, cases, links, self.samples.lines)

    async def _add_heralds(self, case: Case) -> None:
        """Looks once for what may have set off the trouble of each service in a case."""
        found = []
        for cause in case.causes:
            if cause.node not in case.searched:
                case.searched.add(cause.node)
                heralds, lines = await find_heralds(cause.node, cause.started, tracks_of(case.findings), self.history, self._reader)
                self.samples.lines.update((decode_line(line).event_id, line) for line in lines)
                found += heralds
        if found:
            self.cases.add(case, found)

    def _observe(self, minutes: Sequence[int]) -> tuple[int, list[Observation]]:
        """Looks at minutes up to the first in which there is anything; returns how many those were, and what there is."""
        for number, minute in enumerate(minutes, 1):
            scene = self.history.scene(minute)
            observations = [observation for detector in DETECTORS.values() for observation in detector.examine(scene)]
            if observations:
                return number, observations
        return len(minutes), []

    def _current(self, changed: Sequence[Finding]) -> list[Finding]:
        known = {finding.id: finding for finding in (*self.cases.findings(), *changed)}
        return list(known.values())

    async def _learn_normal(self, minute: int) -> None:
        blocks = dict.fromkeys(event >> ORDINAL_BITS for event in self.history.first_events(minute))
        await self.samples.learn_normal(islice(blocks, NORMAL_BLOCKS), self.names)
