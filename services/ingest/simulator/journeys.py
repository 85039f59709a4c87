"""What visitors do: they look at products and place orders, and an order goes through every system."""

from __future__ import annotations

from random import Random
from typing import Any

from services.ingest.simulator.events import Role
from services.ingest.simulator.landscape import APPLICATION_HOSTS, CUSTOMER_NETWORKS, PRODUCTS, SERVICES, SID
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Failure, Story
from services.ingest.simulator.streams import Stream, pick
from services.ingest.simulator.systems import abap, idocs, orders, web

MILLISECOND = 1_000_000
MAX_ATTEMPTS_OF_A_CUSTOMER = 3
_PROVIDERS = ("adyen", "stripe", "worldline")


class Order:
    """One attempt of a customer to order something: the names by which the systems can be joined."""

    def __init__(self, story: Story, rng: Random, time_ns: int, attempt: int) -> None:
        self._story = story
        self._rng = rng
        self._started = time_ns
        self._now = time_ns
        self._attempt = attempt
        self._client = f"{pick(rng, CUSTOMER_NETWORKS)}.{1 + int(rng.random() * 254)}"
        self._trace_id = f"{rng.getrandbits(128):032x}"
        self._correlation = f"{rng.getrandbits(128):032X}"
        self._number = f"SO-{story.number('order', 4_711_000)}"
        self._customer = f"C{100_000 + int(rng.random() * 9000)}"
        self._items = 1 + int(rng.random() * 5)
        self._amount = f"{20 + rng.random() * 1800:.2f}"
        self._hosts = {service: APPLICATION_HOSTS[int(rng.random() * 3)] for service in SERVICES}
        self._spans = {service: f"{rng.getrandbits(64):016x}" for service in SERVICES}

    def run(self) -> None:
        """Emits everything that follows from the attempt."""
        self._say("shop-frontend", "INFO", f"checkout started by customer {self._customer} with {self._items} items")
        self._pass(3, 12)
        self._say("order-service", "INFO", f"order {self._number} received from customer {self._customer}: {self._amount} EUR")
        for step in (self._reserve, self._pay, self._hand_to_sap):
            if not step():
                return
        self._pass(4, 15)
        self._say("shop-frontend", "INFO", f"order {self._number} confirmed to customer {self._customer}")
        self._answer(201, 640)

    def _pass(self, least: float, most: float) -> None:
        """Lets a number of milliseconds pass."""
        self._now += int((least + self._rng.random() * (most - least)) * MILLISECOND)

    def _say(self, service: str, level: str, body: str, more: dict[str, Any] | None = None, role: Role | None = None) -> None:
        attributes: dict[str, Any] = {"order_id": self._number, "correlation_id": self._correlation}
        attributes.update(more or {})
        orders.log(self._story, self._now, service, self._hosts[service], level, body, attributes, self._trace_id, self._spans[service], role)

    def _answer(self, status: int, size: int, role: Role | None = None) -> None:
        self._pass(1, 4)
        web.answer(
            self._story,
            self._rng,
            self._now,
            client=self._client,
            request=("POST", "/api/orders"),
            status=status,
            size=size,
            seconds=(self._now - self._started) / SECOND,
            trace_id=self._trace_id,
            correlation=self._correlation,
            role=role,
        )

    def _reserve(self) -> bool:
        self._pass(5, 30)
        failure = self._story.failure("inventory", self._now, self._hosts["inventory-service"])
        if failure is not None:
            return self._give_up(failure, "inventory-service")
        body = f"reserved {self._items} x {pick(self._rng, PRODUCTS)} for order {self._number} in warehouse WH{1 + int(self._rng.random() * 4)}"
        self._say("inventory-service", "INFO", body)
        return True

    def _pay(self) -> bool:
        self._pass(5, 20)
        provider = pick(self._rng, _PROVIDERS)
        self._say("payment-service", "INFO", f"authorising {self._amount} EUR for order {self._number} with provider {provider}")
        failure = self._story.failure("payment", self._now, self._hosts["payment-service"])
        if failure is not None:
            return self._give_up(failure, "payment-service")
        chance = self._rng.random()
        if chance < 0.02:
            body = f"payment for order {self._number} declined by {provider}: insufficient funds"
            self._say("payment-service", "WARN", body, role="noise")
            self._pass(3, 9)
            self._say("order-service", "WARN", f"order {self._number} cancelled: payment declined", role="noise")
            self._answer(402, 210)
            return False
        if chance < 0.03:
            self._now += 2 * SECOND
            body = f"provider {provider} did not answer within 2000 ms for order {self._number}, attempt 1 of 3"
            self._say("payment-service", "WARN", body, role="noise")
        took = 80 + int(self._rng.random() * 300)
        self._now += took * MILLISECOND
        payment = f"PAY{self._rng.getrandbits(40):010X}"
        self._say("payment-service", "INFO", f"payment {payment} for order {self._number} authorised in {took} ms", {"duration_ms": took})
        return True

    def _hand_to_sap(self) -> bool:
        self._pass(4, 12)
        caller = self._hosts["order-service"]
        tid = f"{self._rng.getrandbits(96):024X}"
        peer: dict[str, Any] = {"peer.service": f"sap-{SID.lower()}", "sap.idoc.tid": tid}
        self._say("order-service", "INFO", f"sending order {self._number} to SAP {SID} as ORDERS05, tid {tid}", peer)
        failure = self._story.failure("sap", self._now, caller)
        if failure is not None:
            return self._give_up(failure, "order-service")
        if self._rng.random() < 0.012:
            self._pass(30, 90)
            body = f"attempt 1 of 3 for order {self._number} failed, retrying: connection to SAP {SID} was reset by the peer"
            self._say("order-service", "WARN", body, peer, "noise")
            self._pass(200, 260)
        if self._rng.random() < 0.25:
            abap.audit_call(self._story, self._rng, self._now, caller)
        number = idocs.new_number(self._story)
        idocs.receive(self._story, self._rng, self._now, number, self._number, tid)
        took = 60 + int(self._rng.random() * 240)
        self._now += took * MILLISECOND
        body = f"SAP {SID} accepted order {self._number} as IDoc {number} in {took} ms"
        self._say("order-service", "INFO", body, {"sap.idoc.docnum": number, "duration_ms": took, **peer})
        return True

    def _give_up(self, failure: Failure, service: str) -> bool:
        """Emits a step that fails for good, what the callers above say, and perhaps another attempt of the customer."""
        for attempt in range(1, failure.attempts + 1):
            if failure.each is not None:
                failure.each(self._now, self._hosts[service])
            self._now += int(failure.wait * SECOND * (0.9 + self._rng.random() * 0.2))
            if attempt < failure.attempts:
                body = f"attempt {attempt} of {failure.attempts} for order {self._number} failed, retrying: {failure.text}"
                self._say(service, "WARN", body, role=failure.role)
        details = orders.exception(failure.exception, failure.text, *_FRAMES[service]) if failure.exception else {}
        self._say(service, "ERROR", f"order {self._number}: {failure.text}", details, failure.role)
        if service != "order-service":
            self._pass(2, 6)
            self._say("order-service", "ERROR", f"order {self._number} failed: {service} answered 500", {"peer.service": service}, "symptom")
        self._pass(2, 6)
        body = f"checkout of order {self._number} failed: order-service answered {failure.status}"
        self._say("shop-frontend", "ERROR", body, {"peer.service": "order-service", "http.response.status_code": failure.status}, "symptom")
        self._answer(failure.status, 197, "symptom")
        if self._attempt < MAX_ATTEMPTS_OF_A_CUSTOMER and self._rng.random() < 0.35:
            again = self._now + int((15 + self._rng.random() * 40) * SECOND)
            Order(self._story, self._rng, again, self._attempt + 1).run()
        return False


_FRAMES: dict[str, tuple[str, ...]] = {
    "order-service": (
        "com.example.orders.sap.SapGateway.send(SapGateway.java:142)",
        "com.example.orders.OrderProcess.handOver(OrderProcess.java:88)",
        "com.example.orders.OrderResource.create(OrderResource.java:51)",
    ),
    "payment-service": (
        "com.example.payment.AmountMapper.toMinorUnits(AmountMapper.java:88)",
        "com.example.payment.PaymentProcess.authorise(PaymentProcess.java:61)",
        "com.example.payment.PaymentResource.authorise(PaymentResource.java:40)",
    ),
    "inventory-service": (
        "com.example.inventory.Reservation.reserve(Reservation.java:73)",
        "com.example.inventory.ReservationResource.create(ReservationResource.java:35)",
    ),
}


def streams(story: Story) -> list[Stream]:
    """Visitors who look, and visitors who buy."""
    rng = story.rng("journeys")

    def look(time_ns: int) -> None:
        article = pick(rng, PRODUCTS)
        took = 0.01 + rng.expovariate(18)
        trace_id = f"{rng.getrandbits(128):032x}"
        if rng.random() < 0.3:
            body = f"product page of {article} rendered in {int(took * 1000)} ms"
            host = APPLICATION_HOSTS[int(rng.random() * 3)]
            orders.log(story, time_ns, "shop-frontend", host, "INFO", body, {"article": article}, trace_id, f"{rng.getrandbits(64):016x}")
        web.answer(
            story,
            rng,
            time_ns + int(took * SECOND),
            client=web.customer_address(rng),
            request=("GET", f"/api/products/{article}" if rng.random() < 0.7 else f"/search?q={article}"),
            status=200 if rng.random() < 0.992 else 404,
            size=900 + int(rng.random() * 7000),
            seconds=took,
            trace_id=trace_id,
            correlation=f"{rng.getrandbits(128):032X}",
        )

    def buy(time_ns: int) -> None:
        Order(story, rng, time_ns, 1).run()

    return [story.arrivals("journeys/look", 1.5, look), story.arrivals("journeys/buy", 0.42, buy)]
