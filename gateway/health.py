"""Whether the gateway lives (/healthz), whether it can serve (/readyz), its numbers (/metrics)."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.metrics import Metrics
from kit.errors import Unavailable

ESSENTIAL = frozenset({"auth"})
"""Without auth nobody can sign in. Without the others the gateway still answers what does not need them."""


class Readiness:
    """Ready when every service has been reached once; from then on as long as the essential ones are.

    A gateway that has just started must not take requests before it can serve them all. A gateway that runs must
    not leave the load balancer because search is away: signing in, ingest and recent events still work.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._channels = channels
        self._reached: set[str] = set()

    def check(self) -> dict[str, bool]:
        """Returns which services are connected now; a lost connection is sought again by asking."""
        states = {name: channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY for name, channel in self._channels.items()}
        self._reached |= {name for name, connected in states.items() if connected}
        return states

    async def ping(self) -> None:
        """Raises Unavailable when the gateway cannot serve."""
        states = self.check()
        if not self.is_ready(states):
            raise Unavailable(f"not connected to {', '.join(name for name, connected in states.items() if not connected)}")

    def is_ready(self, states: Mapping[str, bool]) -> bool:
        """Whether the gateway can serve, given which services are connected."""
        return self._reached == set(self._channels) and all(states[name] for name in ESSENTIAL)


def create_routes(readiness: Readiness, metrics: Metrics) -> list[Route]:
    """Returns the routes that probes and Prometheus ask."""

    async def healthz(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def readyz(_: Request) -> Response:
        states = readiness.check()
        ready = readiness.is_ready(states)
        status = "ready" if all(states.values()) else "degraded" if ready else "not ready"
        return Response(orjson.dumps({"status": status, "services": states}), 200 if ready else 503, media_type="application/json")

    async def show_metrics(_: Request) -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", show_metrics)]
