"""Settings of the search process."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from kit.settings import Settings

MEBIBYTE = 1024 * 1024


class SearchSettings(Settings):
    """What the search process needs to know."""

    index_commit_interval: timedelta = timedelta(milliseconds=750)
    """Longest time from reading events to finding them. Every commit costs a small segment: shorter is fresher and dearer."""
    index_longest_commit_interval: timedelta = timedelta(seconds=5)
    """The same while the index is behind: what is old already waits as long again, up to this, because larger commits cost less per event."""
    index_heap_bytes: Annotated[int, Field(ge=15_000_000, le=2_000_000_000)] = 60_000_000
    """Memory of one index writer thread before it writes a segment."""
    index_threads: Annotated[int, Field(ge=1, le=8)] = 1
    """Writer threads per day."""
    index_open_writers: Annotated[int, Field(ge=1, le=64)] = 4
    """Days that can be written to at once."""
    index_open_days: Annotated[int, Field(ge=1, le=10_000)] = 1_024
    """Days that are kept open for reading."""
    query_threads: Annotated[int, Field(ge=1, le=64)] = 4
    """Queries that run at once."""
    feed_poll_interval: timedelta = timedelta(seconds=1)
    """Time between two looks at the feed of blocks when nothing was announced."""
    feed_page_bytes: Annotated[int, Field(ge=64 * 1024, le=32 * MEBIBYTE)] = 8 * MEBIBYTE
    """Compressed bytes of blocks that are read at once."""
    tail_limit: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Live tails at once."""
    tail_queue_events: Annotated[int, Field(ge=100, le=1_000_000)] = 5_000
    """Events that wait for one slow tail; beyond it events are left out and the tail is told."""
    tail_heartbeat_interval: timedelta = timedelta(seconds=10)
    """Time after which a quiet tail says that it is alive."""
