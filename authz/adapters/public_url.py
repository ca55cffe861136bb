"""The public origin of the portal in the one spelling that browsers send as `Origin`.

It is compared with that header and is the start of links in pages and mails, so it is ASCII.
"""

import re
from ipaddress import IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

_DEFAULT_PORTS = {"https": 443, "http": 80}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_HOST_CHARS_MAX = 253


def canonical_origin(url: str) -> str:
    """Return `https://HOST[:PORT]`, or http on loopback; raises `ValueError`, whose message does not repeat the URL."""
    try:
        where = urlsplit(url.strip())
        port = where.port
    except ValueError:
        raise ValueError("must be https://HOST[:PORT]") from None
    if where.scheme not in _DEFAULT_PORTS or not where.hostname or port == 0 or not _is_origin(where):
        raise ValueError("must be https://HOST[:PORT]")
    host = canonical_host(where.hostname)
    # A browser does not send a session's cookie over plain http to another machine.
    if where.scheme == "http" and not _is_loopback(host):
        raise ValueError("must be https, except on loopback")
    shown_port = "" if port in {None, _DEFAULT_PORTS[where.scheme]} else f":{port}"
    return f"{where.scheme}://{host}{shown_port}"


def _is_origin(where: SplitResult) -> bool:
    return not (where.path.strip("/") or where.query or where.fragment or "@" in where.netloc)


def canonical_host(host: str) -> str:
    """Return a name in lower case and ASCII, or an address, IPv6 in brackets; raises `ValueError` for anything else."""
    try:
        address = ip_address(host)
    except ValueError:
        return _canonical_name(host)
    if isinstance(address, IPv6Address):
        if address.scope_id:
            raise ValueError("must have an address without a zone")
        return f"[{address.compressed}]"
    return str(address)


def _canonical_name(host: str) -> str:
    name = host.lower() if host.isascii() else _punycode(host)
    labels = name.split(".")
    is_name = len(name) <= _HOST_CHARS_MAX and all(_LABEL.fullmatch(label) for label in labels)
    # A browser reads 127.1 and 0x7f.1 as addresses.
    if not is_name or labels[-1].isdigit() or labels[-1].startswith("0x"):
        raise ValueError("must have a host name or an address")
    return name


def _punycode(host: str) -> str:
    import idna  # noqa: PLC0415 -- rarely needed

    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise ValueError("must have a valid host name") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
