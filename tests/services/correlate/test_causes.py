"""Causes are ranked by who began, whom the others' trouble leads to, and how strong it is."""

from __future__ import annotations

from typing import Any

import pytest

from kit.rows import uuid7
from services.correlate.cases import is_serious
from services.correlate.causes import rank_causes
from services.correlate.findings import MINUTE_NS, Finding
from services.correlate.links import Link
from services.correlate.scene import Track
from services.correlate.topology import Node, Topology

SECOND = 1_000_000_000
BEGIN = 1_000 * MINUTE_NS


def finding(service: str, after: float, *, system: str = "application", severity: int = 17, surprise: float = 20.0, **more: Any) -> Finding:
    template = more.pop("template", hash(service) % 1000)
    return Finding(
        id=uuid7(),
        detector=more.pop("detector", "new_template"),
        system=system,
        source=service,
        service=service,
        template=template,
        severity=severity,
        first=1000,
        last=more.pop("last", 1004),
        onset=BEGIN + int(after * SECOND),
        expected=0,
        observed=more.pop("observed", 30),
        surprise=surprise,
        weight=more.pop("weight", 1.0),
        baseline="never seen",
        summary="new error",
        exact=True,
        tracks={Track(system, service, service, template or 0, severity)},
        **more,
    )


def best(findings: list[Finding], groups: list[dict[Node, int]] | None = None, topology: Topology | None = None, sure: float = 0.6) -> str:
    links = [Link(one.id, other.id, "key", "", sure) for one in findings for other in findings if one.onset < other.onset]
    causes = rank_causes(findings, links, groups or [], topology or Topology())
    assert sum(cause.score for cause in causes) == pytest.approx(1.0)
    assert all(0 <= part <= 1 for cause in causes for part in (cause.onset, cause.upstream, cause.strength, cause.score))
    return causes[0].node[1]


def test_who_began_is_the_cause_when_nothing_else_is_known() -> None:
    assert best([finding("web", 40), finding("database", 0), finding("shop", 20)]) == "database"


def test_whom_the_failing_messages_name_is_the_cause_though_its_log_came_later() -> None:
    victim = finding("shop", 0, sampled=10, needs={("application", "database"): 9})
    assert best([victim, finding("database", 12)]) == "database"


def test_in_transactions_that_failed_in_both_the_first_one_counts() -> None:
    shop, pay = ("application", "shop"), ("application", "pay")
    groups = [{pay: at, shop: at + 5} for at in range(20)]
    assert best([finding("shop", 0), finding("pay", 1)], groups) == "pay"


def test_a_known_dependency_decides_what_time_does_not() -> None:
    assert best([finding("shop", 0), finding("database", 3)], topology=Topology([("shop", "database")])) == "database"


def test_something_loud_that_nothing_leads_to_is_not_the_cause() -> None:
    noise = finding("agent", -20, surprise=300)
    shop = finding("shop", 20, sampled=10, needs={("application", "database"): 8})
    database = finding("database", 0)
    links = [Link(database.id, shop.id, "key", "", 0.9), Link(noise.id, database.id, "time", "", 0.5)]
    assert rank_causes([noise, shop, database], links, [], Topology())[0].node[1] == "database"


def test_a_weak_early_finding_does_not_say_when_a_service_began() -> None:
    early = finding("shop", -100, surprise=1.0)
    assert best([early, finding("shop", 30), finding("database", 0)]) == "database"


def test_an_incident_needs_errors_in_more_than_one_place_or_for_long() -> None:
    assert is_serious([finding("shop", 0), finding("database", 5)])
    assert not is_serious([finding("shop", 0)])
    assert not is_serious([finding("shop", 0, severity=13), finding("database", 5, severity=13)])
    assert not is_serious([finding("shop", 0, observed=2), finding("database", 5, observed=1)])
    assert is_serious([finding("shop", 0, template=1), finding("shop", 3, template=2)])
    assert not is_serious([finding("shop", 0, template=1, last=1001), finding("shop", 3, template=2, last=1001)])
    assert is_serious([finding("shop", 0), finding("shop", 9, detector="volume_drop", severity=0, template=None)])
    assert is_serious([finding("shop", 0, severity=21)])
    assert not is_serious([])
