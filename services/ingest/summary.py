"""What a block's events count as: the summary that roll-ups are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from elis.ingest.v1 import ingest_pb2 as pb
from services.ingest.batch import Batch

NANOSECONDS_PER_MINUTE = 60_000_000_000

Key = tuple[int, str, str, str, str, str, int, int]
"""minute, source, system, environment, service, host, severity number, fingerprint"""


class SummaryRows:
    """Counts per key, with the ordinal of the first event of each, relative to the lines counted so far."""

    __slots__ = ("counts", "events", "first", "templates")

    def __init__(self) -> None:
        self.counts: dict[Key, int] = {}
        self.first: dict[Key, int] = {}
        self.templates: dict[int, str] = {}
        self.events = 0

    def add_rows(
        self,
        batch: Batch,
        rows: Sequence[int],
        *,
        timestamps: Sequence[int],
        systems: Sequence[str],
        environments: Sequence[str],
        fingerprints: Sequence[int],
        templates: Mapping[int, str],
    ) -> None:
        """Counts rows of a batch, in the order in which their lines stand in the chunk."""
        counts, first = self.counts, self.first
        source, service, host, severity = batch.source, batch.service, batch.host, batch.severity_number
        for ordinal, row in enumerate(rows, self.events):
            fingerprint = fingerprints[row]
            key = (timestamps[row] // NANOSECONDS_PER_MINUTE, source[row], systems[row], environments[row], service[row], host[row], severity[row], fingerprint)
            if key in counts:
                counts[key] += 1
            else:
                counts[key] = 1
                first[key] = ordinal
                self.templates[fingerprint] = templates[fingerprint]
        self.events += len(rows)

    def merge(self, other: SummaryRows) -> None:
        """Adds the counts of lines that follow the ones counted so far."""
        for key, count in other.counts.items():
            if key in self.counts:
                self.counts[key] += count
            else:
                self.counts[key] = count
                self.first[key] = self.events + other.first[key]
        self.templates.update(other.templates)
        self.events += other.events

    def to_proto(self) -> pb.BlockSummary:
        """Returns the summary as columns."""
        sources: dict[tuple[str, str, str], int] = {}
        services: dict[str, int] = {}
        hosts: dict[str, int] = {}
        prints: dict[int, int] = {}
        rows = [
            (
                minute,
                sources.setdefault((source, system, environment), len(sources)),
                services.setdefault(service, len(services)),
                hosts.setdefault(host, len(hosts)),
                severity,
                prints.setdefault(fingerprint, len(prints)),
            )
            for minute, source, system, environment, service, host, severity, fingerprint in self.counts
        ]
        columns = list(zip(*rows, strict=True)) or [()] * 6
        return pb.BlockSummary(
            sources=[name for name, _, _ in sources],
            systems=[system for _, system, _ in sources],
            environments=[environment for _, _, environment in sources],
            services=list(services),
            hosts=list(hosts),
            fingerprints=list(prints),
            templates=[self.templates[fingerprint] for fingerprint in prints],
            minute=columns[0],
            source=columns[1],
            service=columns[2],
            host=columns[3],
            severity_number=columns[4],
            fingerprint=columns[5],
            count=list(self.counts.values()),
            first_ordinal=[self.first[key] for key in self.counts],
        )
