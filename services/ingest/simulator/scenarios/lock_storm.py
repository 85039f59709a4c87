"""A mass report holds enqueue locks on sales documents; work processes of SAP wait, orders and IDocs with them."""

from __future__ import annotations

from services.ingest.simulator.events import Root
from services.ingest.simulator.landscape import ABAP_HOSTS, LOAD_BALANCERS, RFC_USER
from services.ingest.simulator.scenarios.base import Plot, Scenario
from services.ingest.simulator.story import Failure, Story
from services.ingest.simulator.streams import Mix, Ramp, Schedule, Stream, pick
from services.ingest.simulator.systems import abap, web

_USER, _REPORT = "BATCH_SD", "ZSD_ORDER_REPRICE"
_LOCK_LINES: Mix[str] = Mix(
    (6, f"*** WARNING => EnqClnt: lock E VBAK 100{{number:010d}} held by {_USER}/{_REPORT}, waited {{wait}} s [enxxclnt.c   1204]"),
    (3, "*** ERROR => EnqClnt: wait for lock E VBAK 100{number:010d} given up after {wait} s [enxxclnt.c   1231]"),
    (2, "*** ERROR => EnqTab: lock table overflow, {number} entries rejected [enxxtab.c     988]"),
)
_LOCKED = Failure(f"SAP PRD refused the call: FOREIGN_LOCK, sales documents are locked by {_USER}", "com.sap.conn.jco.AbapException", 5.0, 2, 503)
_SLOW = Failure("no answer from SAP PRD within 8000 ms (function ORDERS_CREATE)", "java.net.SocketTimeoutException", 8.0, 2, 504)
_NOT_POSTED = Failure(f"Sales document & is currently being processed by user {_USER}", wait=4.0, code=("V1", "042"))


def _plot(story: Story) -> Plot:
    rng = story.rng("lock-storm/troubles")
    call_fails = Ramp(story.after_onset(80), 160 * story.tempo, 0.75)
    posting_fails = Ramp(story.after_onset(50), 130 * story.tempo, 0.75)

    def call(time_ns: int, _: str) -> Failure | None:
        if rng.random() >= call_fails(story.second(time_ns)):
            return None
        return _LOCKED if rng.random() < 0.6 else _SLOW

    def post(time_ns: int, _: str) -> Failure | None:
        return _NOT_POSTED if rng.random() < posting_fails(story.second(time_ns)) else None

    return Plot([*_sap(story), _chatter(story)], {"sap": call, "idoc": post})


def _sap(story: Story) -> list[Stream]:
    rng = story.rng("lock-storm/sap")

    def start_report(time_ns: int) -> None:
        job = f"{int(rng.random() * 90_000_000):08d}"
        abap.audit(story, rng, time_ns, "sapapp2", "AUW", user=_USER, program="SAPMSSY2", variables=_REPORT, role="root")
        abap.trace(story, rng, time_ns, "sapapp2", "M", f"ThBtcStart: job {_REPORT} started as number {job}", "root")

    def wait_for_lock(time_ns: int) -> None:
        text = _LOCK_LINES.draw(rng).format(number=int(rng.random() * 4_000_000), wait=5 + int(rng.random() * 25))
        abap.trace(story, rng, time_ns, pick(rng, ABAP_HOSTS), "M", text, "root")

    def dump(time_ns: int) -> None:
        abap.dump(story, time_ns, pick(rng, ABAP_HOSTS), abap.TIME_LIMIT, RFC_USER, "symptom")

    return [
        Schedule((story.after_onset(0), start_report)),
        story.arrivals("lock-storm/wait", 0.9, wait_for_lock, Ramp(story.after_onset(12), 120 * story.tempo)),
        story.arrivals("lock-storm/dump", 0.08, dump, Ramp(story.after_onset(200), 90 * story.tempo)),
    ]


def _chatter(story: Story) -> Stream:
    """Loud and innocent: one client insists on a certificate that the load balancer does not like."""
    rng = story.rng("lock-storm/chatter")

    def complain(time_ns: int) -> None:
        text = f"100.64.18.9:{1024 + int(rng.random() * 64_000)} shop-https/1: SSL handshake failure (error:0A000412:SSL routines::sslv3 alert bad certificate)"
        web.report_balancer(story, time_ns, pick(rng, LOAD_BALANCERS), "warning", text, "noise")

    return story.arrivals("lock-storm/chatter", 3.0, complain, Ramp(story.after_onset(120), 20 * story.tempo))


SCENARIO = Scenario(
    "lock-storm",
    "a mass report of SAP holds enqueue locks; IDocs are not posted and orders time out",
    Root("sap", "abap"),
    _plot,
)
