"""The Engine interface on Tantivy: writing on one thread, reading on a few, the position beside the indexes.

An index is committed before the position that says so. After a crash in between, blocks come again and are left out
where their day has them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import structlog

from kit.errors import InvalidArgument
from services.search.engine import DayState, Grid, Hits, Key, LineBlock, ValueCounts
from services.search.engines.tantivy.days import Days
from services.search.engines.tantivy.query import QueryBuilder
from services.search.engines.tantivy.reader import Reader
from services.search.engines.tantivy.schema import SCHEMA_VERSION, create_schema
from services.search.engines.tantivy.writer import Writers
from services.search.selection import Selection

log = structlog.get_logger()

ResultT = TypeVar("ResultT")
INDEXING_NICENESS = 5
_FOLDER = "tantivy-"
_POSITION = "position"
_TOO_MANY_WORDS = "exceeded max expansions"


@dataclass(frozen=True, slots=True)
class TantivyOptions:
    """How much of the machine the engine takes."""

    writer_heap_bytes: int = 30_000_000
    """Memory per writer thread before a segment is written; at least 15 MB."""
    writer_threads: int = 1
    open_writers: int = 4
    idle_seconds: float = 60.0
    """After so long without events of its day, a writer is closed; without questions, a day."""
    open_days: int = 64
    query_threads: int = 4
    small_day: int = 20_000
    """Events of a day below which a page is looked for in the whole day at once."""


class FolderInUse(RuntimeError):
    """Another process writes to the folder."""


class TantivyEngine:
    """Indexes in a folder. `open_tantivy` makes one."""

    name = "tantivy"

    def __init__(self, folder: Path, options: TantivyOptions, writing: ThreadPoolExecutor, reading: ThreadPoolExecutor) -> None:
        schema = create_schema()
        self._position_file = folder / _POSITION
        self._days = Days(folder / "days", schema, options.open_days)
        self._writers = Writers(
            self._days,
            schema,
            heap_bytes=options.writer_heap_bytes,
            threads=options.writer_threads,
            most_open=options.open_writers,
            idle_seconds=options.idle_seconds,
        )
        self._reader = Reader(self._days, QueryBuilder(schema), small_day=options.small_day)
        self._idle_seconds = options.idle_seconds
        self._writing = writing
        self._reading = reading
        self.position = self._load()

    def _load(self) -> str:
        home = self._position_file.parent
        for older in home.parent.glob(f"{_FOLDER}*"):
            if older != home:
                log.info("index of another version deleted", folder=older.name)
                shutil.rmtree(older)
        damaged = self._days.load()
        if damaged:
            log.warning("reading the feed from its start to rebuild", days=len(damaged))
            self._position_file.unlink(missing_ok=True)
        return self._position_file.read_text() if self._position_file.exists() else ""

    async def index(self, blocks: Sequence[LineBlock]) -> int:
        """Takes blocks in; a block that is there already adds nothing."""

        def add() -> int:
            # Day by day: opening a writer costs as much as indexing thousands of lines, and only few are open at once.
            return sum(map(self._writers.add, sorted(blocks, key=lambda block: block.day)))

        return await self._write(add)

    async def commit(self, position: str) -> None:
        """Commits every day that changed, then the position."""

        def commit() -> None:
            self._writers.commit()
            if position != self.position:
                _replace_file(self._position_file, position)

        await self._write(commit)
        self.position = position

    async def rollback(self) -> None:
        """Closes the writers without a commit."""
        await self._write(self._writers.rollback)

    async def delete_day(self, day: int) -> None:
        """Deletes a day's folder."""
        await self._write(lambda: self._writers.delete_day(day))

    async def forget(self, day: int, sources: Sequence[str], observed_before: int) -> None:
        """Deletes documents; a day without any is deleted whole, with its lines."""
        await self._write(lambda: self._writers.forget(day, sources, observed_before))

    async def days(self) -> list[DayState]:
        """Returns the days held."""
        return [DayState(day, events) for day, events in self._days.held().items()]

    async def search(self, selection: Selection, *, newest_first: bool, limit: int, after: Key | None = None) -> Hits:
        """Returns a page of events."""
        return await self._read(self._reader.search, selection, newest_first, limit, after)

    async def count(self, selection: Selection) -> int:
        """Returns how many events are selected."""
        return await self._read(self._reader.count, selection)

    async def get(self, event_id: int) -> bytes | None:
        """Returns the line of an event."""
        return await self._read(self._reader.get, event_id)

    async def extent(self, selection: Selection) -> tuple[int, int] | None:
        """Returns the first and last timestamp of the selected events."""
        return await self._read(self._reader.extent, selection)

    async def histogram(self, selection: Selection, grid: Grid) -> Mapping[int, int]:
        """Returns the counts of the buckets that are not empty."""
        return await self._read(self._reader.histogram, selection, grid)

    async def split_histogram(self, selection: Selection, grid: Grid, field: str, values: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        """Returns a histogram for each value."""
        return await self._read(self._reader.split_histogram, selection, grid, field, values)

    async def facets(self, selection: Selection, fields: Sequence[str], size: int) -> Mapping[str, ValueCounts]:
        """Returns the most frequent values of each field."""
        return await self._read(self._reader.facets, selection, fields, size)

    async def _write(self, function: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._writing, _guarded, function)

    async def _read(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        gone = Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, _guarded, function, gone, *arguments)
        finally:
            gone.set()

    async def close_idle(self) -> None:
        """Closes days that are not read any more, now and then, for ever."""
        while True:
            await asyncio.sleep(self._idle_seconds / 2)
            self._days.close_idle(self._idle_seconds)

    def close(self) -> None:
        """Closes the writers; what was not committed comes again from the feed."""
        self._writers.rollback()


@asynccontextmanager
async def open_tantivy(folder: Path, options: TantivyOptions) -> AsyncIterator[TantivyEngine]:
    """Opens the engine on a folder of its own; raises FolderInUse when another process has it."""
    home = _prepare(folder)
    with _hold_lock(folder), ThreadPoolExecutor(1, "index", _give_way) as writing, ThreadPoolExecutor(options.query_threads, "query") as reading:
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(writing, TantivyEngine, home, options, writing, reading)
        tidying = asyncio.create_task(engine.close_idle())
        try:
            yield engine
        finally:
            tidying.cancel()
            await loop.run_in_executor(writing, engine.close)


def _give_way() -> None:
    """Lets questions come before indexing and, where one machine does all, what agents wait for.

    On Linux a thread has a niceness of its own, and those that Tantivy starts inherit it.
    """
    if sys.platform == "linux":
        os.nice(INDEXING_NICENESS)


def _prepare(folder: Path) -> Path:
    """Returns the home of this version's indexes."""
    home = folder / f"{_FOLDER}{SCHEMA_VERSION}"
    home.mkdir(parents=True, exist_ok=True)
    return home


@contextmanager
def _hold_lock(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; the kernel lets go of it when the process ends, however it ends."""
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FolderInUse(f"another search process writes to {folder}") from None
        yield


def _replace_file(path: Path, content: str) -> None:
    """Writes a file so that after a crash it holds the old or the new content."""
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _guarded(function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """Calls into Tantivy; a panic there, which Python sees as no ordinary exception, becomes one."""
    try:
        return function(*arguments)
    except ValueError as error:
        if _TOO_MANY_WORDS in str(error):
            raise InvalidArgument("a wildcard in a sequence of words stands for too many words; write more letters before it") from None
        raise
    except Exception:
        raise
    except BaseException as panic:
        raise RuntimeError(f"tantivy panicked: {panic}") from panic
