"""Validates the URL of the API: where a key or a password may be sent.

Requests are `api.py`.
"""

import ipaddress
import re

import httpx

from authz.client.faults import WrongUsage

_HOST = re.compile(rb"[A-Za-z0-9._:-]+")  # names in their ASCII form, IPv6 without its brackets


def checked(text: str, *, insecure_http: bool) -> str:
    """Return the URL of an API without a final slash; raises `WrongUsage` for one that no secret may be sent to.

    Plain http is for this machine only, unless `insecure_http`. The parser is that of the HTTP client, so that the
    checked host is the host of the request.
    """
    url = _parsed(text.strip())
    if url is None:
        raise WrongUsage("the URL of the API is invalid: it must look like https://HOST")
    if url.userinfo:
        raise WrongUsage("the URL of the API must not contain a user or a password")
    if url.scheme not in {"https", "http"} or url.query or url.fragment:
        raise WrongUsage("the URL of the API must look like https://HOST, without a query or a fragment")
    if url.scheme == "http" and not insecure_http and not is_loopback(url.host):
        raise WrongUsage(
            f"{url.host} is another machine, and over plain http others can read keys and passwords: "
            "use https, or --insecure-http to accept this"
        )
    return str(url).rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name, without a DNS lookup."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_for_browsers(text: str) -> bool:
    """Return whether a URL that the API sent may be opened in a browser: only a web page may."""
    url = _parsed(text)
    if url is None or url.userinfo:
        return False
    return url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host))


def _parsed(text: str) -> httpx.URL | None:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError):
        return None
    return url if _HOST.fullmatch(url.raw_host) else None
