"""RPCs of log formats: what would become of a text, without storing it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import orjson

from elis.ingest.v1 import formats_pb2 as pb
from elis.ingest.v1 import formats_pb2_grpc
from kit.auth import requires
from kit.errors import InvalidArgument
from services.ingest.attributes import bound_attributes
from services.ingest.batch import Batch
from services.ingest.formats import FORMATS, SAMPLE_LINES, Format, parse_batch, rank_formats
from services.ingest.joining import join_rows
from services.ingest.masking import Masker
from services.ingest.zones import find_zone

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

MAX_SAMPLE_BYTES: Final = 64 * 1024
MAX_RECORDS: Final = 200
"""Records that are shown; all are counted."""
MAX_CANDIDATES: Final = 5
SAMPLE_SOURCE: Final = "sample"


class FormatServicer(formats_pb2_grpc.FormatServiceServicer):
    """Tries formats on texts."""

    def __init__(self, masker: Masker, max_attributes: int) -> None:
        """`masker`: masks what is shown, as it masks what is stored. `max_attributes`: attributes of an event that are kept apart."""
        self._masker = masker
        self._max_attributes = max_attributes
        self._trials = asyncio.Semaphore(1)

    @requires("sources:read")
    async def TestFormat(self, request: pb.TestFormatRequest, _: RpcContext) -> pb.TestFormatResponse:
        """Parses a text by a format, or the one that it looks like. One trial at a time, beside the event loop."""
        size = len(request.sample.encode())
        if not request.sample.strip():
            raise InvalidArgument("the sample is empty; give some lines of the log")
        if size > MAX_SAMPLE_BYTES:
            raise InvalidArgument(f"a sample has at most {MAX_SAMPLE_BYTES} bytes, not {size}")
        if request.format and request.format not in FORMATS:
            raise InvalidArgument(f"there is no format {request.format[:64]!r}; choose one of {', '.join(FORMATS)}")
        find_zone(request.time_zone)
        async with self._trials:
            return await asyncio.to_thread(try_format, request, self._masker, self._max_attributes)


def try_format(request: pb.TestFormatRequest, masker: Masker, max_attributes: int) -> pb.TestFormatResponse:
    """Returns what the request's sample would become: detected, cut, parsed, joined and masked as if it had come in."""
    lines = [line.removesuffix("\r") for line in request.sample.removeprefix("\ufeff").split("\n")]
    ranked = rank_formats([line for line in lines if line.strip()][:SAMPLE_LINES])
    log_format, confidence = _choose(request.format, ranked)
    texts, batch = Batch(), Batch()
    for record in log_format.split(lines):
        texts.append(record, source=SAMPLE_SOURCE)
        batch.append(record, source=SAMPLE_SOURCE)
    matched = parse_batch(log_format.name, batch, range(len(batch)), find_zone(request.time_zone))
    rows = join_rows(batch, range(len(batch)), [0] * len(batch))
    # A masker of its own: what is tried is not counted as masked.
    trial = masker.with_rules(masker.rule_set)
    trial.mask_batch(texts)
    trial.mask_batch(batch)
    bound_attributes(batch, rows, max_attributes)
    return pb.TestFormatResponse(
        format=log_format.name,
        detected_by="declared" if request.format else "detected",
        confidence=confidence,
        candidates=[pb.FormatCandidate(format=other.name, confidence=sure) for other, sure in ranked if other is not log_format][:MAX_CANDIDATES],
        records=[_show(texts, batch, row) for row in rows[:MAX_RECORDS]],
        total=len(rows),
        matched=matched,
        lines=sum(1 for line in lines if line.strip()),
        system=log_format.system,
    )


def _choose(name: str, ranked: list[tuple[Format, float]]) -> tuple[Format, float]:
    """Returns the format to use and how sure it is of the text."""
    if not name:
        return ranked[0]
    return FORMATS[name], next((sure for candidate, sure in ranked if candidate.name == name), 0.0)


def _show(texts: Batch, batch: Batch, row: int) -> pb.ParsedRecord:
    attributes = batch.attributes[row]
    return pb.ParsedRecord(
        text=texts.body[row],
        timestamp=batch.timestamp[row] or None,
        severity_number=batch.severity_number[row],
        severity_text=batch.severity_text[row],
        host=batch.host[row],
        service=batch.service[row],
        body=batch.body[row],
        attributes_json=orjson.dumps(attributes, option=orjson.OPT_NON_STR_KEYS) if attributes else b"",
        trace_id=batch.trace_id[row],
        span_id=batch.span_id[row],
    )
