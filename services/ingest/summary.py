"""What a block's events count as: the summary that roll-ups are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from elis.ingest.v1 import ingest_pb2 as pb

if TYPE_CHECKING:
    from services.ingest.pipeline import Prepared

NANOSECONDS_PER_MINUTE = 60_000_000_000

_Value = TypeVar("_Value")


def summarise(prepared: Prepared, rows: Sequence[int]) -> pb.BlockSummary:
    """Returns the counts of a block that holds these rows in this order."""
    batch = prepared.batch
    # System and environment are those of the source: they need not be told apart.
    columns: tuple[Sequence[Any], ...] = (
        [stamp // NANOSECONDS_PER_MINUTE for stamp in prepared.timestamps],
        batch.source,
        batch.service,
        batch.host,
        batch.severity_number,
        prepared.fingerprints,
    )
    if len(rows) != len(batch):
        columns = tuple([column[row] for row in rows] for column in columns)
    # Each event is numbered with the ordinal of the first that has its key; these are then counted.
    keys: dict[tuple[Any, ...], int] = {}
    counts = Counter(map(keys.setdefault, zip(*columns, strict=True), count()))
    first_ordinal = list(counts)
    minute, source, service, host, severity_number, fingerprint = zip(*keys, strict=True) if keys else ((),) * 6
    first_of = dict(zip(reversed(source), reversed(first_ordinal), strict=True))
    sources, source_numbers = _number(source)
    services, service_numbers = _number(service)
    hosts, host_numbers = _number(host)
    fingerprints, fingerprint_numbers = _number(fingerprint)
    firsts = [rows[first_of[name]] for name in sources]
    return pb.BlockSummary(
        sources=sources,
        systems=[prepared.systems[row] for row in firsts],
        environments=[prepared.environments[row] for row in firsts],
        services=services,
        hosts=hosts,
        fingerprints=fingerprints,
        templates=[prepared.templates[number] for number in fingerprints],
        minute=minute,
        source=source_numbers,
        service=service_numbers,
        host=host_numbers,
        severity_number=severity_number,
        fingerprint=fingerprint_numbers,
        count=list(counts.values()),
        first_ordinal=first_ordinal,
    )


def _number(column: tuple[_Value, ...]) -> tuple[list[_Value], list[int]]:
    """Returns the distinct values of a column, in order of their first places, and the number of each value among them."""
    distinct = list(dict.fromkeys(column))
    numbers = dict(zip(distinct, range(len(distinct)), strict=True))
    return distinct, list(map(numbers.__getitem__, column))
