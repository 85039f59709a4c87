"""Limits of senders: how many events and bytes per second a token may send, over all replicas together.

Each process has a bucket per token and kind, which fills with the process's share of the limit and holds one second of it.
A request is let in while the bucket owes nothing, whatever its size, and is charged in full: one larger than the bucket
passes too, and those after it wait until it is paid. So the average is the limit, and nothing is refused for ever.

The shares follow from what each process is asked to take (services.ingest.shares). While nobody says what a share is, it
stays as it was; that of a token which a process has not seen before is the whole limit until the first exchange, one second.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from time import monotonic

from kit.errors import RateLimited
from services.ingest.tokens import Agent

MAX_SENDERS = 10_000
"""Senders with limits in memory; the one that was not seen for longest goes first."""
IDLE_SECONDS = 60.0
"""A sender that owes nothing is forgotten after so long a silence."""
USUAL_WEIGHT = 0.125
"""Weight of the last request in what a request usually costs."""
LEAST_DEMAND = 0.02
"""Demand of a process that a token sends little to, as a part of the limit: what the first request of a burst finds."""


class Bucket:
    """What a sender may send of one kind, here and now."""

    __slots__ = ("_at", "_clock", "_demand", "_level", "_offered", "_usual", "kind", "limit", "share")

    def __init__(self, kind: str, limit: int, clock: Callable[[], float]) -> None:
        self.kind = kind
        self.limit = limit
        """Per second, over all replicas; 0: none."""
        self.share = 1.0
        """The part of the limit that this process has."""
        self._clock = clock
        self._level = float(limit)
        self._at = clock()
        self._offered = 0.0
        self._demand = 0.0
        self._usual = 0.0

    @property
    def debt(self) -> float:
        """What was let in beyond the limit and is not paid yet."""
        self._fill()
        return max(0.0, -self._level)

    def check(self) -> None:
        """Raises RateLimited, with the seconds until it is paid, while something is owed."""
        if not self.limit:
            return
        self._fill()
        if self._level < 0.0:
            self._offered += self._usual
            seconds = ceil(-1_000 * self._level / (self.limit * self.share)) / 1_000  # never less than is owed
            raise RateLimited(f"the limit of {self.limit} {self.kind} per second is used up; try again in {seconds:g} s", retry_after=seconds)

    def charge(self, amount: int) -> None:
        """Takes an amount out, whether it is there or not."""
        if self.limit:
            self._level -= amount
            self._offered += amount
            self._usual += (amount - self._usual) * (USUAL_WEIGHT if self._usual else 1.0)

    def give_back(self, amount: int) -> None:
        """Puts in what was taken out for nothing."""
        if self.limit:
            self._level += amount
            self._offered = max(0.0, self._offered - amount)

    def draw_demand(self) -> float:
        """Returns what this process is asked to take, of the same order as a second's events or bytes. Called once a second."""
        self._demand = self._demand / 2 + self._offered
        self._offered = 0.0
        return self._demand + self.debt + self.limit * LEAST_DEMAND

    def _fill(self) -> None:
        now = self._clock()
        rate = self.limit * self.share
        self._level = min(rate, self._level + (now - self._at) * rate)
        self._at = now


class Allowance:
    """Both buckets of a sender."""

    __slots__ = ("bytes", "events", "seen_at")

    def __init__(self, clock: Callable[[], float], events_limit: int, bytes_limit: int) -> None:
        self.events = Bucket("events", events_limit, clock)
        self.bytes = Bucket("bytes", bytes_limit, clock)
        self.seen_at = 0.0


class Limits:
    """The allowances of this process."""

    def __init__(self, *, default_events: int = 0, default_bytes: int = 0, clock: Callable[[], float] = monotonic) -> None:
        """The defaults are for senders without a limit of their own; 0: none."""
        self._default_events = default_events
        self._default_bytes = default_bytes
        self._has_defaults = bool(default_events or default_bytes)
        self._clock = clock
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()

    def check(self, agent: Agent) -> None:
        """Raises RateLimited when the sender has used up what it may send now."""
        allowance = self._find(agent)
        if allowance is not None:
            allowance.events.check()
            allowance.bytes.check()

    def charge_bytes(self, agent: Agent, size: int) -> None:
        """Charges a body that was read."""
        allowance = self._find(agent)
        if allowance is not None:
            allowance.bytes.charge(size)

    def charge_events(self, agent: Agent, count: int) -> None:
        """Charges a request's events; raises RateLimited, and charges nothing, when the sender has used up what it may send now."""
        allowance = self._find(agent)
        if allowance is not None:
            allowance.events.check()
            allowance.events.charge(count)

    def return_events(self, agent: Agent, count: int) -> None:
        """Takes back what was charged for events that could not be stored: their sender is to send them again."""
        allowance = self._find(agent)
        if allowance is not None:
            allowance.events.give_back(count)

    def allowances(self) -> dict[str, Allowance]:
        """Returns the allowances by the id of their sender, without those that nobody has asked for lately."""
        idle = self._clock() - IDLE_SECONDS
        for sender, allowance in list(self._allowances.items()):
            if allowance.seen_at > idle:
                break
            if not allowance.events.debt and not allowance.bytes.debt:
                del self._allowances[sender]
        return dict(self._allowances)

    def _find(self, agent: Agent) -> Allowance | None:
        if not (agent.events_per_second or agent.bytes_per_second or self._has_defaults) or not agent.id:
            return None
        events, size = agent.events_per_second or self._default_events, agent.bytes_per_second or self._default_bytes
        allowance = self._allowances.get(agent.id)
        if allowance is None:
            if len(self._allowances) >= MAX_SENDERS:
                self._allowances.popitem(last=False)
            allowance = self._allowances[agent.id] = Allowance(self._clock, events, size)
        else:
            self._allowances.move_to_end(agent.id)
            # Somebody may have changed the limits; what is owed stays.
            allowance.events.limit, allowance.bytes.limit = events, size
        allowance.seen_at = self._clock()
        return allowance
