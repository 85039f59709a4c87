"""Synthetic timelines: a few services in normal operation, and faults put on top."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from tests.services.correlate.peer import START

SECOND = 1_000_000_000
Event = dict[str, object]


class Timeline:
    """Events of services of three systems that have nothing in common with the simulated landscape."""

    def __init__(self, seed: int, minutes: int = 40, per_minute: int = 60) -> None:
        self.random = Random(seed)
        self.minutes = minutes
        self.events: list[Event] = []
        for minute in range(minutes):
            for _ in range(per_minute):
                self._request(minute * 60 + self.random.random() * 60)
            for service, system, host in (("ledger-db", "infrastructure", "dbhost7"), ("mailer", "application", "app9")):
                for _ in range(per_minute // 3):
                    self.say(minute * 60 + self.random.random() * 60, service, system, f"checkpoint {self.random.randrange(9999)} complete", host=host)

    def say(self, second: float, service: str, system: str, body: str, severity: int = 9, **more: object) -> None:
        """Adds an event."""
        template = " ".join("<num>" if any(letter.isdigit() for letter in word) else word for word in body.split())
        self.events.append(
            {
                "timestamp": START + int(second * SECOND),
                "source": f"{service}-log",
                "service": service,
                "system": system,
                "body": body,
                "severity_number": severity,
                "template": template,
                **more,
            }
        )

    def at_random(self, first: float, last: float, per_minute: float, happen: Callable[[float], None]) -> None:
        """Lets something happen at random times between two seconds."""
        second = first + self.random.expovariate(per_minute / 60)
        while second < last:
            happen(second)
            second += self.random.expovariate(per_minute / 60)

    def break_database(self, onset: float) -> None:
        """The database runs out of connections; bookings fail, and the portal in front of them."""
        end = self.minutes * 60

        def refuse(second: float) -> None:
            self.say(second, "ledger-db", "infrastructure", f"cannot accept connection {self.random.randrange(999)}: pool exhausted", 17, host="dbhost7")

        def fail(second: float) -> None:
            booking = f"BK-{self.random.randrange(10**6, 10**7)}"
            trace = f"{self.random.getrandbits(128):032x}"
            self.say(second, "booking", "sap", f"booking {booking} not stored: dbhost7:5433 refused, pool exhausted", 17, trace_id=trace, host="bk1")
            self.say(second + 0.2, "portal", "application", f"request for {booking} answered 500", 17, trace_id=trace, host="web4")

        self.at_random(onset, end, 30, refuse)
        self.at_random(onset + 25, end, 40, fail)

    def blocks(self, seconds: int = 10) -> Iterator[list[Event]]:
        """Yields the events in order of time, so many seconds of event time together."""
        self.events.sort(key=lambda event: int(str(event["timestamp"])))
        batch: list[Event] = []
        until = START + seconds * SECOND
        for event in self.events:
            while int(str(event["timestamp"])) >= until:
                until += seconds * SECOND
                if batch:
                    yield batch
                batch = []
            batch.append(event)
        yield batch

    def _request(self, second: float) -> None:
        trace = f"{self.random.getrandbits(128):032x}"
        booking = f"BK-{self.random.randrange(10**6, 10**7)}"
        self.say(second, "portal", "application", f"request for {booking} received", trace_id=trace, host="web4")
        self.say(second + 0.1, "booking", "sap", f"booking {booking} stored", trace_id=trace, host="bk1")
        self.say(second + 0.3, "portal", "application", f"request for {booking} answered 200", trace_id=trace, host="web4")
