"""No fault: a second deployment, a host that restarts, and the isolated errors of any day."""

from __future__ import annotations

from services.ingest.simulator.scenarios.base import Plot, Scenario
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Story
from services.ingest.simulator.streams import Schedule, Stream
from services.ingest.simulator.systems import linux, operations, web

_HOST = "web-3"
_RESTART_SECONDS = 40.0


def _plot(story: Story) -> Plot:
    return Plot([_restart(story), operations.redeploy(story)])


def _restart(story: Story) -> Stream:
    rng = story.rng("quiet/restart")
    begins = story.plan.duration * 0.55
    story.absences[_HOST] = (begins, begins + _RESTART_SECONDS)

    def restart(time_ns: int) -> None:
        text = f"Server shop-web/{_HOST} is going DOWN for maintenance. 2 active and 0 backup servers left."
        web.report_balancer(story, time_ns, "lb-1", "warning", text, "noise")
        linux.restart(story, rng, _HOST, time_ns)
        text = f"Server shop-web/{_HOST} is UP, reason: Layer7 check passed, code: 200, check duration: 3ms. 3 active and 0 backup servers online."
        web.report_balancer(story, time_ns + int(_RESTART_SECONDS * SECOND), "lb-1", "info", text)

    return Schedule((begins, restart))


SCENARIO = Scenario("quiet", "no fault: a deployment, a restart and the isolated errors of any day", None, _plot)
