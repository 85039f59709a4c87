"""Who calls whom, through the API."""

from __future__ import annotations

from elis.ingest.v1 import dependencies_pb2 as pb
from tests.gateway.stack import Gateway

QUERY = """{ serviceDependencies(from: "2026-01-01T00:00:00.5Z", to: "2026-01-01T01:00:00Z", first: 3) {
  caller callee kind calls errors averageMs p95Ms buckets } }"""


async def test_edges_are_shown_as_the_service_says(gateway: Gateway) -> None:
    edge = pb.ServiceDependency(caller="web", callee="orders", kind="service", calls=2**40, errors=3, average_ms=1.5, p95_ms=25.0, buckets=[1, 0, 2])
    gateway.peers.answers["ListServiceDependencies"] = pb.ListServiceDependenciesResponse(dependencies=[edge])
    answer = await gateway.run(QUERY)
    assert answer["serviceDependencies"] == [
        {"caller": "web", "callee": "orders", "kind": "service", "calls": 2**40, "errors": 3, "averageMs": 1.5, "p95Ms": 25.0, "buckets": [1, 0, 2]}
    ]
    [request] = gateway.peers.requests("ListServiceDependencies")
    begin = getattr(request, "from")
    assert (begin.seconds, begin.nanos, request.to.seconds, request.limit) == (1_767_225_600, 500_000_000, 1_767_229_200, 3)
