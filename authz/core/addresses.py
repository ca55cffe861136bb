"""The unit that is counted as one source address.

Envoy determines the address of a request; the policy limits how much may come from it.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

_IPV6_PREFIX = 64  # the smallest assignment to one customer, so all of it counts as one caller


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """Return the counted unit of an address: an IPv4 address itself, the /64 of an IPv6 one, "" for anything else."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed.packed, _IPV6_PREFIX), strict=False))
