"""The unit that is counted as one source address.

Envoy determines the address of a request; the policy limits how much may come from it.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

CHARS_MAX = 80
"""The most characters of an address: IPv6 with an embedded IPv4 address, a zone, brackets and a port."""

_PREFIX = 64  # the smallest assignment to one customer, so all of it counts as one caller

# Below these prefixes the last 32 bits are an IPv4 address: translators and old transition mechanisms put all of the
# IPv4 Internet into one /64.
_EMBEDDED = (
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped, RFC 4291
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated, RFC 2765
    IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052
    IPv6Network("::/96"),  # IPv4-compatible, RFC 4291
)
# Here unrelated hosts share a /64, and one host does not choose among many addresses.
_WHOLE = (
    IPv6Network("64:ff9b:1::/48"),  # NAT64 for local use, RFC 8215: its operator decides where the IPv4 address stands
    IPv6Network("fe80::/10"),  # link-local
    IPv6Network("::/127"),  # unspecified and loopback
)


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """Return the counted unit of an address.

    That is an IPv4 address itself, the IPv4 address inside an IPv6 one, otherwise the /64 of an IPv6 address. A port,
    as some load balancers append it, and a zone are ignored. Returns "" for anything else.
    """
    try:
        parsed = ip_address(_host(address))
    except ValueError:
        return ""
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    parsed = IPv6Address(parsed.packed)  # without its zone
    if any(parsed in each for each in _WHOLE):
        return str(parsed)
    return str(_embedded(parsed) or ip_network((parsed.packed, _PREFIX), strict=False))


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address of the host, or of the site, that an IPv6 address contains."""
    if any(address in each for each in _EMBEDDED):
        return IPv4Address(address.packed[-4:])
    if address.sixtofour is not None:
        return address.sixtofour
    return None if address.teredo is None else address.teredo[1]


def _host(address: str) -> str:
    """Return an address without a port: `203.0.113.9:5678`, `[2001:db8::9]:5678`, `[2001:db8::9]`."""
    if len(address) > CHARS_MAX:
        return ""
    if address.startswith("["):
        host, closed, port = address[1:].partition("]")
        return host if closed and ":" in host and (not port or _is_port(port)) else ""
    host, colon, port = address.partition(":")
    return host if colon and "." in host and _is_port(f":{port}") else address


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit()
