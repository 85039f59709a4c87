"""PostgreSQL: an engine for what people relate and change, a raw pool for hot paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from sqlalchemy import MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from kit.errors import Unavailable
from kit.settings import Settings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    SqlConnection = asyncpg.Connection[Any] | PoolConnectionProxy[Any]
    """A raw connection, borrowed from a pool or not."""

MethodT = TypeVar("MethodT", bound=Callable[..., Awaitable[Any]])

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_SESSION = {
    "timezone": "UTC",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
}
POOL_WAIT_SECONDS = 5.0
CLOSE_SECONDS = 5.0


def create_metadata(schema: str) -> MetaData:
    """Returns the metadata of a service's own schema, with predictable constraint names."""
    return MetaData(schema=schema, naming_convention=NAMING)


def asyncpg_dsn(settings: Settings) -> str:
    """Returns the database URL without a SQLAlchemy driver part."""
    return settings.database_url.get_secret_value().replace("postgresql+asyncpg://", "postgresql://", 1)


@asynccontextmanager
async def open_engine(settings: Settings, target: str) -> AsyncIterator[AsyncEngine]:
    """Opens a SQLAlchemy engine with a bounded pool."""
    engine = create_async_engine(
        asyncpg_dsn(settings).replace("postgresql://", "postgresql+asyncpg://", 1),
        pool_size=settings.database_pool,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_pre_ping=True,
        connect_args={"server_settings": {**_SESSION, "application_name": f"elis-{target}"}, "timeout": POOL_WAIT_SECONDS},
    )
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def unit_of_work(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """One transaction: commits when the block ends, rolls back when it raises. Nothing else commits.

    Raises Unavailable while PostgreSQL is away.
    """
    try:
        async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
            yield session
    except (DBAPIError, PoolTimeoutError, OSError, asyncpg.InternalClientError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        driver_error = cause.__cause__ if cause is not None and cause.__cause__ is not None else cause
        if isinstance(error, PoolTimeoutError) or (driver_error is not None and is_unavailable(driver_error)):
            raise unavailable(driver_error or error) from error
        raise


@asynccontextmanager
async def open_pool(settings: Settings, target: str, size: int | None = None) -> AsyncIterator[asyncpg.Pool]:
    """Opens a raw asyncpg pool; it survives a restart of PostgreSQL. What is borrowed goes back without changes to its session."""
    pool = await asyncpg.create_pool(
        asyncpg_dsn(settings),
        min_size=1,
        max_size=size or settings.database_pool,
        timeout=POOL_WAIT_SECONDS,
        command_timeout=30.0,
        server_settings={**_SESSION, "application_name": f"elis-{target}"},
        reset=_leave_as_is,
    )
    try:
        yield pool
    finally:
        # Closing waits for what is in use; a query that was cancelled half-way may never come back.
        with suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), CLOSE_SECONDS)


async def _leave_as_is(_: object) -> None:
    """Spares a round trip at each release: nobody changes a setting for longer than a transaction, listens, or keeps a lock.

    asyncpg rolls back what is left open in any case.
    """


async def ping_engine(engine: AsyncEngine) -> None:
    """Raises when PostgreSQL does not answer."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


def is_unavailable(error: BaseException) -> bool:
    """Says whether an asyncpg error means that PostgreSQL is away or refuses (a retry helps), not that the SQL is wrong.

    It refuses what it has no room, no memory or no connection for (53), while it is read-only (25006), what the role may not
    do now (28, 42501), what waited too long for a lock or lost against another transaction (55P03, 40), and what its disk
    does not read or write (58).
    """
    return isinstance(
        error,
        OSError
        | TimeoutError
        | asyncpg.PostgresConnectionError
        | asyncpg.InterfaceError
        # A connection that PostgreSQL ended while nobody used it: asyncpg finds out at the next statement, in these words.
        | asyncpg.InternalClientError
        | asyncpg.InsufficientResourcesError
        | asyncpg.OperatorInterventionError
        | asyncpg.ReadOnlySQLTransactionError
        | asyncpg.IdleInTransactionSessionTimeoutError
        | asyncpg.InvalidAuthorizationSpecificationError
        | asyncpg.InsufficientPrivilegeError
        | asyncpg.LockNotAvailableError
        | asyncpg.TransactionRollbackError
        | asyncpg.PostgresSystemError
        | asyncpg.CannotConnectNowError,
    )


def unavailable(error: BaseException) -> Unavailable:
    """Returns the error that a caller sees while PostgreSQL is away or refuses."""
    return Unavailable("the database does not answer; try again", retry_after=1.0, cause=type(error).__name__)


@contextmanager
def outages_as_unavailable() -> Iterator[None]:
    """Raises Unavailable, which a caller tries again, when PostgreSQL is away or refuses inside; other errors pass."""
    try:
        yield
    except Exception as error:
        if is_unavailable(error):
            raise unavailable(error) from error
        raise


def uses_database(method: MethodT) -> MethodT:
    """Makes an RPC method tell its caller of an outage of PostgreSQL as `outages_as_unavailable` does."""

    @wraps(method)
    async def serve(*arguments: Any) -> Any:
        with outages_as_unavailable():
            return await method(*arguments)

    return serve  # type: ignore[return-value]
