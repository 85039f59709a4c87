"""What the same work costs without ELIS around it: Tantivy alone on the same lines, Strawberry alone on rows of the same shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, process_time
from typing import Any

import orjson
import strawberry
from rich.progress import TaskID
from strawberry.extensions import ParserCache, ValidationCache
from strawberry.schema.config import StrawberryConfig

from benchmarks.session import show_progress
from benchmarks.spread import Spread, spread_of
from services.search.engine import DAY
from services.search.engines.tantivy.documents import make_documents
from services.search.engines.tantivy.schema import create_schema, open_index
from services.search.lines import decode_line

MAX_LINES = 200_000
HEAP_BYTES = 30_000_000
"""As the search process gives its writer by default."""
LIST_ROWS = (20, 50)
LIST_REPETITIONS = 300
LIST_SECONDS = 5.0
LIST_QUERY = (
    "query Page($first: Int!) { events(first: $first) "
    "{ edges { cursor node { id timestamp source host service severityText severity body } } pageInfo { endCursor hasNextPage } } }"
)


@dataclass(frozen=True, slots=True)
class TantivyResult:
    """Bare indexing with one writer thread and one commit: no feed, no blocks, no position, no duplicates looked for."""

    lines: int
    seconds: float
    cpu_seconds: float
    """Of the whole process: the thread that hands lines over, and Tantivy's."""
    index_bytes: int


@dataclass(frozen=True, slots=True)
class ListResult:
    """A page of Strawberry alone: parse, validate, execute, encode; no network."""

    rows: int
    cached: bool
    """Whether documents are parsed and validated once (Strawberry's own extensions)."""
    latency: Spread
    cpu_ms: float


def measure_tantivy(lines: Sequence[bytes]) -> TantivyResult:
    """Indexes canonical lines of one day in the schema of ELIS; the documents are made before the clock starts."""
    documents = list(make_documents(b"\n".join(lines), decode_line(lines[0]).timestamp // DAY).texts)
    with TemporaryDirectory(prefix="elis-tantivy-") as root, show_progress("baseline: Tantivy alone", len(documents)) as bar:
        writer: Any = open_index(create_schema(), Path(root)).writer(heap_size=HEAP_BYTES, num_threads=1)
        started, used = monotonic(), process_time()
        for number, document in enumerate(documents):
            writer.add_json(document)
            if number % 10_000 == 0:
                bar.update(TaskID(0), completed=number)
        writer.commit()
        seconds, cpu_seconds = monotonic() - started, process_time() - used
        writer.wait_merging_threads()
        size = sum(path.stat().st_size for path in Path(root).iterdir())
    return TantivyResult(len(documents), seconds, cpu_seconds, size)


@strawberry.type
class Row:
    id: strawberry.ID
    timestamp: str
    source: str
    host: str | None
    service: str | None
    severity_text: str | None
    severity: str | None
    body: str


@strawberry.type
class RowEdge:
    cursor: str
    node: Row


@strawberry.type
class Page:
    end_cursor: str | None
    has_next_page: bool


@strawberry.type
class RowConnection:
    edges: list[RowEdge]
    page_info: Page


def make_schema(lines: Sequence[bytes], *, cached: bool) -> strawberry.Schema:
    """Returns a stock schema whose one list gives prepared dictionaries."""
    rows = [_prepare(orjson.loads(line)) for line in lines[: max(LIST_ROWS)]]

    @strawberry.type
    class Query:
        @strawberry.field(graphql_type=RowConnection)  # type: ignore[untyped-decorator]
        async def events(self, first: int) -> Any:
            return {"edges": rows[:first], "page_info": {"end_cursor": rows[first - 1]["cursor"], "has_next_page": True}}

    extensions: list[Any] = [ParserCache, ValidationCache] if cached else []
    return strawberry.Schema(Query, extensions=extensions, config=StrawberryConfig(default_resolver=lambda row, name: row[name]))


def measure_lists(lines: Sequence[bytes]) -> list[ListResult]:
    """Executes the page query of the benchmark on prepared rows, stock and with Strawberry's own caches."""
    with show_progress("baseline: Strawberry alone", 2 * len(LIST_ROWS)) as bar:
        results = []
        for cached in (False, True):
            schema = make_schema(lines, cached=cached)
            for rows in LIST_ROWS:
                results.append(asyncio.run(_measure_list(schema, rows, cached=cached)))
                bar.advance(TaskID(0))
    return results


async def _measure_list(schema: strawberry.Schema, rows: int, *, cached: bool) -> ListResult:
    times: list[float] = []
    for _ in range(5):
        await _execute(schema, rows)
    used, deadline = process_time(), monotonic() + LIST_SECONDS
    while len(times) < LIST_REPETITIONS and monotonic() < deadline:
        started = monotonic()
        await _execute(schema, rows)
        times.append(monotonic() - started)
    return ListResult(rows, cached, spread_of(times), 1e3 * (process_time() - used) / len(times))


async def _execute(schema: strawberry.Schema, rows: int) -> str:
    result = await schema.execute(LIST_QUERY, {"first": rows})
    assert not result.errors, result.errors
    return json.dumps({"data": result.data})


def _prepare(event: dict[str, Any]) -> dict[str, Any]:
    row = {name: event.get(name) for name in ("source", "host", "service", "severity_text", "body")}
    row |= {"id": str(event["event_id"]), "timestamp": str(event["timestamp"]), "severity": "ERROR"}
    return {"cursor": str(event["event_id"]), "node": row}
