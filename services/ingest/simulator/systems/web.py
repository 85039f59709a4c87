"""The web tier: load balancer (JSON) and nginx (access and error log), collected by Splunk forwarders."""

from __future__ import annotations

from random import Random

from services.ingest.simulator import stamps
from services.ingest.simulator.events import HecPayload, Origin, Role
from services.ingest.simulator.landscape import ADDRESSES, CUSTOMER_NETWORKS, LOAD_BALANCERS, PRODUCTS, USER_AGENTS, WEB_SERVERS
from services.ingest.simulator.story import Story
from services.ingest.simulator.streams import Mix, Stream, pick

ACCESS = {host: Origin("nginx-access", "splunk", "nginx", host) for host in WEB_SERVERS}
ERRORS = {host: Origin("nginx-error", "splunk", "nginx", host) for host in WEB_SERVERS}
BALANCER = {host: Origin("haproxy", "splunk", "load-balancer", host) for host in LOAD_BALANCERS}
_FIELDS = {"service": "nginx", "environment": "production"}
_BALANCER_FIELDS = {"service": "load-balancer", "environment": "production"}

# Path, answer and size in bytes of what is asked for without a shop visit.
_STATIC: Mix[tuple[str, int, int]] = Mix(
    (40, ("/static/app.4f1c9a.js", 200, 184_220)),
    (40, ("/static/style.8be2d1.css", 304, 0)),
    (20, ("/static/logo.svg", 200, 4_312)),
    (8, ("/favicon.ico", 200, 1_150)),
    (6, ("/robots.txt", 200, 94)),
    (3, ("/wp-login.php", 404, 153)),
    (2, ("/.env", 404, 153)),
    (1, ("/static/old-banner.png", 404, 153)),
)


def customer_address(rng: Random) -> str:
    """Returns the address of some customer."""
    return f"{pick(rng, CUSTOMER_NETWORKS)}.{1 + int(rng.random() * 254)}"


def server(story: Story, rng: Random, time_ns: int) -> str:
    """Returns the web server that gets a request: any that is not away."""
    first = int(rng.random() * len(WEB_SERVERS))
    rotation = WEB_SERVERS[first:] + WEB_SERVERS[:first]
    return next((host for host in rotation if not story.is_away(host, time_ns)), rotation[0])


def answer(
    story: Story,
    rng: Random,
    time_ns: int,
    *,
    client: str,
    request: tuple[str, str],
    status: int,
    size: int,
    seconds: float,
    trace_id: str,
    correlation: str,
    role: Role | None = None,
) -> None:
    """Emits the two access lines of a request that is answered at `time_ns` after so many seconds."""
    method, path = request
    host = server(story, rng, time_ns)
    balancer = LOAD_BALANCERS[int(rng.random() * 2)]
    termination = "sH--" if status == 504 else "SC--" if status == 503 else "----"
    story.emit(
        time_ns,
        ACCESS[host],
        HecPayload(
            "access_combined",
            f'{client} - - [{stamps.access(time_ns)}] "{method} {path} HTTP/1.1" {status} {size} "https://shop.example.com/" '
            f'"{pick(rng, USER_AGENTS)}" request_time={seconds:.3f} correlation_id={correlation}',
            _FIELDS,
        ),
        role,
    )
    total = int(seconds * 1000) + 1
    story.emit(
        time_ns + 1_000_000,
        BALANCER[balancer],
        HecPayload(
            "haproxy:json",
            {
                "message": f"{client}:{1024 + int(rng.random() * 64_000)} shop-https~ shop-web/{host} 0/0/1/{total}/{total + 1} "
                f'{status} {size} {termination} "{method} {path} HTTP/1.1"',
                "level": "error" if status >= 500 else "info",
                "frontend": "shop-https",
                "backend": "shop-web",
                "server": host,
                "status": status,
                "bytes": size,
                "duration_ms": total,
                "trace_id": trace_id,
                "correlation_id": correlation,
            },
            _BALANCER_FIELDS,
        ),
        role,
    )


def report_upstream(story: Story, time_ns: int, host: str, level: str, text: str, role: Role | None = None) -> None:
    """Emits a line of the error log of nginx."""
    line = f"{stamps.nginx_error(time_ns)} [{level}] 1187#1187: {text}"
    story.emit(stamps.to_second(time_ns), ERRORS[host], HecPayload("nginx:error", line, _FIELDS), role)


def report_balancer(story: Story, time_ns: int, host: str, level: str, text: str, role: Role | None = None) -> None:
    """Emits an event of the load balancer itself, not of a request."""
    event = {"message": text, "level": level, "backend": "shop-web"}
    story.emit(time_ns, BALANCER[host], HecPayload("haproxy:json", event, _BALANCER_FIELDS), role)


def streams(story: Story) -> list[Stream]:
    """Ordinary life: static files, health checks, search engines, and now and then a slow upload."""
    rng = story.rng("web")

    def serve_static(time_ns: int) -> None:
        path, status, size = _STATIC.draw(rng)
        host = server(story, rng, time_ns)
        line = (
            f'{customer_address(rng)} - - [{stamps.access(time_ns)}] "GET {path} HTTP/1.1" {status} {size} '
            f'"https://shop.example.com/" "{pick(rng, USER_AGENTS)}" request_time={0.001 + rng.random() * 0.02:.3f}'
        )
        story.emit(time_ns, ACCESS[host], HecPayload("access_combined", line, _FIELDS))

    def check_health(time_ns: int) -> None:
        for offset, host in enumerate(WEB_SERVERS):
            if story.is_away(host, time_ns):
                continue
            at = time_ns + offset * 3_000_000
            line = f'{ADDRESSES["lb-1"]} - - [{stamps.access(at)}] "GET /healthz HTTP/1.1" 200 2 "-" "haproxy" request_time=0.000'
            story.emit(at, ACCESS[host], HecPayload("access_combined", line, _FIELDS))

    def buffer_body(time_ns: int) -> None:
        host = pick(rng, WEB_SERVERS)
        text = (
            f"*{int(rng.random() * 900_000)} a client request body is buffered to a temporary file "
            f"/var/cache/nginx/client_temp/{int(rng.random() * 1e10):010d}, client: {customer_address(rng)}, server: shop.example.com, "
            f'request: "POST /api/attachments HTTP/1.1", host: "shop.example.com"'
        )
        report_upstream(story, time_ns, host, "warn", text, "noise")

    def lose_client(time_ns: int) -> None:
        host = pick(rng, WEB_SERVERS)
        text = f"*{int(rng.random() * 900_000)} client {customer_address(rng)} closed keepalive connection (104: Connection reset by peer)"
        report_upstream(story, time_ns, host, "info", text)

    def fail_once(time_ns: int) -> None:
        host = pick(rng, WEB_SERVERS)
        text = (
            f"*{int(rng.random() * 900_000)} upstream prematurely closed connection while reading response header from upstream, "
            f'client: {customer_address(rng)}, server: shop.example.com, request: "GET /api/products/{pick(rng, PRODUCTS)} HTTP/1.1", '
            f'upstream: "http://{ADDRESSES["app-2"]}:8080/api/products"'
        )
        report_upstream(story, time_ns, host, "error", text, "noise")

    return [
        story.arrivals("web/static", 1.8, serve_static),
        story.beat("web/health", 10.0, check_health),
        story.arrivals("web/buffer", 0.02, buffer_body),
        story.arrivals("web/lose", 0.03, lose_client),
        story.arrivals("web/fail", 0.004, fail_once),
    ]
