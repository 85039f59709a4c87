"""`elis ingest` of the real logs of LogHub: everything goes in once, is parsed, found and grouped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.stack import Up, run_elis
from tests.system.api import Api, eventually, name_source

LOGHUB = Path(__file__).parents[3] / "shared" / "data" / "loghub"
FILES = sorted(LOGHUB.glob("*/*_2k.log"))
LINES = 2_000
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not FILES, reason=f"the real logs are not there: {LOGHUB} (LogHub, 2,000 lines of each system)"),
]

FRESH = "{ events(first: 1) { asOf lagSeconds edges { node { observedAt } } } }"
SPAN = """query($source: String!, $start: DateTime!, $end: DateTime!) {
  first: events(filter: {sources: [$source], start: $start, end: $end}, first: 1, order: OLDEST_FIRST) {
    totalCount edges { node { timestamp severity body attributes } } }
  facets(fields: ["severityText"], filter: {sources: [$source], start: $start, end: $end}) { facets { values { value count } } }
  patterns(filter: {sources: [$source], start: $start, end: $end}, size: 100) { total patterns { template count sampleEventId } }
}"""
APACHE = ("2005-12-04T00:00:00Z", "2005-12-06T00:00:00Z")
OPENSTACK = ("2017-05-16T00:00:00Z", "2017-05-17T00:00:00Z")
SPARK = ("2017-06-09T00:00:00Z", "2017-06-10T00:00:00Z")


@pytest.fixture(scope="module")
def source(stack: Up) -> str:
    """Name of the source that holds all the files, sent twice."""
    name = name_source("loghub")
    for run in ("accepted", "duplicates"):
        result = run_elis("ingest", *FILES, "--source", name, "--credentials", stack.data_dir / "credentials.json", "--json")
        assert result.returncode == 0, result.stderr
        counts = json.loads(result.stdout)
        assert {key: counts[key] for key in ("records", "accepted", "duplicates", "rejected")} == {
            "records": LINES * len(FILES),
            "accepted": 0,
            "duplicates": 0,
            "rejected": 0,
            run: LINES * len(FILES),
        }
    return name


@pytest.fixture(scope="module")
def indexed(source: str, api: Api) -> str:
    """The same when search has caught up: the lines spread over 650 days, each of which is an index."""
    eventually(lambda: api.query(FRESH)["events"]["lagSeconds"] < 3, 90)
    return source


def look(api: Api, source: str, span: tuple[str, str]) -> tuple[dict[str, Any], dict[str, int], dict[str, int]]:
    """Returns the first event, the events by severity text and by template of a span that one file fills."""
    answer = api.query(SPAN, {"source": source, "start": span[0], "end": span[1]})
    assert answer["first"]["totalCount"] == answer["patterns"]["total"]
    severities = {value["value"]: value["count"] for value in answer["facets"]["facets"][0]["values"]}
    return answer["first"]["edges"][0]["node"], severities, {row["template"]: row["count"] for row in answer["patterns"]["patterns"]}


def count_templates(name: str) -> int:
    """Returns how many templates the people of LogHub found in a file."""
    return len((LOGHUB / name / f"{name}_2k.log_templates.csv").read_text().splitlines()) - 1


def test_every_line_is_stored_and_found_once(api: Api, indexed: str) -> None:
    ids = [event["id"] for page in api.pages(indexed) for event in page]
    assert len(ids) == len(set(ids)) == LINES * len(FILES)
    rows = api.query("{ sources(first: 100) { edges { node { name events rejected } } } }")["sources"]["edges"]
    row = next((edge["node"] for edge in rows if edge["node"]["name"] == indexed), None)
    assert row is None or row["rejected"] == 0


def test_error_log_of_a_web_server(api: Api, indexed: str) -> None:
    first, severities, templates = look(api, indexed, APACHE)
    assert (first["timestamp"], first["severity"]) == ("2005-12-04T04:47:44.000000000Z", "INFO")
    assert first["body"] == "workerEnv.init() ok /etc/httpd/conf/workers2.properties"
    assert severities["notice"] == 1405
    assert severities["error"] == 595
    assert templates["workerEnv.init() ok <path>"] == 569
    assert templates["mod_jk child workerEnv in error state <num>"] == 539


@pytest.mark.parametrize(("name", "span", "severities"), [("OpenStack", OPENSTACK, {"INFO": 1969, "WARNING": 31}), ("Spark", SPARK, {"INFO": 2000})])
def test_lines_are_parsed_and_grouped(api: Api, indexed: str, name: str, span: tuple[str, str], severities: dict[str, int]) -> None:
    first, found, templates = look(api, indexed, span)
    assert found == severities
    assert first["attributes"]["component"]
    assert sum(templates.values()) > LINES * 0.9
    # About as many groups as people find in it: within a factor of two either way.
    assert count_templates(name) / 2 <= len(templates) <= count_templates(name) * 2


def test_a_phrase_is_found_in_all_of_them(api: Api, indexed: str) -> None:
    query = 'query($s: String!) { events(filter: {sources: [$s], query: "\\"Failed password\\" AND root"}, first: 1000) { edges { node { body service } } } }'
    rows = [edge["node"] for edge in api.query(query, {"s": indexed})["events"]["edges"]]
    expected = [line for line in (LOGHUB / "OpenSSH" / "OpenSSH_2k.log").read_text().splitlines() if "Failed password" in line and "root" in line]
    assert len(rows) == len(expected) > 100
    assert {row["service"] for row in rows} == {"sshd"}
