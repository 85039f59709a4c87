"""Digests that recognise a request when it is sent again, however it is compressed or framed."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha256

import orjson

from services.ingest.batch import Batch
from services.ingest.rejections import Rejection

DIGEST_BYTES = 16


def digest_request(token_id: str, batch: Batch, rejections: Sequence[Rejection] = (), idempotency_key: str = "") -> bytes:
    """Returns the digest of a request: of the sender's key when it gave one, else of its decoded records.

    It is taken before parsing, so it depends only on what was sent and by whom.
    """
    if idempotency_key:
        return blake2b(orjson.dumps([token_id, idempotency_key]), digest_size=DIGEST_BYTES, person=b"elis-key").digest()
    columns = [token_id, *batch.columns(), [rejection.raw.hex() for rejection in rejections]]
    try:
        content = orjson.dumps(columns, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # A record has something in it that ELIS fails on later, by itself: the request must get that far.
        content = repr(columns).encode("utf-8", "surrogatepass")
    # Of what is long: processors have instructions for SHA-256, which takes less than half the time of BLAKE2 with them.
    return sha256(content).digest()[:DIGEST_BYTES]


def digest_record(token_id: str, key: str) -> bytes:
    """Returns the digest of one record that its sender gave an id of its own, in whatever request it comes."""
    return blake2b(orjson.dumps([token_id, key]), digest_size=DIGEST_BYTES, person=b"elis-record").digest()
