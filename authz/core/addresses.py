"""What counts as one source address.

Which address a request comes from is Envoy's to say; how much may come from it is policy.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

_IPV6_PREFIX = 64  # what a customer of a provider has at least: all of it is one caller's


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """Return what is counted for an address: an IPv4 address itself, the /64 of an IPv6 one, "" for what is neither."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed.packed, _IPV6_PREFIX), strict=False))
