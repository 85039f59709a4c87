"""Isolation: finds the records that ELIS itself fails on, so that their neighbours are stored and no sender tries for ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
import structlog

from services.ingest.batch import Batch
from services.ingest.drafts import build_block, draft_blocks
from services.ingest.groups import Submission
from services.ingest.pipeline import Pipeline
from services.ingest.rejections import Rejection, RejectReason

log = structlog.get_logger()

MAX_TRIES = 20_000
"""Halves of a request that are tried; beyond it the request stays refused."""
MAX_BLOCK_EVENTS = 65_536
UNREADABLE: Final = "elis.unreadable"
"""Attribute of a rejected record that holds, as text, what came with it when no JSON can hold that."""


class TooManyTries(RuntimeError):
    """So many records of a request fail that looking for them takes too long."""


def find_failing(pipeline: Pipeline, submission: Submission) -> dict[int, Rejection]:
    """Returns a rejection for each row of a request that cannot be prepared or encoded, by halving; raises TooManyTries.

    The request's batch stays as it was sent. Records that fail only together are not found.
    """
    failing: dict[int, Rejection] = {}
    waiting: list[Sequence[int]] = [range(len(submission.batch))]
    tries = 0
    while waiting:
        rows = waiting.pop()
        tries += 1
        if tries > MAX_TRIES:
            raise TooManyTries(f"after {tries} tries {len(failing)} of {len(submission.batch)} records fail, and others may")
        error = _try(pipeline, submission, rows)
        if error is None:
            continue
        if len(rows) > 1:
            middle = len(rows) // 2
            waiting += [rows[middle:], rows[:middle]]
            continue
        [row] = rows
        batch = submission.batch
        # The error may quote the record: its kind alone is kept.
        detail = f"{type(error).__name__} while the record was parsed, masked or encoded"
        raw = batch.body[row].encode("utf-8", "surrogatepass")
        failing[row] = Rejection(batch.source[row], RejectReason.PROCESSING_FAILED, detail, raw, _fields_of(batch, row))
        log.error("record not processed", source=batch.source[row], kind=type(error).__name__)
    return failing


def _fields_of(batch: Batch, row: int) -> dict[str, Any]:
    fields = batch.fields_of(row)
    try:
        orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return {"attributes": {UNREADABLE: repr(fields)}}
    return fields


def _try(pipeline: Pipeline, submission: Submission, rows: Sequence[int]) -> Exception | None:
    """Returns what goes wrong with these rows; None: nothing does."""
    formats = [submission.formats[row] for row in rows] if submission.formats else None
    batch = submission.batch.pick(rows)
    try:
        prepared = pipeline.prepare(batch, observed_at=[submission.observed_at] * len(rows), formats=formats)
        for draft in draft_blocks(prepared, prepared.rows, MAX_BLOCK_EVENTS):
            build_block(prepared, draft, 1)
    except Exception as error:  # whatever it is: the records that it comes with are told apart
        return error
    return None
