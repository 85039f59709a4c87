"""Templates as callers see them: groups of fingerprints with their counts."""

from __future__ import annotations

import re
from collections.abc import Sequence

import asyncpg

from elis.correlate.v1 import correlate_pb2 as pb
from kit.errors import InvalidArgument
from kit.paging import clamp_page_size, decode_token, encode_token
from services.correlate.dimensions import to_hex, to_signed

MAX_FINGERPRINTS = 10_000
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_TEMPLATES = """
    SELECT template.id, template.number, template.text, array_agg(fingerprint.fingerprint ORDER BY fingerprint.id) AS fingerprints,
           sum(events)::bigint AS events, min(first_minute) AS first_minute, max(last_minute) AS last_minute
    FROM correlate.template
    JOIN correlate.fingerprint ON fingerprint.template = template.id
    JOIN correlate.fingerprint_total ON fingerprint_id = fingerprint.id
    WHERE template.id IN ({})
    GROUP BY template.id ORDER BY template.number
"""
_OF_FINGERPRINTS = _TEMPLATES.format("SELECT template FROM correlate.fingerprint WHERE fingerprint = ANY($1::bigint[])")
_BY_FIRST_SIGHT = _TEMPLATES.format("SELECT id FROM correlate.template WHERE number > $1 ORDER BY number LIMIT $2")


async def resolve_templates(pool: asyncpg.Pool, fingerprints: Sequence[str]) -> list[pb.Template]:
    """Returns the templates of fingerprints, each with all of its fingerprints; unknown ones are left out."""
    if len(fingerprints) > MAX_FINGERPRINTS:
        raise InvalidArgument(f"at most {MAX_FINGERPRINTS} fingerprints can be resolved at once, not {len(fingerprints)}")
    for text in fingerprints:
        if not _FINGERPRINT.fullmatch(text):
            raise InvalidArgument(f"a fingerprint has 16 hexadecimal digits, unlike {text[:40]!r}", fingerprint=text[:40])
    wanted = [to_signed(int(text, 16)) for text in fingerprints]
    rows = await pool.fetch(_OF_FINGERPRINTS, wanted)
    return [_to_message(row) for row in rows]


async def list_templates(pool: asyncpg.Pool, page_size: int, page_token: str) -> pb.ListTemplatesResponse:
    """Returns a page of templates by first sight."""
    size = clamp_page_size(page_size)
    after = (decode_token(page_token, int) or (0,))[0]
    rows = await pool.fetch(_BY_FIRST_SIGHT, after, size + 1)
    token = encode_token(rows[size - 1]["number"]) if len(rows) > size else ""
    return pb.ListTemplatesResponse(templates=[_to_message(row) for row in rows[:size]], next_page_token=token)


def _to_message(row: asyncpg.Record) -> pb.Template:
    template = pb.Template(
        id=to_hex(row["id"]),
        text=row["text"],
        fingerprints=[to_hex(value) for value in row["fingerprints"]],
        events=row["events"],
    )
    template.first_seen_at.FromSeconds(row["first_minute"] * 60)
    template.last_seen_at.FromSeconds(row["last_minute"] * 60 + 59)
    return template
