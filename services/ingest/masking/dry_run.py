"""Dry runs: what rules would change, in texts that a caller gives and in stored events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from services.ingest.batch import Batch
from services.ingest.masking.masker import Masker

MAX_CHANGES: Final = 50
"""Changes that are shown; all are counted."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would change in one field."""

    event_id: int
    """0 for a sample."""
    sample: int
    field: str
    before: str
    """As it is stored; empty for a sample, which is not handed back."""
    after: str


@dataclass(slots=True)
class DryRun:
    """What came out of a dry run."""

    examined: int = 0
    changed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)


def try_samples(masker: Masker, samples: Sequence[str]) -> DryRun:
    """Tries rules on texts."""
    preview = masker.preview(samples)
    run = DryRun(len(samples), counts=preview.counts)
    for number, (before, after) in enumerate(zip(samples, preview.texts, strict=True)):
        if before != after:
            run.changed += 1
            if len(run.changes) < MAX_CHANGES:
                run.changes.append(Change(0, number, "body", "", after))
    return run


def try_events(masker: Masker, lines: Iterable[bytes]) -> DryRun:
    """Tries rules on stored events (canonical lines): they are masked already, so what changes is what new rules would do."""
    batch, ids, before = Batch(), list[int](), list[tuple[str, str]]()
    for line in lines:
        event = orjson.loads(line)
        attributes = event.get("attributes")
        batch.append(event["body"], source=event["source"], attributes=attributes)
        ids.append(event["event_id"])
        before.append((event["body"], _encode(attributes)))
    masked = masker.mask_batch(batch)
    run = DryRun(len(ids), counts=masked.counts)
    for row, (body, attributes) in enumerate(before):
        after = (batch.body[row], _encode(batch.attributes[row]))
        run.changed += after != (body, attributes)
        for name, old, new in (("body", body, after[0]), ("attributes", attributes, after[1])):
            if old != new and len(run.changes) < MAX_CHANGES:
                run.changes.append(Change(ids[row], 0, name, old, new))
    return run


def _encode(attributes: object) -> str:
    return orjson.dumps(attributes).decode() if attributes else ""
