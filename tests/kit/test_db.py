"""What counts as PostgreSQL being away, and so as worth another try."""

from __future__ import annotations

import asyncpg
import pytest

from kit.db import is_unavailable


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        FileNotFoundError(2, "no socket"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        TimeoutError(),
        asyncpg.DiskFullError("could not extend file"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        asyncpg.InsufficientPrivilegeError("permission denied for table blocks"),
        asyncpg.InvalidPasswordError("password authentication failed"),
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.PostgresSystemError("could not read block"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_outage_is_worth_another_try(error: Exception) -> None:
    assert is_unavailable(error)


@pytest.mark.parametrize("error", [asyncpg.UndefinedTableError("no such table"), asyncpg.UniqueViolationError("twice"), ValueError("wrong")])
def test_a_mistake_is_not(error: Exception) -> None:
    assert not is_unavailable(error)
