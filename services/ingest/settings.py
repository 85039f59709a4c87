"""Settings of the ingest service."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from kit.settings import Settings

MEBIBYTE = 1024 * 1024
MAX_RETENTION_DAYS = 36_500


class IngestSettings(Settings):
    """What ingest needs beyond the shared settings."""

    masking_key: SecretStr = Field(min_length=32)
    """Key of the tokens that stand for masked values: equal values get equal tokens under it."""
    seal_key: SecretStr = Field(min_length=64, max_length=64)
    """256-bit key, hexadecimal, that seals the raw bytes of rejected events."""
    max_body_bytes: Annotated[int, Field(ge=MEBIBYTE)] = 32 * MEBIBYTE
    """Largest request body, before and after decompression."""
    max_record_bytes: Annotated[int, Field(ge=1024)] = MEBIBYTE
    """Largest text of one record; a larger one is rejected."""
    max_pending_bytes: Annotated[int, Field(ge=MEBIBYTE)] = 96 * MEBIBYTE
    """Bodies that may be in work at once; beyond it whole requests are refused with a retryable reply."""
    max_block_events: Annotated[int, Field(ge=1, le=65_536)] = 16_384
    """Most events in a block."""
    commit_wait: timedelta = timedelta(milliseconds=2)
    """How long a commit waits for company."""
    committers: Annotated[int, Field(ge=1, le=16)] = 2
    """Commits in flight at once."""
    digest_lifetime: timedelta = timedelta(days=2)
    """How long a request is recognised when it is sent again."""
    untimed_digest_lifetime: timedelta = timedelta(seconds=60)
    """The same for requests whose records carry no time of their own (docs/decisions/0005)."""
    oldest_event: timedelta = timedelta(days=365 * 30)
    """An event older than this keeps its time as an attribute and counts as of now."""
    retention_days: Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)] = 30
    """Days that events are kept, counted from the later of their day and their arrival; a source may have its own number."""
    rejected_retention_days: Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)] = 30
    """Days that rejected records are kept."""
    future_tolerance: timedelta = timedelta(hours=24)
    """An event further in the future than this keeps its time as an attribute and counts as of now."""

    @field_validator("seal_key")
    @classmethod
    def _check_seal_key(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch("[0-9a-f]{64}", value.get_secret_value()):
            raise ValueError("must be 64 hexadecimal digits (openssl rand -hex 32)")
        return value
