"""Operations: what people do to the landscape on an ordinary day, a deployment and a nightly job."""

from __future__ import annotations

from services.ingest.simulator.landscape import APPLICATION_HOSTS, VERSIONS
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Story
from services.ingest.simulator.streams import Schedule, Stream
from services.ingest.simulator.systems import abap, hana, linux, orders

_JOB_REPORTS = ("RSNAPRUN", "RSBTCDEL2", "SBAL_DELETE", "RSPO1041", "RBDAPP01")


def streams(story: Story) -> list[Stream]:
    """A deployment of the inventory service early in the story, a run of nightly jobs before its middle."""
    rng = story.rng("operations")

    def deploy(time_ns: int) -> None:
        for number, host in enumerate(APPLICATION_HOSTS):
            orders.deploy(story, rng, time_ns + number * 25 * SECOND, "inventory-service", host, "2.9.5")

    def run_jobs(time_ns: int) -> None:
        linux.log(story, rng, time_ns, "batch-1", "CROND", "(root) CMD (/opt/batch/nightly.sh)")
        linux.log(story, rng, time_ns + SECOND, "batch-1", "backup", "snapshot of /srv/orders started")
        for number, report in enumerate(_JOB_REPORTS):
            at = time_ns + (4 + number * 11) * SECOND
            abap.audit(story, rng, at, "sapapp2", "AUW", user="BATCH", program="SAPMSSY2", variables=report)
            abap.trace(story, rng, at, "sapapp2", "M", f"ThBtcStart: job {report} started as number {int(rng.random() * 90_000_000):08d}")
            text = f"statement on SAPHANADB:BALDAT ran {3 + rng.random() * 9:.2f} s, memory= {int(rng.random() * 900)} MB"
            hana.trace(story, rng, at + 8 * SECOND, "w", "SQLScript", "ExpensiveStatement.cpp(00156)", text, "noise")
            abap.trace(story, rng, at + 10 * SECOND, "sapapp2", "M", f"ThBtcEnd: job {report} finished")
        linux.log(story, rng, time_ns + 75 * SECOND, "batch-1", "backup", f"snapshot of /srv/orders finished, {int(rng.random() * 90)} GB")

    return [Schedule((story.plan.duration * 0.18, deploy), (story.plan.duration * 0.4, run_jobs))]


def redeploy(story: Story) -> Stream:
    """A second, harmless deployment late in the story: the order service, with the version that runs already."""
    rng = story.rng("operations/redeploy")

    def deploy(time_ns: int) -> None:
        for number, host in enumerate(APPLICATION_HOSTS):
            orders.deploy(story, rng, time_ns + number * 25 * SECOND, "order-service", host, VERSIONS["order-service"])

    return Schedule((story.plan.duration * 0.72, deploy))
