"""The errors of ELIS, each with its gRPC status.

    ElisError
    ├── InvalidArgument     INVALID_ARGUMENT     the caller sent something wrong; a retry will not help
    ├── Unauthenticated     UNAUTHENTICATED      nobody, or not provably somebody
    ├── PermissionDenied    PERMISSION_DENIED    somebody, but not allowed to
    ├── NotFound            NOT_FOUND            the thing named does not exist
    ├── AlreadyExists       ALREADY_EXISTS       the thing named exists already
    ├── Conflict            ABORTED              the thing changed meanwhile; read it again
    ├── RateLimited         RESOURCE_EXHAUSTED   too much; wait `retry_after` seconds
    ├── DeadlineExceeded    DEADLINE_EXCEEDED    the time for the call ran out
    ├── Unavailable         UNAVAILABLE          a part is down or busy; a retry helps
    └── Internal            INTERNAL             our fault; the text tells nothing

Messages are lower case, without a full stop, and name the thing and the value. A service may subclass;
a process that does not know the subclass rebuilds the class of the tree with the same status.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from grpc import StatusCode


class ElisError(Exception):
    """Base of everything that may leave a process as an error. `detail` travels with it as JSON."""

    status: ClassVar[StatusCode] = StatusCode.INTERNAL

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    @property
    def code(self) -> str:
        """The public code, for example `NOT_FOUND`: the name of the status."""
        return self.status.name


class InvalidArgument(ElisError):
    """The caller sent something wrong; a retry will not help."""

    status = StatusCode.INVALID_ARGUMENT


class Unauthenticated(ElisError):
    """Nobody, or not provably somebody."""

    status = StatusCode.UNAUTHENTICATED


class PermissionDenied(ElisError):
    """Somebody, but not allowed to."""

    status = StatusCode.PERMISSION_DENIED


class NotFound(ElisError):
    """The thing named does not exist."""

    status = StatusCode.NOT_FOUND


class AlreadyExists(ElisError):
    """The thing named exists already."""

    status = StatusCode.ALREADY_EXISTS


class Conflict(ElisError):
    """The thing changed meanwhile; read it again."""

    status = StatusCode.ABORTED


class RateLimited(ElisError):
    """Too much; wait `retry_after` seconds."""

    status = StatusCode.RESOURCE_EXHAUSTED


class DeadlineExceeded(ElisError):
    """The time for the call ran out."""

    status = StatusCode.DEADLINE_EXCEEDED


class Unavailable(ElisError):
    """A part is down or busy; a retry helps."""

    status = StatusCode.UNAVAILABLE


class Internal(ElisError):
    """Our fault; the text tells nothing."""

    status = StatusCode.INTERNAL


TREE: tuple[type[ElisError], ...] = (
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    Conflict,
    RateLimited,
    DeadlineExceeded,
    Unavailable,
    Internal,
)
BY_STATUS: dict[StatusCode, type[ElisError]] = {error.status: error for error in TREE}
BY_NAME: dict[str, type[ElisError]] = {error.__name__: error for error in TREE}

METADATA_KEY = "elis-error-bin"
"""Trailing metadata that carries class name and detail (binary, so that any text survives)."""


def encode_error(error: ElisError) -> bytes:
    """Returns the trailing metadata value of an error."""
    return json.dumps({"type": type(error).__name__, "detail": error.detail}, default=str).encode()


def decode_error(status: StatusCode, message: str, encoded: bytes | None) -> ElisError:
    """Rebuilds the error that a service raised; an unknown class becomes the tree's class of its status."""
    by_status = BY_STATUS.get(status, Internal)
    if encoded is None:
        # No ELIS service wrote this: the channel did, and its text may hold addresses.
        if status is StatusCode.UNAVAILABLE:
            return Unavailable("a service of ELIS does not answer")
        if status is StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded("the time for the call ran out")
        return by_status(message if by_status is not Internal else "internal error")
    content = json.loads(encoded)
    return BY_NAME.get(content["type"], by_status)(message, **content["detail"])
