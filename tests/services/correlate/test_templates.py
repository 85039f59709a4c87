"""Templates are resolved and listed as soon as their events are counted; what the miner merges moves together."""

from __future__ import annotations

import pytest
import xxhash

from elis.correlate.v1 import correlate_pb2 as pb
from kit.errors import InvalidArgument
from tests.services.correlate.peer import START, events
from tests.services.correlate.stage import Stage, eventually

USERS = ("anna", "bert", "carl", "dora", "emil", "fred")


def fingerprint(text: str) -> str:
    return f"{xxhash.xxh64_intdigest(text.encode()):016x}"


async def test_texts_that_differ_in_a_variable_become_one_template(stage: Stage) -> None:
    bodies = [f"logon of user {user} was accepted" for user in USERS]
    stage.log.add(events(*((number, "portal", body, 9) for number, body in enumerate(bodies))))
    stage.log.add(events((70, "portal", "shutting down", 13), (71, "portal", bodies[0], 9)))
    async with stage.correlate() as correlate:

        async def resolve(*fingerprints: str) -> list[pb.Template]:
            response: pb.ResolveTemplatesResponse = await correlate.ResolveTemplates(pb.ResolveTemplatesRequest(fingerprints=fingerprints))
            return list(response.templates)

        async def merged() -> bool:
            templates = await resolve(fingerprint(bodies[0]))
            return bool(templates) and templates[0].events == 7

        await eventually(merged)
        [template] = await resolve(fingerprint(bodies[3]), fingerprint(bodies[4]), "0" * 16)
        assert template.text == "logon of user <*> was accepted"
        assert set(template.fingerprints) == {fingerprint(body) for body in bodies}
        assert template.first_seen_at.ToNanoseconds() == START
        assert template.last_seen_at.ToNanoseconds() >= START + 60_000_000_000
        first: pb.ListTemplatesResponse = await correlate.ListTemplates(pb.ListTemplatesRequest(page_size=1))
        second: pb.ListTemplatesResponse = await correlate.ListTemplates(pb.ListTemplatesRequest(page_size=1, page_token=first.next_page_token))
        assert [listed.text for listed in (*first.templates, *second.templates)] == ["logon of user <*> was accepted", "shutting down"]
        assert first.templates[0].id == template.id
        assert not second.next_page_token


async def test_bad_fingerprints_and_pages_are_refused(stage: Stage) -> None:
    async with stage.correlate() as correlate:
        for bad in ("xyz", "0" * 15, "0" * 17, "g" * 16):
            with pytest.raises(InvalidArgument):
                await correlate.ResolveTemplates(pb.ResolveTemplatesRequest(fingerprints=[bad]))
        with pytest.raises(InvalidArgument):
            await correlate.ResolveTemplates(pb.ResolveTemplatesRequest(fingerprints=["0" * 16] * 10_001))
        with pytest.raises(InvalidArgument):
            await correlate.ListTemplates(pb.ListTemplatesRequest(page_size=101))
        with pytest.raises(InvalidArgument):
            await correlate.ListTemplates(pb.ListTemplatesRequest(page_token="nonsense"))
