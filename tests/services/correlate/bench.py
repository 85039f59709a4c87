"""The bench: plays stories through the analysis alone, minute by minute, and compares with what was planted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import zstandard

from elis.ingest.v1 import ingest_pb2 as pb
from services.correlate.analysis import Analyst
from services.correlate.cases import Case
from services.correlate.dimensions import to_signed
from services.correlate.findings import Finding
from services.correlate.history import Counted, History
from services.correlate.miner import Miner
from services.correlate.scene import Track
from services.correlate.topology import Names, Topology


class BlockReader:
    """Reads from blocks in memory."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[bytes]] = {}

    def add(self, block: pb.Block) -> None:
        self._blocks[block.id] = zstandard.decompress(block.lines).splitlines()

    async def read_events(self, ids: Sequence[int]) -> list[bytes]:
        return [self._blocks[number >> 20][number & 0xFFFFF] for number in ids]

    async def read_block(self, block_id: int) -> list[bytes]:
        return self._blocks[block_id]


@dataclass
class Verdict:
    """What the analysis made of a story."""

    cases: list[Case] = field(default_factory=list)
    findings: dict[object, Finding] = field(default_factory=dict)
    opened_at: list[int] = field(default_factory=list)

    def rank_of(self, system: str, service: str = "") -> int:
        """Returns the rank of the first cause of that system (and service) in the first case; 99 when it is not there."""
        for rank, cause in enumerate(self.cases[0].causes if self.cases else [], 1):
            if cause.node[0] == system and (not service or cause.node[1] == service):
                return rank
        return 99


async def analyse(blocks: Iterable[pb.Block], *, mine: bool = True) -> Verdict:
    """Takes blocks in the order of their events; judges each minute once a later one has come."""
    reader = BlockReader()
    analyst = Analyst(History(400), reader, Topology())
    miner = Miner()
    verdict = Verdict()
    hosts: set[tuple[Track, str]] = set()
    counted: dict[int, dict[tuple[Track, str], tuple[int, int]]] = defaultdict(dict)
    seen_cases: set[object] = set()

    async def close(minutes: Sequence[int]) -> None:
        for minute in minutes:
            rows = counted.pop(minute)
            analyst.history.put(minute, [Counted(_mapped(track, analyst), number, first) for (track, _), (number, first) in rows.items()])
        analyst.names = Names.collect(((track.system, track.service or track.source), track.source, host) for track, host in hosts)
        result = await analyst.judge(minutes)
        for finding in result.findings:
            verdict.findings[finding.id] = finding
        for case in result.cases:
            if case.id not in seen_cases:
                seen_cases.add(case.id)
                verdict.opened_at.append(result.minute)
            case.is_new = False
            case.joined.clear()
        verdict.cases = list(analyst.cases.cases.values())

    newest = None
    for block in blocks:
        reader.add(block)
        for fingerprint, text in zip(block.summary.fingerprints, block.summary.templates, strict=True):
            if mine:
                miner.add(to_signed(fingerprint), text)
                analyst.learn_template(text, min(block.summary.minute))
        minutes = sorted(set(block.summary.minute))
        _count(block, counted, hosts)
        if newest is None:
            newest = minutes[0]
        if minutes[-1] > newest:
            if mine:
                analyst.merge_templates(miner.revise(), miner.mapping)
            await close([minute for minute in sorted(counted) if minute < minutes[-1]])
            newest = minutes[-1]
    await close(sorted(counted))
    return verdict


def _mapped(track: Track, analyst: Analyst) -> Track:
    return track._replace(template=analyst.templates.get(track.template, track.template))


def _count(block: pb.Block, counted: dict[int, dict[tuple[Track, str], tuple[int, int]]], hosts: set[tuple[Track, str]]) -> None:
    summary = block.summary
    for row, minute in enumerate(summary.minute):
        source = summary.source[row]
        track = Track(
            summary.systems[source],
            summary.sources[source],
            summary.services[summary.service[row]],
            to_signed(summary.fingerprints[summary.fingerprint[row]]),
            summary.severity_number[row],
        )
        host = summary.hosts[summary.host[row]]
        hosts.add((track, host))
        number, first = counted[minute].get((track, host), (0, (block.id << 20) + summary.first_ordinal[row]))
        counted[minute][(track, host)] = (number + summary.count[row], first)


def tell_verdict(verdict: Verdict, start_minute: int) -> Iterator[str]:
    """Describes a verdict for people."""
    for case, opened in zip(verdict.cases, verdict.opened_at, strict=False):
        yield f"{case.severity} incident opened at minute {opened - start_minute}: {case.title}"
        for rank, cause in enumerate(case.causes, 1):
            yield (
                f"  {rank}. {cause.score:.2f} {cause.node} onset={cause.onset:.2f} upstream={cause.upstream:.2f} "
                f"strength={cause.strength:.2f} at {cause.started / 6e10 - start_minute:.2f}: {cause.summary[:110]}"
            )
    for finding in sorted(verdict.findings.values(), key=lambda item: item.onset):
        yield (
            f"    {'in ' if finding.incident else 'out'} {finding.detector} {finding.node} sev={finding.severity} {finding.score:.2f} "
            f"{finding.onset / 6e10 - start_minute:.2f}..{finding.last - start_minute} {finding.summary} | {(finding.bodies or [''])[0][:60]}"
        )
