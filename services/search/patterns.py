"""Patterns: the templates of the selected events, with counts over time and an example of each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from elis.correlate.v1 import correlate_pb2 as correlate
from kit.errors import ElisError
from services.search.conditions import Text, combine
from services.search.engine import Engine, Grid, Hit
from services.search.lines import decode_line
from services.search.selection import Selection

if TYPE_CHECKING:
    from elis.correlate.v1 import correlate_pb2_grpc as correlate_rpc

log = structlog.get_logger()

MAX_FINGERPRINTS = 10_000
"""Most frequent fingerprints that are looked at; ResolveTemplates takes no more."""
_RESOLVE_SECONDS = 2.0
_MAX_TEXT = 2_000


@dataclass(slots=True)
class Pattern:
    """A template, or a fingerprint whose template is not known."""

    template_id: str
    text: str
    fingerprints: list[str] = field(default_factory=list)
    count: int = 0
    sparkline: list[int] = field(default_factory=list)
    newest: Hit | None = None


async def find_patterns(engine: Engine, templates: correlate_rpc.CorrelateServiceAsyncStub, selection: Selection, grid: Grid, size: int) -> list[Pattern]:
    """Returns the most frequent patterns of a closed selection, most frequent first.

    Without the correlate service each fingerprint is a pattern of its own, and an example stands for the template.
    """
    counted = (await engine.facets(selection, ["fingerprint"], MAX_FINGERPRINTS))["fingerprint"]
    patterns = await _group(templates, dict(counted.values))
    chosen = sorted(patterns, key=lambda pattern: (-pattern.count, pattern.template_id))[:size]
    fingerprints = sorted(name for pattern in chosen for name in pattern.fingerprints)
    if not fingerprints:
        return []
    over_time = await engine.split_histogram(selection, grid, "fingerprint", fingerprints)
    await asyncio.gather(*(_find_newest(engine, selection, pattern) for pattern in chosen))
    for pattern in chosen:
        pattern.sparkline = [sum(over_time[name].get(bucket, 0) for name in pattern.fingerprints) for bucket in range(grid.count)]
        if not pattern.text and pattern.newest is not None:
            pattern.text = decode_line(pattern.newest.line).body[:_MAX_TEXT]
    return chosen


async def _group(templates: correlate_rpc.CorrelateServiceAsyncStub, counts: dict[str, int]) -> list[Pattern]:
    """Groups fingerprints by template; a fingerprint without one stays alone, with an empty text."""
    resolved: list[correlate.Template] = []
    if counts:
        try:
            request = correlate.ResolveTemplatesRequest(fingerprints=sorted(counts))
            response: correlate.ResolveTemplatesResponse = await templates.ResolveTemplates(request, timeout=_RESOLVE_SECONDS)
            resolved = list(response.templates)
        except ElisError as error:
            log.warning("templates not resolved; patterns are fingerprints", reason=error.message, code=error.code)
    patterns = []
    left = dict(counts)
    for template in resolved:
        own = sorted(name for name in set(template.fingerprints) if name in left)
        if own:
            patterns.append(Pattern(template.id, template.text, own, sum(left.pop(name) for name in own)))
    return [*patterns, *(Pattern(name, "", [name], count) for name, count in left.items())]


async def _find_newest(engine: Engine, selection: Selection, pattern: Pattern) -> None:
    condition = combine([selection.condition, Text("fingerprint", tuple(pattern.fingerprints))])
    hits = await engine.search(Selection(selection.start, selection.end, condition), newest_first=True, limit=1)
    pattern.newest = hits.events[0] if hits.events else None
