"""Runs a target: settings, composition, gRPC server, HTTP listeners, background work, graceful drain."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import structlog
import uvicorn
import uvloop
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from kit.auth import Verifier
from kit.client import MAX_MESSAGE_BYTES
from kit.interceptors import ServerInterceptor
from kit.settings import Settings, SettingsT, load_settings
from kit.telemetry import configure_logging
from kit.web import KEEP_ALIVE_SECONDS, WebProtocol

log = structlog.get_logger()

_COLLECT_AT = (20_000, 20, 50)
"""New objects after which the youngest are collected, and collections after which older ones are."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of malloc.h (glibc)."""
_KEPT_BYTES = 8 * 1024 * 1024
"""Free memory that a process keeps for later. Of less, the megabytes of each block would be given back, fetched and cleared again."""
_MAPPED_BYTES = 2 * 1024 * 1024
"""From this size on a buffer is memory of its own, which goes back as soon as it is free."""

_SERVER_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
]
MAX_CONCURRENT_CALLS = 1_000


@dataclass(frozen=True, slots=True)
class Servicer:
    """A gRPC service to serve: its descriptor, the generated registration function and the implementation."""

    descriptor: ServiceDescriptor
    register: Callable[[Any, Any], None]
    implementation: object


@dataclass(frozen=True, slots=True)
class HttpListener:
    """An ASGI application on a port of the target table. `options` go to uvicorn."""

    purpose: str
    application: Any
    options: dict[str, Any] = field(default_factory=dict)


class Listener(Protocol):
    """A server that is neither the target's own gRPC server nor an ASGI application; a grpc.aio.Server is one."""

    async def start(self) -> None:
        """Begins to serve; raises OSError when its port cannot be opened."""
        ...

    async def stop(self, grace: float | None) -> None:
        """Takes nothing new, finishes what is in work within `grace` seconds, and closes."""
        ...


@dataclass(frozen=True, slots=True)
class Application:
    """What a target's `build` yields: everything that `serve` runs."""

    servicers: Sequence[Servicer] = ()
    verifier: Verifier | None = None
    """Verifies callers of the servicers."""
    http: Sequence[HttpListener] = ()
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    """Work that runs as long as the process; when one ends or fails, the process stops with an error."""
    ready: Sequence[Callable[[], Awaitable[None]]] = ()
    """Pings of what the target cannot work without; each raises when it is not there."""
    extra_servers: Sequence[Listener] = ()
    """Servers with other rules (OTLP over gRPC, already bound) or of other protocols; started and drained with the rest."""


Build = Callable[[SettingsT], AbstractAsyncContextManager[Application]]


class UndeclaredScope(RuntimeError):
    """An RPC method declares neither a scope nor that it is public."""


def collect_scopes(servicers: Sequence[Servicer]) -> dict[str, str]:
    """Returns the declared scope of every method path; raises UndeclaredScope when one has none."""
    scopes: dict[str, str] = {}
    for servicer in servicers:
        for method in servicer.descriptor.methods:
            implementation = getattr(servicer.implementation, method.name)
            scope = getattr(implementation, "__elis_scope__", None)
            if scope is None:
                raise UndeclaredScope(f"{servicer.descriptor.full_name}/{method.name} declares no scope")
            scopes[f"/{servicer.descriptor.full_name}/{method.name}"] = scope
    return scopes


def create_grpc_server(application: Application) -> grpc.aio.Server:
    """Returns a server with the production interceptors, not yet bound to a port."""
    if application.verifier is None:
        raise ValueError("servicers need a verifier")
    scopes = collect_scopes(application.servicers)
    server = grpc.aio.server(
        interceptors=[ServerInterceptor(application.verifier, scopes)],
        options=_SERVER_OPTIONS,
        maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
    )
    for servicer in application.servicers:
        servicer.register(servicer.implementation, server)
    return server


def serve(target: str, settings_class: type[SettingsT], build: Build[SettingsT]) -> None:
    """Runs a target until SIGTERM or SIGINT; exits with 1 when a part of it fails."""
    settings = load_settings(settings_class)
    configure_logging(target, settings)
    _return_memory()
    uvloop.run(_serve(target, settings, build))


def _return_memory() -> None:
    """Makes glibc give large buffers back when they are freed: it would keep ever larger ones for later, and the process would only grow."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)


async def _serve(target: str, settings: SettingsT, build: Build[SettingsT]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with build(settings) as application:
        # What was made so far stays for good: the collector need not look at it again, nor for every few hundred new objects.
        gc.freeze()
        gc.set_threshold(*_COLLECT_AT)
        failure = await run_application(target, settings, application, stop)
    if failure is not None:
        log.error("target failed", target=target, exc_info=failure)
        raise SystemExit(1)
    log.info("target stopped", target=target)


async def run_application(target: str, settings: Settings, application: Application, stop: asyncio.Event) -> BaseException | None:
    """Serves until `stop` is set or a part fails; returns the failure, after draining."""
    health = health_aio.HealthServicer()
    grpc_server = None
    if application.servicers:
        grpc_server = create_grpc_server(application)
        health_pb2_grpc.add_HealthServicer_to_server(health, grpc_server)
        _bind(grpc_server, f"{settings.bind_host}:{settings.port(target, 'grpc')}")
        await health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        # Asked by a pod's liveness probe: alive is not ready, and a restart would not bring PostgreSQL back.
        await health.set("live", health_pb2.HealthCheckResponse.SERVING)
        await grpc_server.start()
    for server in application.extra_servers:
        try:
            await server.start()
        except OSError as error:
            log.error("port cannot be opened", target=target, reason=str(error))
            raise SystemExit(1) from None
    web_servers = [_create_web_server(target, settings, listener) for listener in application.http]
    tasks = [asyncio.create_task(_run_background(work), name=getattr(work, "__qualname__", str(work))) for work in application.background]
    tasks += [asyncio.create_task(server.serve(), name="http") for server in web_servers]
    tasks.append(asyncio.create_task(_watch_readiness(target, application, health), name="readiness"))
    stopping = asyncio.create_task(stop.wait(), name="stop")

    done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    failure = next((_failure_of(task) for task in done if task is not stopping), None)

    await health.enter_graceful_shutdown()
    grace = settings.drain_timeout.total_seconds()
    for web_server in web_servers:
        web_server.should_exit = True
    servers: list[Listener] = [*application.extra_servers, *([grpc_server] if grpc_server is not None else [])]
    await asyncio.gather(*(server.stop(grace) for server in servers))
    http_tasks = [task for task in tasks if task.get_name() == "http"]
    if http_tasks:
        await asyncio.wait(http_tasks, timeout=grace)
    await cancel_tasks([*tasks, stopping])
    return failure


async def cancel_tasks(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancels tasks until all have ended: a library may swallow a cancellation that meets its own time-out."""
    pending = [task for task in tasks if not task.done()]
    while pending:
        for task in pending:
            task.cancel()
        _, rest = await asyncio.wait(pending, timeout=0.5)
        pending = list(rest)


def _failure_of(task: asyncio.Task[Any]) -> BaseException:
    if task.cancelled():
        return RuntimeError(f"{task.get_name()} was cancelled")
    return task.exception() or RuntimeError(f"{task.get_name()} ended by itself")


async def _run_background(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _bind(server: grpc.aio.Server, address: str) -> None:
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        log.error("port in use", address=address)
        raise SystemExit(1) from None


def _create_web_server(target: str, settings: Settings, listener: HttpListener) -> uvicorn.Server:
    config = uvicorn.Config(
        listener.application,
        host=settings.bind_host,
        port=settings.port(target, listener.purpose),
        http=WebProtocol,
        ws="websockets-sansio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=int(settings.drain_timeout.total_seconds()),
        **{"backlog": 2_048, "lifespan": "off", "timeout_keep_alive": KEEP_ALIVE_SECONDS, **listener.options},
    )
    server = uvicorn.Server(config)
    # Signals are handled once, above, for every part of the process.
    server.capture_signals = suppress  # type: ignore[method-assign,assignment]
    return server


async def _watch_readiness(target: str, application: Application, health: Any) -> None:
    """Says SERVING while every ping succeeds. Two failures in a row make it NOT_SERVING, one success ends that."""
    failures = 2
    while True:
        try:
            async with asyncio.timeout(2.0):
                for ping in application.ready:
                    await ping()
        except Exception as error:
            failures += 1
            if failures == 2:
                log.warning("target not ready", target=target, reason=repr(error))
                await health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        else:
            if failures >= 2:
                log.info("target ready", target=target)
                await health.set("", health_pb2.HealthCheckResponse.SERVING)
            failures = 0
        await asyncio.sleep(0.1 if failures >= 2 else 2.0)
