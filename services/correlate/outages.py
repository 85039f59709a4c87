"""Outages: errors after which waiting helps, because another part is away or busy and not because something is wrong here."""

from __future__ import annotations

import asyncpg
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from kit.db import is_unavailable
from kit.errors import ElisError

_BUSY = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)


def is_outage(error: BaseException) -> bool:
    """Says whether an error will pass: PostgreSQL, Redis or a service is away, or PostgreSQL had to choose between two transactions."""
    if isinstance(error, DBAPIError):
        # SQLAlchemy wraps its own wrapper of the driver's error.
        cause = error.orig.__cause__ if error.orig is not None else None
        return error.connection_invalidated or (cause is not None and is_outage(cause))
    return isinstance(error, (ElisError, RedisError, *_BUSY)) or is_unavailable(error)
