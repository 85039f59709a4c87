"""The one table of processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A process of ELIS: what `elis run NAME` runs and what a pod is."""

    name: str
    module: str
    """Run as `python -m MODULE`."""
    ports: dict[str, int]
    """Purpose to port, before the port offset. TCP, or UDP when the purpose ends with `_udp`."""
    migrates: bool
    """Whether it owns a PostgreSQL schema of its name, with migrations beside its module."""
    niceness: int = 0
    """How far it gives way to the others on one full machine (0 to 19); in a cluster each has processors of its own."""


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("auth", "services.auth", {"grpc": 50051}, migrates=True),
        Target(
            "ingest",
            "services.ingest",
            {
                "grpc": 50052,
                "hec": 8088,
                "otlp_http": 4318,
                "otlp_grpc": 4317,
                "syslog": 5514,
                "syslog_udp": 5514,
                "syslog_tls": 6514,
                "fluent": 24224,
            },
            migrates=True,
        ),
        Target("search", "services.search", {"grpc": 50053}, migrates=True),
        Target("correlate", "services.correlate", {"grpc": 50054}, migrates=True, niceness=10),
        Target("gateway", "gateway", {"http": 8080}, migrates=False),
    )
}
