"""What a scenario is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.ingest.simulator.events import Root
from services.ingest.simulator.story import Story, Trouble
from services.ingest.simulator.streams import Stream


@dataclass(frozen=True, slots=True)
class Plot:
    """What a scenario adds to a story: happenings of its own, and trouble in the steps of an order.

    Steps are `inventory`, `payment`, `sap` (the call), `idoc` (the posting) and `connection` (to the gateway of SAP).
    """

    streams: Sequence[Stream] = ()
    troubles: Mapping[str, Trouble] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way for the landscape to go wrong; `root` is the part that breaks first, None when nothing does."""

    name: str
    summary: str
    root: Root | None
    plot: Callable[[Story], Plot]
