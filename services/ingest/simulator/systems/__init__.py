"""The simulated systems: one file and one line each."""

from __future__ import annotations

from collections.abc import Callable

from services.ingest.simulator.story import Story
from services.ingest.simulator.streams import Stream
from services.ingest.simulator.systems import abap, hana, idocs, linux, network, operations, orders, web

SYSTEMS: dict[str, Callable[[Story], list[Stream]]] = {
    "web": web.streams,
    "linux": linux.streams,
    "network": network.streams,
    "abap": abap.streams,
    "idocs": idocs.streams,
    "hana": hana.streams,
    "orders": orders.streams,
    "operations": operations.streams,
}
