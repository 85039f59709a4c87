"""A full disk of search: answers go on, the feed is tried again, and nothing is missing once there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from elis.search.v1 import search_pb2 as pb
from tests.services.search.corpus import NOON
from tests.services.search.stage import Stage, eventually, until_found

LETTERS = str.maketrans("0123456789", "ghijklmnop")


def _mount(*options: str) -> bool:
    return os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True).returncode == 0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder on a file system of 3 MiB; a test that cannot mount one is skipped."""
    folder = Path(mkdtemp(prefix="elis-small-disk-"))
    mounted = _mount("-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder))
    if mounted:
        yield folder
        subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()
    if not mounted:
        pytest.skip("mounting a file system takes root")


def events(count: int, first: int = 0) -> list[dict[str, object]]:
    """Returns events that hardly compress."""
    return [{"timestamp": NOON + n, "body": f"number {n} {os.urandom(1_000).hex().translate(LETTERS)}"} for n in range(first, first + count)]


async def test_a_full_disk_stops_indexing_and_nothing_else(stage: Stage) -> None:
    async with stage.search() as search:
        await stage.log.commit(events(100))
        await until_found(search, 100)
        await stage.log.commit(events(5_000, 100), size=500)

        async def no_room() -> bool:
            usage = os.statvfs(stage.data_dir)
            return usage.f_bavail * usage.f_frsize < 300_000

        await eventually(no_room)
        await asyncio.sleep(1.0)
        answer = await search.SearchEvents(pb.SearchEventsRequest(first=1, with_total=True))
        assert 100 <= answer.total < 5_100
        assert await asyncio.to_thread(_mount, "-o", "remount,size=200m", str(stage.data_dir))
        await until_found(search, 5_100)
