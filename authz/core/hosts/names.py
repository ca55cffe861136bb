"""Names of hosts: every spelling of a host becomes one, and what has more than one reading becomes none.

Which rows a host has is `table.py`.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from unicodedata import normalize

ANY_HOST = "*"
"""The pattern of every host that can be read."""

HOSTS_MAX = 64
"""The most hosts that one policy distinguishes."""

_NAME_CHARS_MAX, _PORT_CHARS_MAX = 253, 5
_CHARS_MAX = _NAME_CHARS_MAX + 1 + 1 + _PORT_CHARS_MAX  # a trailing dot, and a colon with a port
_PORT = re.compile(r"(?::[0-9]{0,5})?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PUNYCODE = "xn--"


def host_name(authority: str) -> str:
    """Return the host of an authority in its one spelling; empty if it has none, or more than one reading.

    Case, a port, an empty port and one trailing dot do not matter. IPv6 addresses are compressed, in brackets. Names
    are in ASCII: labels with other characters are written in punycode, as their own lower-case form. Addresses in
    other forms than four decimal numbers, user names, escapes and lists of hosts have no reading.
    """
    return _host_name(authority) if len(authority) <= _CHARS_MAX else ""


def pattern_fault(pattern: str) -> str | None:
    """Return why a text is no pattern of hosts: a name, an address, `*.` before a name, or `*` alone."""
    if pattern == ANY_HOST:
        return None
    name = pattern.removeprefix("*.")
    found = host_name(name)
    if not found:
        ascii_only = name.isascii()
        return f"{pattern!r} is no host" + (
            "" if ascii_only else "; names outside ASCII are written in punycode, xn--…"
        )
    if name != found:
        return f"{pattern!r}: a host is written without a port and in lower case, {found!r}"
    if name != pattern and (name.startswith("[") or _NUMBER.fullmatch(name.rpartition(".")[2])):
        return f"{pattern!r}: an address has no hosts below it"
    return None


def host_regex(pattern: str) -> str:
    """Return a regular expression of the lower-case names that a pattern matches, as RE2 reads it."""
    if pattern == ANY_HOST:
        return ".+"
    return f".+{re.escape(pattern[1:])}" if pattern.startswith("*.") else re.escape(pattern)


@lru_cache(maxsize=4096)
def _host_name(authority: str) -> str:
    if not authority.isascii():
        return ""
    text = authority.lower()
    if text.startswith("["):
        return _ipv6(text)
    name, colon, port = text.partition(":")
    if not _PORT.fullmatch(colon + port):
        return ""
    labels = name.removesuffix(".").split(".")
    if len(name.removesuffix(".")) > _NAME_CHARS_MAX or not all(map(_is_label, labels)):
        return ""
    if _NUMBER.fullmatch(labels[-1]):  # some readers take 127.1, 0x7f.0.0.1 and 2130706433 for addresses
        return _ipv4(".".join(labels))
    return ".".join(labels)


def _ipv6(text: str) -> str:
    address, bracket, port = text[1:].partition("]")
    if not bracket or "%" in address or not _PORT.fullmatch(port):
        return ""
    try:
        parsed = IPv6Address(address)
    except AddressValueError:
        return ""
    # The text of such an address depends on the version of Python; this one is that of RFC 5952, section 5.
    mapped = parsed.ipv4_mapped
    return f"[{parsed.compressed}]" if mapped is None else f"[::ffff:{mapped}]"


def _ipv4(name: str) -> str:
    try:
        return str(IPv4Address(name))
    except AddressValueError:
        return ""


def _is_label(label: str) -> bool:
    if not _LABEL.fullmatch(label):
        return False
    if label[2:4] != "--":
        return True
    return label.startswith(_PUNYCODE) and _is_punycode(label)


def _is_punycode(label: str) -> bool:
    """Tell whether a label is the only one of its text, so that no reader that decodes it finds another label."""
    try:
        text = label.removeprefix(_PUNYCODE).encode().decode("punycode")
        again = text.encode("punycode").decode()
    except (UnicodeError, ValueError, OverflowError):
        return False
    if text.isascii() or f"{_PUNYCODE}{again}" != label:
        return False
    return normalize("NFKC", normalize("NFKC", text).casefold()) == text
