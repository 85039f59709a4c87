"""Which networks may send without a credential, and as which source: the allow-lists of syslog and Fluent."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

MAX_NETWORKS = 1_000
_REMEMBERED = 10_000


class Networks:
    """An allow-list such as `127.0.0.0/8, 10.1.0.0/16=switches`: a name behind `=` is the source of that network's messages."""

    def __init__(self, text: str, default_source: str) -> None:
        """Raises ValueError, naming the entry, when the list cannot be read."""
        entries = [entry.strip() for entry in text.split(",") if entry.strip()]
        if len(entries) > MAX_NETWORKS:
            raise ValueError(f"at most {MAX_NETWORKS} networks can be listed, not {len(entries)}")
        known = [_read_entry(entry, default_source) for entry in entries]
        # The most specific network says what an address is.
        self._networks = sorted(known, key=lambda item: -item[0].prefixlen)
        self._sources: dict[str, str | None] = {}

    def source_of(self, address: str) -> str | None:
        """Returns the source of an address's messages, or None when it is not on the list."""
        if address in self._sources:
            return self._sources[address]
        if len(self._sources) >= _REMEMBERED:
            self._sources.clear()
        found = self._sources[address] = self._look_up(address)
        return found

    def _look_up(self, address: str) -> str | None:
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return None
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return next((source for network, source in self._networks if parsed in network), None)


def _read_entry(entry: str, default_source: str) -> tuple[IPv4Network | IPv6Network, str]:
    network, equals, source = entry.partition("=")
    try:
        parsed = ip_network(network.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{network.strip()!r} is not a network; write networks such as 10.1.0.0/16 or 10.1.0.0/16=switches, separated by commas") from None
    if equals and not source.strip():
        raise ValueError(f"{entry!r} names no source behind the equals sign")
    return parsed, source.strip() or default_source
