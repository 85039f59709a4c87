"""Migrations of the ingest schema."""

from __future__ import annotations

import asyncio
from datetime import date

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from kit.migrate import alembic_config, migrate
from kit.rows import uuid7
from services.ingest.models import SCHEMA, metadata
from services.ingest.rejections import Sealer

BEFORE_RETENTION = "202611240930"
BEFORE_GROUPS = "202611240950"


def compare(connection: Connection) -> list[object]:
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
        "include_object": lambda _, name, kind, reflected, __: not (kind == "table" and reflected and name.startswith(("blocks_", "alembic_"))),
        "version_table_schema": SCHEMA,
        "target_metadata": metadata,
    }
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def engine_of(database_url: str) -> AsyncEngine:
    return create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1))


async def change(database_url: str, revision: str) -> None:
    """Goes down to a revision."""

    def go(connection: Connection) -> None:
        configuration = alembic_config("ingest")
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, revision)

    engine = engine_of(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(go)
    await engine.dispose()


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
async def test_autogenerate_finds_no_difference(database_url: str) -> None:
    engine = engine_of(database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(compare) == []
    await engine.dispose()


async def test_blocks_survive_the_change_of_their_partitions_both_ways(database_url: str) -> None:
    insert = "INSERT INTO ingest.blocks (id, day, events, first_timestamp, last_timestamp, summary, lines) VALUES (:id, :day, 1, 0, 0, 's', :lines)"
    await change(database_url, BEFORE_RETENTION)
    engine = engine_of(database_url)
    async with engine.begin() as connection:
        for day in (20_000, 20_001):
            await connection.execute(text(f"CREATE TABLE ingest.blocks_{day} (LIKE ingest.blocks INCLUDING ALL)"))
            await connection.execute(text(f"ALTER TABLE ingest.blocks ATTACH PARTITION ingest.blocks_{day} FOR VALUES FROM ({day}) TO ({day + 1})"))
            await connection.execute(text(insert), {"id": day, "day": day, "lines": b"x" * day})
    await engine.dispose()

    await asyncio.to_thread(migrate, "ingest", database_url)
    raw = await asyncpg.connect(database_url)
    rows = await raw.fetch("SELECT id, day, keep_days, length(lines) AS size, tableoid::regclass::text AS name FROM ingest.blocks ORDER BY id")
    assert [tuple(row) for row in rows] == [(day, day, 0, day, f"ingest.blocks_{day}_0") for day in (20_000, 20_001)]
    held = await raw.fetch("SELECT day, keep_days, source FROM ingest.held_sources ORDER BY day")
    assert [tuple(row) for row in held] == [(20_000, 0, ""), (20_001, 0, "")]
    indexes = await raw.fetch("SELECT tablename FROM pg_indexes WHERE schemaname = 'ingest' AND tablename LIKE 'blocks\\_2%'")
    assert sorted(row["tablename"] for row in indexes) == ["blocks_20000_0"] * 2 + ["blocks_20001_0"] * 2
    await raw.close()

    await change(database_url, BEFORE_RETENTION)
    raw = await asyncpg.connect(database_url)
    assert [tuple(row) for row in await raw.fetch("SELECT id, day FROM ingest.blocks ORDER BY id")] == [(20_000, 20_000), (20_001, 20_001)]
    await raw.close()


async def test_rejected_records_are_grouped_and_still_open(database_url: str) -> None:
    await change(database_url, BEFORE_GROUPS)
    owners = [uuid7() for _ in range(3)]
    cipher = AESGCM(bytes(32))
    raw = await asyncpg.connect(database_url)
    for number, owner in enumerate(owners):
        await raw.execute(
            """
            INSERT INTO ingest.rejected_events (id, source, reason, detail, sender, raw, rejected_at)
            VALUES ($1, 'shop', 'record_too_large', $2, '192.0.2.1 Fluent Bit', $3, '2026-11-01 23:00Z')
            """,
            owner,
            "too large" if number else "larger",
            bytes(12) + cipher.encrypt(bytes(12), b"record %d" % number, owner.bytes),
        )
    await raw.close()

    await asyncio.to_thread(migrate, "ingest", database_url)
    raw = await asyncpg.connect(database_url)
    groups = await raw.fetch("SELECT day, source, reason, detail, address, user_agent, count, bytes, kept FROM ingest.rejection_groups ORDER BY count")
    day = (date(2026, 11, 1) - date(1970, 1, 1)).days
    sender = ("192.0.2.1", "Fluent Bit")
    assert [tuple(row) for row in groups] == [
        (day, "shop", "record_too_large", "larger", *sender, 1, 8, 1),
        (day, "shop", "record_too_large", "too large", *sender, 2, 16, 2),
    ]
    rows = await raw.fetch("SELECT id, key_id, raw FROM ingest.rejected_events ORDER BY number")
    sealer = Sealer([b"n" * 32, bytes(32)])
    assert [sealer.open(row["raw"], row["key_id"], row["id"]).raw for row in rows] == [b"record 0", b"record 1", b"record 2"]
    await raw.close()
