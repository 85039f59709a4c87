"""Settings of the correlate process."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from kit.settings import Settings


class DeclaredEdge(BaseModel):
    """A dependency that the operator knows: the caller needs the callee. Services are named as events name them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    caller: str
    callee: str


class CorrelateSettings(Settings):
    """What the correlate process needs to know."""

    replica: str = Field(default_factory=lambda: uuid4().hex[:12])
    """Name of this process in the consumer group and in the lease; a pod sets its own name."""
    feed_batch: Annotated[int, Field(ge=1, le=64)] = 64
    """Blocks that are counted in one transaction at most."""
    feed_interval: timedelta = timedelta(seconds=1)
    """Time between two looks at the list of blocks, which finds what the stream did not announce."""
    done_retention: timedelta = timedelta(hours=1)
    """How long the id of a counted block is remembered after the feed has passed it. Announcements are believed for a sixth of it."""
    detect_interval: timedelta = timedelta(milliseconds=500)
    """Time between two looks at the roll-ups by the replica that holds the lease."""
    allowed_lateness: Annotated[int, Field(ge=0, le=60)] = 1
    """Minutes of event time that a minute stays open for stragglers after a later one was seen."""
    quiet_after: timedelta = timedelta(seconds=3)
    """A source that sends nothing for so long is not waited for; when none sends, the newest minute is judged."""
    baseline_minutes: Annotated[int, Field(ge=30, le=1440)] = 360
    """Minutes of history that detectors compare with."""
    declared_edges: tuple[DeclaredEdge, ...] = ()
    """Dependencies between services that are known beforehand."""
    rollup_retention: timedelta = timedelta(days=365 * 30)
    """Age (event time) after which roll-ups are deleted. As long as ingest believes a time: imported history must not vanish."""
    finding_retention: timedelta = timedelta(days=90)
    """Age after which findings outside of incidents are deleted."""
