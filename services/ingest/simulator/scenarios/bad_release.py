"""A release of the payment service with a defect is rolled out host by host; orders fail and SAP sees fewer of them."""

from __future__ import annotations

from functools import partial

from services.ingest.simulator.events import Root
from services.ingest.simulator.landscape import ADDRESSES, APPLICATION_HOSTS, WEB_SERVERS
from services.ingest.simulator.scenarios.base import Plot, Scenario
from services.ingest.simulator.story import Failure, Story
from services.ingest.simulator.streams import Ramp, Schedule, Stream, pick
from services.ingest.simulator.systems import network, orders, web

_SERVICE, _VERSION = "payment-service", "3.8.0"
# Seconds after the onset at which each host gets the release; it answers with it 15 seconds later.
_ROLLOUT = dict(zip(APPLICATION_HOSTS, (0.0, 70.0, 140.0), strict=True))
_RESTART_SECONDS = 15.0
_DEFECT_SHARE = 0.85
_MESSAGE = 'Cannot invoke "java.util.Currency.getDefaultFractionDigits()" because "amount.currency" is null'
_DEFECT = Failure(f"authorisation failed: {_MESSAGE}", "java.lang.NullPointerException", 0.03, 1, 502, role="root")


def _plot(story: Story) -> Plot:
    rng = story.rng("bad-release/troubles")

    def pay(time_ns: int, host: str) -> Failure | None:
        released = story.second(time_ns) >= story.after_onset(_ROLLOUT[host]) + _RESTART_SECONDS
        return _DEFECT if released and rng.random() < _DEFECT_SHARE else None

    return Plot([*_release(story), _web(story), _chatter(story)], {"payment": pay})


def _release(story: Story) -> list[Stream]:
    rng = story.rng("bad-release/release")

    def deploy(host: str, time_ns: int) -> None:
        orders.deploy(story, rng, time_ns, _SERVICE, host, _VERSION, "root")

    def fail_batch(time_ns: int) -> None:
        body = f"settlement batch {int(rng.random() * 90_000)} failed: {_MESSAGE}"
        details = orders.exception("java.lang.NullPointerException", _MESSAGE, "com.example.payment.Settlement.close(Settlement.java:129)")
        orders.log(story, time_ns, _SERVICE, pick(rng, APPLICATION_HOSTS), "ERROR", body, details, role="root")

    return [
        Schedule(*((story.after_onset(after), partial(deploy, host)) for host, after in _ROLLOUT.items())),
        story.arrivals("bad-release/batch", 0.06, fail_batch, Ramp(story.after_onset(30) + _RESTART_SECONDS, 120 * story.tempo)),
    ]


def _web(story: Story) -> Stream:
    rng = story.rng("bad-release/web")

    def bad_gateway(time_ns: int) -> None:
        text = (
            f"*{int(rng.random() * 900_000)} upstream sent invalid status while reading response header from upstream, "
            f'client: {web.customer_address(rng)}, server: shop.example.com, request: "POST /api/orders HTTP/1.1", '
            f'upstream: "http://{ADDRESSES["app-3"]}:8080/api/orders"'
        )
        web.report_upstream(story, time_ns, pick(rng, WEB_SERVERS), "error", text, "symptom")

    return story.arrivals("bad-release/upstream", 0.1, bad_gateway, Ramp(story.after_onset(50) + _RESTART_SECONDS, 150 * story.tempo))


def _chatter(story: Story) -> Stream:
    """Loud and innocent: somebody on the internet scans the ports of the shop."""
    rng = story.rng("bad-release/chatter")

    def scan(time_ns: int) -> None:
        port = 1 + int(rng.random() * 10_000)
        text = f'Deny tcp src outside:192.0.2.77/{1024 + int(rng.random() * 64_000)} dst dmz:10.20.1.10/{port} by access-group "OUTSIDE_IN"'
        more: dict[str, str | int] = {"action": "blocked", "src_ip": "192.0.2.77", "dest_ip": "10.20.1.10", "dest_port": port}
        network.report(story, time_ns, "fw-1", 4, "106023", text, "noise", **more)

    return story.arrivals("bad-release/chatter", 3.5, scan, Ramp(story.after_onset(90), 20 * story.tempo))


SCENARIO = Scenario(
    "bad-release",
    "a defective release of the payment service; orders fail and SAP sees fewer of them",
    Root("application", _SERVICE),
    _plot,
)
