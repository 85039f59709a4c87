"""Settings of the ingest service."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from kit.settings import Settings

MEBIBYTE = 1024 * 1024
MAX_RETENTION_DAYS = 36_500
MIN_MASKING_KEY = 32
MAX_OLD_MASKING_KEYS = 4
"""Each costs an HMAC per masked value."""


class IngestSettings(Settings):
    """What ingest needs beyond the shared settings."""

    masking_key: SecretStr = Field(min_length=MIN_MASKING_KEY)
    """Key of the tokens that stand for masked values: equal values get equal tokens under it."""
    masking_old_keys: SecretStr = SecretStr("")
    """Former masking keys, separated by commas, at most 4: tokens made under them stay joinable with new ones."""
    seal_key: SecretStr = Field(min_length=64, max_length=64)
    """256-bit key, hexadecimal, that seals the raw bytes of rejected events and the values of sealed masking rules."""
    seal_old_keys: SecretStr = SecretStr("")
    """Former seal keys, separated by commas: values of sealed masking rules that they sealed can still be revealed."""
    max_body_bytes: Annotated[int, Field(ge=MEBIBYTE)] = 32 * MEBIBYTE
    """Largest request body, before and after decompression."""
    max_record_bytes: Annotated[int, Field(ge=1024)] = MEBIBYTE
    """Largest text of one record; a larger one is rejected."""
    max_pending_bytes: Annotated[int, Field(ge=MEBIBYTE)] = 96 * MEBIBYTE
    """Bodies that may be in work at once; beyond it whole requests are refused with a retryable reply."""
    elastic_version: Annotated[str, Field(pattern=r"^\d{1,3}\.\d{1,3}\.\d{1,3}$")] = "9.99.0"
    """Version of Elasticsearch that agents are told. Beats refuse a server older than themselves, so the default is ahead of theirs."""
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
    rejected_bytes_per_day: Annotated[int, Field(ge=MEBIBYTE)] = 256 * MEBIBYTE
    """Sealed bytes of rejected records that are kept per source and day; beyond it they are counted only."""
    rejected_retention_days: Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)] = 30
    """Days that rejected records are kept."""
    future_tolerance: timedelta = timedelta(hours=24)
    """An event further in the future than this keeps its time as an attribute and counts as of now."""

    dependency_days: Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)] = 30
    """Days that dependencies of services, learned from traces, are kept."""
    hec_strict: bool = False
    """Whether Splunk envelopes with members that Splunk does not know are refused, as splunkd does."""
    hec_query_token: bool = False
    """Whether Splunk clients may send their token in the query (`?token=`), where proxies log it."""

    @property
    def masking_keys(self) -> list[bytes]:
        """The masking keys, the current one first."""
        return [key.encode() for key in (self.masking_key.get_secret_value(), *_split(self.masking_old_keys))]

    @property
    def seal_keys(self) -> list[bytes]:
        """The seal keys, the current one first."""
        return [bytes.fromhex(key) for key in (self.seal_key.get_secret_value(), *_split(self.seal_old_keys))]

    @field_validator("masking_old_keys")
    @classmethod
    def _check_masking_old_keys(cls, value: SecretStr) -> SecretStr:
        keys = _split(value)
        if len(keys) > MAX_OLD_MASKING_KEYS or any(len(key) < MIN_MASKING_KEY for key in keys):
            raise ValueError(f"must be at most {MAX_OLD_MASKING_KEYS} keys of at least {MIN_MASKING_KEY} characters, separated by commas")
        return value

    @field_validator("seal_old_keys")
    @classmethod
    def _check_seal_old_keys(cls, value: SecretStr) -> SecretStr:
        if not all(re.fullmatch("[0-9a-f]{64}", key) for key in _split(value)):
            raise ValueError("must be keys of 64 hexadecimal digits, separated by commas")
        return value

    @field_validator("seal_key")
    @classmethod
    def _check_seal_key(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch("[0-9a-f]{64}", value.get_secret_value()):
            raise ValueError("must be 64 hexadecimal digits (openssl rand -hex 32)")
        return value


def _split(keys: SecretStr) -> list[str]:
    return [key.strip() for key in keys.get_secret_value().split(",") if key.strip()]
