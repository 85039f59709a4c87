"""Which networks may send syslog without a credential, and as which source."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

MAX_NETWORKS = 1_000
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Network:
    """An entry of the list."""

    addresses: IPv4Network | IPv6Network
    source: str
    """Source of the messages that come from it."""


class Networks:
    """An allow-list such as `127.0.0.0/8, 10.1.0.0/16=switches`: a name behind `=` is the source of that network's messages."""

    def __init__(self, text: str, default_source: str) -> None:
        """Raises ValueError, naming the entry, when the list cannot be read."""
        entries = [entry.strip() for entry in text.split(",") if entry.strip()]
        if len(entries) > MAX_NETWORKS:
            raise ValueError(f"at most {MAX_NETWORKS} networks can be listed, not {len(entries)}")
        known = [_read_entry(entry, default_source) for entry in entries]
        # The most specific network says what an address is.
        self._networks = sorted(known, key=lambda network: -network.addresses.prefixlen)
        self._found: dict[str, Network | None] = {}

    def find(self, address: str) -> Network | None:
        """Returns the network that an address is in, or None when it is in none on the list."""
        if address in self._found:
            return self._found[address]
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        found = self._found[address] = self._look_up(address)
        return found

    def _look_up(self, address: str) -> Network | None:
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return None
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return next((network for network in self._networks if parsed in network.addresses), None)


def _read_entry(entry: str, default_source: str) -> Network:
    network, equals, source = entry.partition("=")
    try:
        parsed = ip_network(network.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{network.strip()!r} is not a network; write networks such as 10.1.0.0/16 or 10.1.0.0/16=switches, separated by commas") from None
    if equals and not source.strip():
        raise ValueError(f"{entry!r} names no source behind the equals sign")
    return Network(parsed, source.strip() or default_source)
