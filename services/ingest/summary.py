"""What a block's events count as: the summary that roll-ups are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from elis.ingest.v1 import ingest_pb2 as pb

if TYPE_CHECKING:
    from services.ingest.pipeline import Prepared

NANOSECONDS_PER_MINUTE = 60_000_000_000


def summarise(prepared: Prepared, rows: Sequence[int]) -> pb.BlockSummary:
    """Returns the counts of a block that holds these rows in this order."""
    batch = prepared.batch
    whole = zip(
        [stamp // NANOSECONDS_PER_MINUTE for stamp in prepared.timestamps],
        batch.source,
        prepared.systems,
        prepared.environments,
        batch.service,
        batch.host,
        batch.severity_number,
        prepared.fingerprints,
        strict=True,
    )
    keys = list(whole)
    if len(rows) != len(keys):
        keys = [keys[row] for row in rows]
    counts = Counter(keys)
    # Written from the last to the first, so that the first ordinal of a key is the one that stays.
    first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))

    sources: dict[tuple[str, str, str], int] = {}
    services: dict[str, int] = {}
    hosts: dict[str, int] = {}
    prints: dict[int, int] = {}
    counted = [
        (
            minute,
            sources.setdefault((source, system, environment), len(sources)),
            services.setdefault(service, len(services)),
            hosts.setdefault(host, len(hosts)),
            severity,
            prints.setdefault(fingerprint, len(prints)),
        )
        for minute, source, system, environment, service, host, severity, fingerprint in counts
    ]
    columns = list(zip(*counted, strict=True)) or [()] * 6
    return pb.BlockSummary(
        sources=[name for name, _, _ in sources],
        systems=[system for _, system, _ in sources],
        environments=[environment for _, _, environment in sources],
        services=list(services),
        hosts=list(hosts),
        fingerprints=list(prints),
        templates=[prepared.templates[fingerprint] for fingerprint in prints],
        minute=columns[0],
        source=columns[1],
        service=columns[2],
        host=columns[3],
        severity_number=columns[4],
        fingerprint=columns[5],
        count=list(counts.values()),
        first_ordinal=[first[key] for key in counts],
    )
