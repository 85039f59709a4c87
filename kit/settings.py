"""Settings that every process shares; read once, from ELIS_* variables."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from kit.targets import TARGETS

Port = Annotated[int, Field(ge=1, le=65535)]


class Addresses(BaseModel):
    """gRPC addresses of the services. Empty: this machine, the port of the target table plus the offset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auth: str = ""
    """Address of auth, for example dns:///auth:50051. Empty: this machine, its port of the target table."""
    ingest: str = ""
    """The same of ingest."""
    search: str = ""
    """The same of search."""
    correlate: str = ""
    """The same of correlate."""


class Settings(BaseSettings):
    """What every process needs to know. Each process extends this with its own."""

    model_config = SettingsConfigDict(env_prefix="ELIS_", env_nested_delimiter="__", frozen=True, extra="ignore")

    database_url: SecretStr
    """PostgreSQL, for example postgresql://elis@db/elis."""
    redis_url: SecretStr
    """Redis or Valkey, for example redis://cache:6379/0 or unix:///run/valkey.sock."""
    service_secret: SecretStr = Field(min_length=32)
    """Shared by the targets: a target proves with it that it is one, and gets its own short-lived token."""
    data_dir: Path = Path("/var/lib/elis")
    """Folder for what a target keeps on disk (the Tantivy index)."""
    bind_host: str = "127.0.0.1"
    """Address that every port listens on. A pod sets 0.0.0.0."""
    port_offset: Annotated[int, Field(ge=0, le=15000)] = 0
    """Added to every port of the target table, so that stacks can share a machine."""
    addresses: Addresses = Addresses()
    token_issuer: str = "elis"
    """Name of this installation in access tokens; all its targets have the same."""
    call_timeout: timedelta = timedelta(seconds=5)
    """Deadline of a call to another target when the caller has none of its own."""
    drain_timeout: timedelta = timedelta(seconds=10)
    """How long in-flight work may go on after SIGTERM."""
    database_pool: Annotated[int, Field(ge=1, le=100)] = 8
    """PostgreSQL connections per process and pool."""
    log_level: str = "info"
    """Least severity of ELIS's own logs: debug, info, warning, error."""
    log_json: bool = True
    """Whether ELIS's own logs, on stderr, are JSON lines or text for a terminal."""

    def address(self, target: str) -> str:
        """Returns the gRPC address of a service."""
        return getattr(self.addresses, target) or f"127.0.0.1:{self.port(target, 'grpc')}"

    def port(self, target: str, purpose: str) -> int:
        """Returns the port of a target for a purpose of the target table."""
        return TARGETS[target].ports[purpose] + self.port_offset


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(settings_class: type[SettingsT], **overrides: Any) -> SettingsT:
    """Reads the settings; on invalid ones, names them all on stderr and exits with 2."""
    try:
        return settings_class(**overrides)
    except ValidationError as error:
        print("elis: the settings are not valid:", file=sys.stderr)
        for problem in error.errors(include_url=False, include_input=False):
            variable = "ELIS_" + "__".join(str(part) for part in problem["loc"]).upper()
            print(f"  {variable}: {problem['msg']}", file=sys.stderr)
        print("set them in the environment; docs/operations.md lists all of them", file=sys.stderr)
        raise SystemExit(2) from None
