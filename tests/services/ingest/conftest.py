"""Fixtures of the ingest tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kit.db import open_pool
from kit.server import cancel_tasks
from services.ingest.announcer import Announcer
from services.ingest.committer import Committer
from services.ingest.intake import Intake
from services.ingest.masking import BUILT_IN_RULES, Masker
from services.ingest.pipeline import Pipeline
from services.ingest.rejections import Sealer
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.tokens import Agent

AGENT = Agent("token-1", "tests", "")


@pytest.fixture
def settings(database_url: str, redis_url: str, data_dir: Path) -> IngestSettings:
    """Settings of an ingest process on this test's engines."""
    return IngestSettings(
        database_url=database_url,
        redis_url=redis_url,
        service_secret="s" * 64,
        data_dir=data_dir,
        masking_key="m" * 64,
        seal_key="0" * 64,
    )


@pytest.fixture
async def pool(settings: IngestSettings) -> AsyncIterator[asyncpg.Pool[Any]]:
    """A pool on this test's database."""
    async with open_pool(settings, "tests") as pool:
        yield pool


class NullRedisAnnouncer(Announcer):
    """An announcer whose Redis is never asked: readers follow the feed."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]


@pytest.fixture
async def intake(settings: IngestSettings, pool: asyncpg.Pool[Any]) -> AsyncIterator[Intake]:
    """A running intake with its committer."""
    sources = SourceBook(pool)
    masker = Masker(settings.masking_key.get_secret_value().encode(), BUILT_IN_RULES)
    committer = Committer(settings, pool, sources, Sealer(bytes(32)), NullRedisAnnouncer())
    task = asyncio.create_task(committer.run())
    yield Intake(settings, sources, Pipeline(settings, sources, masker), committer)
    await cancel_tasks([task])
