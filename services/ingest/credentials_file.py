"""The credentials file that `elis up` writes, as the commands that talk to ELIS read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer
from msgspec import DecodeError, Struct, ValidationError, json

from kit.errors import InvalidArgument, NotFound

CredentialsOption = Annotated[Path, typer.Option(help="The credentials file of `elis up`.", envvar="ELIS_CREDENTIALS")]
DEFAULT_CREDENTIALS = Path("elis-data/credentials.json")

PartT = TypeVar("PartT", bound=Struct)


class SenderCredentials(Struct, frozen=True):
    """The part of the file that senders need."""

    hec_url: str
    otlp_http_url: str
    ingest_token: str


def read_credentials(path: Path, part: type[PartT]) -> PartT:
    """Reads the part of a credentials file that a command needs.

    Raises NotFound when there is no such file, InvalidArgument when it cannot be read or has not got that part.
    """
    try:
        return json.decode(path.read_bytes(), type=part)
    except FileNotFoundError:
        raise NotFound(f"there is no credentials file {path}; start ELIS with `elis up` or name the file with --credentials") from None
    except OSError as error:
        raise InvalidArgument(f"the credentials file {path} cannot be read ({error.strerror})") from None
    except (DecodeError, ValidationError) as error:
        raise InvalidArgument(f"{path} is not a credentials file of ELIS: {str(error).lower()}") from None
