"""The schema that the migrations make is the one that the models describe."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from services.auth.models import SCHEMA, metadata


async def test_autogenerate_finds_no_difference(database_url: str) -> None:
    def compare(connection: Connection) -> list[object]:
        options = {"include_schemas": True, "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA, "version_table_schema": SCHEMA}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.connect() as connection:
        assert await connection.run_sync(compare) == []
    await engine.dispose()
