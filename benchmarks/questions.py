"""GraphQL over one keep-alive connection, and the questions that the benchmark asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.corpus import Corpus
from benchmarks.fleet import BenchmarkFailed

PAGE_ROWS = 50
DEEP_ROWS = 20_000
"""How far down the deep page lies, or half of the events when there are fewer."""
ROW_FIELDS = "id timestamp source host service severityText severity body"

PAGE = (
    "query Page($filter: EventFilter, $first: Int!, $after: String) { events(filter: $filter, first: $first, after: $after) "
    f"{{ edges {{ cursor node {{ {ROW_FIELDS} }} }} pageInfo {{ endCursor hasNextPage }} }} }}"
)
OVERVIEW = (
    "query Overview($filter: EventFilter) { histogram(filter: $filter) { interval buckets { start count } } "
    'facets(filter: $filter, fields: ["system", "source", "host", "service", "severityText"]) { facets { field values { value count } } } }'
)
PATTERNS = "query Patterns($filter: EventFilter) { patterns(filter: $filter) { patterns { template count share sparkline } } }"
FRESHNESS = "{ events(first: 1) { asOf edges { cursor } } }"
ROLLED_UP = '{ statistics(range: {last: "1m"}) { asOf } }'
COUNT = "{ events(first: 1) { totalCount edges { cursor } } }"
TRIVIAL = "{ __typename }"
WORDS = ("failed", "connection", "error", "authentication", "timeout", "memory", "order", "user", "instance", "refused")


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of question with the variants that are asked in turn."""

    name: str
    query: str
    variables: tuple[Mapping[str, Any], ...]

    def bodies(self) -> list[bytes]:
        """Returns the request bodies of all variants."""
        return [orjson.dumps({"query": self.query, "variables": variables}) for variables in self.variables]


class Gateway:
    """The gateway as a frontend sees it."""

    def __init__(self, credentials: Mapping[str, str]) -> None:
        url = urlsplit(credentials["graphql_url"])
        self.host, self.port, self.path = url.hostname or "", url.port or 80, url.path
        self.headers = {"Authorization": f"Bearer {credentials['admin_api_key']}", "Content-Type": "application/json"}
        self._connection = HTTPConnection(self.host, self.port, timeout=60.0)

    def post(self, body: bytes) -> bytes:
        """Returns the body of the reply."""
        try:
            return self._exchange(body)
        except ConnectionError:
            # Between two measures the gateway has closed what was idle for long.
            self._connection.close()
            return self._exchange(body)

    def _exchange(self, body: bytes) -> bytes:
        self._connection.request("POST", self.path, body, self.headers)
        return self._connection.getresponse().read()

    def ask(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the data of an answer; raises BenchmarkFailed when there is an error in it."""
        answer = orjson.loads(self.post(orjson.dumps({"query": query, "variables": variables or {}})))
        if answer.get("errors"):
            raise BenchmarkFailed(f"GraphQL answers with an error: {answer['errors'][0].get('message')}")
        data: dict[str, Any] = answer["data"]
        return data

    def close(self) -> None:
        """Disconnects."""
        self._connection.close()


def parse_moment(text: str | None) -> int:
    """Returns a moment as GraphQL gives it in nanoseconds since 1970; 0 for null."""
    if text is None:
        return 0
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0"))


def make_questions(gateway: Gateway, corpus: Corpus, stored: int) -> list[Question]:
    """Returns the questions about a corpus that is stored and searchable."""
    span = _range(corpus.start_ns, corpus.end_ns)
    middle = _range(corpus.start_ns + (corpus.end_ns - corpus.start_ns) // 3, corpus.end_ns - (corpus.end_ns - corpus.start_ns) // 3)
    page = {"first": PAGE_ROWS}
    after = _deep_cursor(gateway, min(DEEP_ROWS, stored // 2))
    return [
        Question("newest page", PAGE, (page,)),
        Question("page of a word", PAGE, tuple({**page, "filter": {"query": word}} for word in WORDS)),
        Question("page of a phrase", PAGE, tuple({**page, "filter": {"query": f'"{text}"'}} for text in ("authentication failure", "connection refused"))),
        Question(
            "page of filters and severity", PAGE, tuple({**page, "filter": {**middle, "systems": ["splunk"], "minSeverity": s}} for s in ("WARN", "ERROR"))
        ),
        Question("page far down", PAGE, ({**page, "after": after},)),
        Question("histogram and 5 facets", OVERVIEW, ({"filter": span}, {"filter": middle})),
        Question("the same of a word", OVERVIEW, tuple({"filter": {**span, "query": word}} for word in WORDS)),
        Question("patterns", PATTERNS, ({"filter": span}, {"filter": middle})),
    ]


def _deep_cursor(gateway: Gateway, depth: int) -> str:
    cursor = None
    while depth > 0:
        data = gateway.ask(PAGE, {"first": min(1_000, depth), "after": cursor})
        cursor = data["events"]["pageInfo"]["endCursor"]
        depth -= 1_000
    return str(cursor)


def _range(start_ns: int, end_ns: int) -> dict[str, str]:
    return {name: datetime.fromtimestamp(ns // 1_000_000_000, UTC).isoformat() for name, ns in (("start", start_ns), ("end", end_ns))}
