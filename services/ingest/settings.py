"""Settings of the ingest service."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator

from kit.settings import Settings
from services.ingest.receivers.networks import Networks

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
    otlp_message_bytes: Annotated[int, Field(ge=MEBIBYTE)] = 8 * MEBIBYTE
    """Largest message of OTLP over gRPC, before and after decompression; ELIS_MAX_BODY_BYTES bounds it too."""
    max_record_bytes: Annotated[int, Field(ge=1024)] = MEBIBYTE
    """Largest text of one record; a larger one is rejected."""
    max_pending_bytes: Annotated[int, Field(ge=MEBIBYTE)] = 96 * MEBIBYTE
    """Bytes in work at once, where a body counts three times: itself and what is made of it. Beyond it requests are refused, to be tried again."""
    elastic_version: Annotated[str, Field(pattern=r"^\d{1,3}\.\d{1,3}\.\d{1,3}$")] = "9.99.0"
    """Version of Elasticsearch that agents are told. Beats refuse a server older than themselves, so the default is ahead of theirs."""
    max_attributes: Annotated[int, Field(ge=8, le=10_000)] = 256
    """Most attributes of an event that are kept apart; the others become one attribute, `elis.overflow`, as JSON."""
    max_block_events: Annotated[int, Field(ge=1, le=65_536)] = 16_384
    """Most events in a block."""
    commit_wait: timedelta = timedelta(milliseconds=2)
    """How long a request waits for others to be committed with; what came while another commit was under way is committed right after it."""
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

    token_events_per_second: Annotated[int, Field(ge=0)] = 0
    """Events that each token, and each other sender, may send per second when it has no limit of its own; 0: any number."""
    token_bytes_per_second: Annotated[int, Field(ge=0)] = 0
    """The same in bytes, decompressed."""
    dependency_days: Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)] = 30
    """Days that dependencies of services, learned from traces, are kept."""
    hec_strict: bool = False
    """Whether Splunk envelopes with members that Splunk does not know are refused, as splunkd does."""
    hec_query_token: bool = False
    """Whether Splunk clients may send their token in the query (`?token=`), where proxies log it."""

    socket_connections: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Connections of each stream port (syslog over TCP, syslog over TLS, Fluent); further ones are closed at once."""
    socket_idle_timeout: timedelta = timedelta(hours=24)
    """A connection of those ports that is silent for so long is closed. Plain syslog senders may lose a message then."""
    tls_certificate: str = ""
    """File with the certificate chain (PEM) of syslog over TLS and, with ELIS_FLUENT_TLS, of Fluent. Empty: no port for syslog over TLS."""
    tls_key: str = ""
    """File with the private key (PEM) of the certificate."""
    syslog_allow: str = "127.0.0.0/8, ::1/128"
    """Networks that may send syslog, separated by commas. `10.1.0.0/16=switches` names the source of their messages."""
    syslog_source: Annotated[str, Field(min_length=1, max_length=200)] = "syslog"
    """Source of syslog messages from networks that name none."""
    syslog_message_bytes: Annotated[int, Field(ge=1024, le=MEBIBYTE)] = 64 * 1024
    """Largest syslog message; a larger one is rejected."""
    syslog_client_ca: str = ""
    """File with the CA certificates (PEM) of syslog clients. Set, TLS clients must show a certificate, and may come from any network."""
    fluent_shared_key: SecretStr = SecretStr("")
    """Shared key of Fluent clients. Empty: the port is opened for programs of the same machine only, which need none."""
    fluent_users: SecretStr = SecretStr("")
    """Users of Fluent clients as NAME:PASSWORD, separated by commas; set, each client must be one of them. Needs a shared key."""
    fluent_source: Annotated[str, Field(max_length=200)] = ""
    """Source of all records from Fluent clients. Empty: the service of a Kubernetes pod, else the first part of the tag."""
    fluent_message_bytes: Annotated[int, Field(ge=64 * 1024, le=32 * MEBIBYTE)] = 16 * MEBIBYTE
    """Largest message (chunk) of a Fluent client, before and after decompression; the connection of a larger one is closed."""
    fluent_tls: bool = False
    """Whether the Fluent port speaks TLS, with the certificate of ELIS_TLS_CERTIFICATE."""

    @property
    def fluent_accounts(self) -> list[str]:
        """The users of Fluent clients, each as NAME:PASSWORD."""
        return _split(self.fluent_users)

    @property
    def masking_keys(self) -> list[bytes]:
        """The masking keys, the current one first."""
        return [key.encode() for key in (self.masking_key.get_secret_value(), *_split(self.masking_old_keys))]

    @property
    def seal_keys(self) -> list[bytes]:
        """The seal keys, the current one first."""
        return [bytes.fromhex(key) for key in (self.seal_key.get_secret_value(), *_split(self.seal_old_keys))]

    @field_validator("syslog_allow")
    @classmethod
    def _check_syslog_allow(cls, value: str) -> str:
        Networks(value, "syslog")
        return value

    @field_validator("fluent_users")
    @classmethod
    def _check_fluent_users(cls, value: SecretStr) -> SecretStr:
        if not all(name and colon and password for name, colon, password in (user.partition(":") for user in _split(value))):
            raise ValueError("must be users as NAME:PASSWORD, separated by commas")
        return value

    @model_validator(mode="after")
    def _check_sockets(self) -> IngestSettings:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("ELIS_TLS_CERTIFICATE and ELIS_TLS_KEY must be set together")
        if self.fluent_tls and not self.tls_certificate:
            raise ValueError("ELIS_FLUENT_TLS needs ELIS_TLS_CERTIFICATE and ELIS_TLS_KEY")
        if self.fluent_users.get_secret_value() and not self.fluent_shared_key.get_secret_value():
            raise ValueError("ELIS_FLUENT_USERS needs ELIS_FLUENT_SHARED_KEY")
        return self

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
