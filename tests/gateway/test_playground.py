from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from gateway.admission import parse_document
from gateway.playground import CONTENT_POLICY, STATIC
from gateway.schema import create_schema
from tests.gateway.stack import Gateway

EXAMPLES = re.findall(r"query: `(.*?)`", (STATIC / "source" / "examples.js").read_text(), re.DOTALL)


class Page(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._script = tag == "script"
        for name in ("src", "href"):
            if given.get(name):
                self.loaded.append(str(given[name]))
        self.inline += [name for name in given if name.startswith("on") or name == "style"]

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._script = False


async def test_the_page_and_everything_it_loads_come_from_here(gateway: Gateway) -> None:
    response = await gateway.http.get("/")
    page = Page()
    page.feed(response.text)
    assert page.inline == []
    assert len(page.loaded) == 3
    for path in page.loaded:
        assert path.startswith("/static/")
        loaded = await gateway.http.get(path)
        assert loaded.status_code == 200
        again = await gateway.http.get(path, headers={"if-none-match": loaded.headers["etag"]})
        assert again.status_code == 304
    assert response.headers["content-security-policy"] == CONTENT_POLICY
    styles = (STATIC / "playground.css").read_text()
    assert not re.search(r"url\(['\"]?(?:https?:)?//", styles)
    assert not re.search(r"@import", styles)


async def test_nothing_beside_the_files_is_served(gateway: Gateway) -> None:
    for path in ("/static/../settings.py", "/static/%2e%2e/settings.py", "/static/nothing.js", "/static/"):
        assert (await gateway.http.get(path)).status_code == 404


def test_there_are_examples_of_everything() -> None:
    names = re.findall(r'^    name: "(.*?)"', (STATIC / "source" / "examples.js").read_text(), re.MULTILINE)
    assert names == ["latest errors", "histogram and facets", "patterns", "incidents", "statistics", "ingest", "tail", "login"]
    assert len(EXAMPLES) == len(names)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_valid_and_in_the_built_page(example: str) -> None:
    schema = create_schema()._schema
    assert parse_document(example).validate(schema) == []
    assert example in (STATIC / "playground.js").read_text()


def test_the_page_is_small_enough() -> None:
    assert sum(file.stat().st_size for file in STATIC.iterdir() if file.is_file()) < 3_000_000


def test_every_package_in_the_page_is_named_with_its_licence() -> None:
    licences = (STATIC / "LICENSES.txt").read_text()
    for package in ("graphiql 3.9.0", "graphql-ws", "react 18.3.1", "react-dom 18.3.1", "codemirror 5"):
        assert package in licences
    assert not re.search(r": (?:GPL|AGPL|undefined)", licences)
