"""Alembic for all services: one schema, one version table and one folder of revisions each."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from kit.targets import TARGETS

LOCK_TIMEOUT = "4s"
STATEMENT_TIMEOUT = "5s"
_ADVISORY_LOCK = 0x656C6973  # "elis": replicas that migrate at the same time wait for each other


def migrate(target: str, database_url: str) -> None:
    """Brings the schema of a target to its newest revision; creates it when it is not there."""
    asyncio.run(_migrate(target, database_url))


def migrating_targets() -> list[str]:
    """Returns the targets that own a schema."""
    return [target.name for target in TARGETS.values() if target.migrates]


async def _migrate(target: str, database_url: str) -> None:
    url = database_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            await connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
            await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{target}"'))
            await connection.run_sync(_upgrade, target)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, target: str) -> None:
    configuration = alembic_config(target)
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")


def alembic_config(target: str) -> Config:
    """Returns the Alembic configuration of a target."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(str(files(TARGETS[target].module) / "migrations"))))
    configuration.set_main_option("path_separator", "os")
    return configuration


def run(metadata: MetaData) -> None:
    """Body of every service's `migrations/env.py`."""
    schema = metadata.schema
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        version_table_schema=schema,
        include_schemas=True,
        include_name=lambda name, kind, _: kind != "schema" or name == schema,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()
