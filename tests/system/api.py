"""What a user and an agent of ELIS hold in hand: its public ports and the credentials file."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx

PAGE = 1000
_EVENTS = """query($source: String!, $first: Int!, $after: String) {
  events(filter: {sources: [$source]}, first: $first, after: $after, order: OLDEST_FIRST) {
    edges { node { id body timestamp } } pageInfo { hasNextPage endCursor } degraded lagSeconds
  }
}"""
_numbers = itertools.count(1)
Found = TypeVar("Found")


class Api:
    """The GraphQL endpoint and the event collector of one stack."""

    def __init__(self, credentials: Mapping[str, Any], http: httpx.Client) -> None:
        self.credentials = credentials
        self.http = http

    def post(self, query: str, variables: Mapping[str, Any] | None = None, token: str | None = None) -> httpx.Response:
        """Sends a GraphQL request, as the first admin unless another token, or "" for none, is given."""
        token = self.credentials["admin_api_key"] if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.http.post(self.credentials["graphql_url"], json={"query": query, "variables": variables or {}}, headers=headers)

    def query(self, query: str, variables: Mapping[str, Any] | None = None, token: str | None = None) -> dict[str, Any]:
        """Returns the data of an answer that must have no error."""
        response = self.post(query, variables, token)
        content = response.json()
        assert "errors" not in content, content["errors"]
        data: dict[str, Any] = content["data"]
        return data

    def error(self, query: str, variables: Mapping[str, Any] | None = None, token: str | None = None) -> dict[str, Any]:
        """Returns the first error of an answer that must have one."""
        error: dict[str, Any] = self.post(query, variables, token).json()["errors"][0]
        return error

    def send(self, events: Iterable[Mapping[str, Any]], **headers: str) -> httpx.Response:
        """Sends events to the collector."""
        return self.http.post(
            f"{self.credentials['hec_url']}/services/collector/event",
            content="\n".join(json.dumps(event) for event in events),
            headers={"Authorization": f"Splunk {self.credentials['ingest_token']}", **headers},
        )

    def pages(self, source: str, size: int = PAGE) -> Iterator[list[dict[str, Any]]]:
        """Yields every event of a source, oldest first, page by page."""
        after = None
        while True:
            page = self.query(_EVENTS, {"source": source, "first": size, "after": after})["events"]
            assert not page["degraded"]
            yield [edge["node"] for edge in page["edges"]]
            if not page["pageInfo"]["hasNextPage"]:
                return
            after = page["pageInfo"]["endCursor"]

    def events(self, source: str) -> list[dict[str, Any]]:
        """Returns every event of a source, oldest first."""
        return [event for page in self.pages(source) for event in page]

    def count(self, source: str) -> int:
        """Returns how many events of a source search finds."""
        answer = self.query("query($s: String!) { events(filter: {sources: [$s]}, first: 1) { totalCount } }", {"s": source})
        return int(answer["events"]["totalCount"] or 0)

    def await_count(self, source: str, expected: int, seconds: float = 20.0) -> None:
        """Waits until search finds that many events of a source; more are as wrong as less."""
        found = eventually(lambda: count if (count := self.count(source)) >= expected else None, seconds, lambda: f"{self.count(source)} of {expected} found")
        assert found == expected


@contextmanager
def open_api(credentials: Mapping[str, Any]) -> Iterator[Api]:
    """Yields the public ports of a stack."""
    with httpx.Client(timeout=15.0, trust_env=False) as http:
        yield Api(credentials, http)


def eventually(ask: Callable[[], Found | None], seconds: float = 20.0, describe: Callable[[], str] = lambda: "") -> Found:
    """Asks until the answer is one; returns it."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not so after {seconds} s {describe()}"
        time.sleep(0.1)
    return answer


def name_source(what: str) -> str:
    """Returns a source name that no other test uses."""
    return f"{what}-{time.time_ns():x}-{next(_numbers)}"


def iso(nanoseconds: int) -> str:
    """Returns a moment as GraphQL writes it."""
    return f"{datetime.fromtimestamp(nanoseconds // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"
