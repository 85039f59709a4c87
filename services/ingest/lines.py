"""The canonical line: one event as one JSON object, encoded once and passed on as bytes."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from services.ingest.batch import Batch

ORDINAL_BITS = 20
"""event_id = (block id << ORDINAL_BITS) + ordinal in the block."""


def encode_lines(
    batch: Batch,
    rows: Sequence[int],
    *,
    timestamps: Sequence[int],
    observed_at: int,
    systems: Sequence[str],
    environments: Sequence[str],
    fingerprints: Sequence[int],
) -> list[bytes]:
    """Encodes rows of a batch; each result lacks the leading `{"event_id":N,` that `number_lines` adds.

    `timestamps`, `systems`, `environments` and `fingerprints` are columns parallel to the batch. Key order is
    fixed; keys from `environment` on are left out when their value is unknown.
    """
    dumps = orjson.dumps
    heads: dict[tuple[str, str], bytes] = {}
    tails: dict[tuple[str, str, str, str], bytes] = {}
    lines: list[bytes] = []
    observed = b',"observed_at":%d' % observed_at
    for row in rows:
        head_key = (batch.source[row], systems[row])
        head = heads.get(head_key)
        if head is None:
            head = heads[head_key] = observed + b',"source":%s,"system":%s' % (dumps(head_key[0]), dumps(head_key[1]))
        tail_key = (environments[row], batch.host[row], batch.service[row], batch.severity_text[row])
        tail = tails.get(tail_key)
        if tail is None:
            names = (b"environment", b"host", b"service", b"severity_text")
            tail = b"".join(b',"%s":%s' % (name, dumps(value)) for name, value in zip(names, tail_key, strict=True) if value)
            tails[tail_key] = tail
        line = b'"timestamp":%d%s,"severity_number":%d,"fingerprint":"%016x","body":%s%s' % (
            timestamps[row],
            head,
            batch.severity_number[row],
            fingerprints[row],
            dumps(batch.body[row]),
            tail,
        )
        attributes = batch.attributes[row]
        if attributes:
            line += b',"attributes":' + dumps(attributes, option=orjson.OPT_NON_STR_KEYS)
        if batch.trace_id[row]:
            line += b',"trace_id":"%s"' % batch.trace_id[row].encode()
        if batch.span_id[row]:
            line += b',"span_id":"%s"' % batch.span_id[row].encode()
        lines.append(line + b"}\n")
    return lines


def number_lines(lines: Sequence[bytes], block_id: int) -> bytes:
    """Joins lines into the content of a block, each with its event id in front."""
    first = block_id << ORDINAL_BITS
    return b"".join([b'{"event_id":%d,%s' % (number, line) for number, line in enumerate(lines, first)])
