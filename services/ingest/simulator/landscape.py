"""Names and addresses of the simulated landscape."""

from __future__ import annotations

ADDRESSES: dict[str, str] = {
    "lb-1": "10.20.1.11",
    "lb-2": "10.20.1.12",
    "web-1": "10.20.2.21",
    "web-2": "10.20.2.22",
    "web-3": "10.20.2.23",
    "app-1": "10.20.4.11",
    "app-2": "10.20.4.12",
    "app-3": "10.20.4.13",
    "sapapp1": "10.30.1.21",
    "sapapp2": "10.30.1.22",
    "hanadb1": "10.30.2.31",
    "batch-1": "10.20.6.41",
    "mon-1": "10.20.6.51",
    "fw-1": "10.10.0.1",
    "fw-2": "10.10.0.2",
    "sw-core-1": "10.10.0.11",
}
"""Host to address."""

LOAD_BALANCERS = ("lb-1", "lb-2")
WEB_SERVERS = ("web-1", "web-2", "web-3")
APPLICATION_HOSTS = ("app-1", "app-2", "app-3")
ABAP_HOSTS = ("sapapp1", "sapapp2")
LINUX_HOSTS = (*LOAD_BALANCERS, *WEB_SERVERS, *APPLICATION_HOSTS, *ABAP_HOSTS, "hanadb1", "batch-1", "mon-1")
FIREWALLS = ("fw-1", "fw-2")

SERVICES = ("shop-frontend", "order-service", "payment-service", "inventory-service")
"""Services of the order application; each runs on every application host."""
VERSIONS: dict[str, str] = {
    "shop-frontend": "5.2.1",
    "order-service": "4.11.0",
    "payment-service": "3.7.2",
    "inventory-service": "2.9.4",
}

SID = "PRD"
INSTANCE = "D01"
CLIENT = "100"
HANA_SID = "HPR"
RFC_USER = "RFC_ORDERS"

CUSTOMER_NETWORKS = ("198.51.100", "203.0.113", "192.0.2", "100.64.18", "100.71.4")
"""First three parts of customers' addresses (documentation and carrier ranges: they belong to nobody)."""
PRODUCTS = tuple(f"{letters}-{number}" for letters in ("BRK", "PMP", "VLV", "SEN", "MTR") for number in range(1000, 1040))
"""Article numbers."""
USER_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "ShopApp/5.1 (Android 14)",
)
DIALOG_USERS = ("MEIERK", "SCHMIDTA", "WAGNERT", "FISCHERL", "KOWALSKI", "DUBOISM", "ROSSIG", "NOVAKP")
ADMINISTRATORS = ("ansible", "k.brandt", "m.okafor", "s.lind")
