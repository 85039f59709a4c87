"""Links say why two findings belong together, and are surer the more there is to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.correlate.findings import Finding
from services.correlate.history import Counted, History
from services.correlate.links import Linker, combine, group_findings
from services.correlate.samples import Samples
from services.correlate.topology import Names, Topology
from tests.services.correlate.test_causes import finding


class NoEvents:
    """Ingest has forgotten everything."""

    async def read_events(self, ids: Sequence[int]) -> list[bytes]:
        return []

    async def read_block(self, block_id: int) -> list[bytes]:
        return []


def linker(topology: Topology | None = None) -> Linker:
    topology = topology or Topology()
    return Linker(Samples(NoEvents(), topology), topology)


def with_keys(service: str, after: float, *keys: str, most: bool = False, **more: Any) -> Finding:
    made = finding(service, after, sampled=10, keys=dict.fromkeys(keys, 7), **more)
    made.key_counts.update(dict.fromkeys(keys, 10 if most else 1))
    return made


def test_errors_that_begin_together_are_linked_by_time_and_others_are_not() -> None:
    pair = [finding("shop", 0), finding("database", 10)]
    [link] = linker().compare(*pair)
    assert (link.rule, link.detail) == ("time", "10 s apart")
    assert len(group_findings(pair, combine([link]))) == 1
    late = [finding("shop", 0), finding("database", 100)]
    assert len(group_findings(late, combine(linker().compare(*late)))) == 2


def test_a_transaction_that_failed_in_both_is_nearly_proof() -> None:
    shop, database = with_keys("shop", 0, "id:so-1", "trace:abc"), with_keys("database", 90, "id:so-1", "trace:abc")
    links = {link.rule: link for link in linker().compare(shop, database)}
    assert links["key"].detail == "id so-1"
    assert links["key"].confidence == links["trace"].confidence == 0.75
    assert links["key"].evidence == (7,)
    assert combine(list(links.values()))[shop.id, database.id] > 0.9


def test_what_most_events_are_about_counts_more_than_what_is_always_about() -> None:
    linking = linker()
    samples = linking._samples
    for number in range(100):
        keys = ["address:10.0.0.1"] if number < 5 else ["address:10.0.0.9"]
        for service in ("shop", "database"):
            samples._book.meet_ordinary(("application", service), keys, 0)

    def sure(key: str) -> float:
        links = linking.compare(with_keys("shop", 0, key, most=True), with_keys("database", 200, key, most=True))
        return next(link.confidence for link in links if link.rule == "key")

    assert sure("address:10.0.0.1") == 0.5
    assert sure("address:10.0.0.9") == 0.25


def test_new_words_in_both_link_and_old_ones_do_not() -> None:
    linking = linker()
    said = {"no space left on", "BATCH_SD"}
    shop, database = finding("shop", 0, phrases=set(said)), finding("database", 200, phrases=set(said))
    links = [link for link in linking.compare(shop, database) if link.rule == "key"]
    assert [link.confidence for link in links] == [0.6]
    assert "no space left on" in links[0].detail
    linking.learn_phrases(said, 900)
    assert [link for link in linking.compare(shop, database) if link.rule == "key"] == []


def test_a_dependency_links_what_begins_near_in_time() -> None:
    linking = linker(Topology([("shop", "database")]))
    near = [link for link in linking.compare(finding("shop", 30), finding("database", 0)) if link.rule == "topology"]
    far = [link for link in linking.compare(finding("shop", 900), finding("database", 0)) if link.rule == "topology"]
    assert near[0].detail == "shop needs database (declared)"
    assert near[0].confidence > 0.7 > 0.2 > far[0].confidence


def test_groups_are_transitive() -> None:
    one, two, three, four = (finding(name, after) for name, after in (("a", 0), ("b", 15), ("c", 30), ("d", 400)))
    links = linker().link([one, two, three, four], [one, two, three, four])
    groups = group_findings([one, two, three, four], combine(links))
    assert [[item.service for item in group] for group in groups] == [["a", "b", "c"], ["d"]]


async def test_evidence_that_is_gone_leaves_a_finding_without() -> None:
    history = History(10)
    made = finding("shop", 0)
    history.put(1000, [Counted(track, 5, 77) for track in made.tracks])
    samples = Samples(NoEvents(), Topology())
    await samples.study([made], [made], history, Names({}), {})
    assert made.evidence == []
