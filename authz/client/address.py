"""Where the API is: which addresses a key or a password may be sent to.

Asking there is `api.py`.
"""

import ipaddress
import re

import httpx

from authz.client.faults import WrongUsage

_HOST = re.compile(rb"[A-Za-z0-9._:-]+")  # names in their ASCII form, IPv6 without its brackets


def checked(text: str, *, insecure_http: bool) -> str:
    """Return an API's address without a slash at its end; raises `WrongUsage` for one that no secret may go to.

    Plain http is for this machine, unless `insecure_http`. The parser is the one that the request is made with, so
    that what is checked is where it goes.
    """
    url = _parsed(text.strip())
    if url is None:
        raise WrongUsage("the API's address cannot be understood: it looks like https://HOST")
    if url.userinfo:
        raise WrongUsage("the API's address must not hold a user or a password")
    if url.scheme not in {"https", "http"} or url.query or url.fragment:
        raise WrongUsage("the API's address looks like https://HOST, without a query or a fragment")
    if url.scheme == "http" and not insecure_http and not is_loopback(url.host):
        raise WrongUsage(
            f"{url.host} is another machine, and over plain http others can read keys and passwords: "
            "use https, or --insecure-http if you must"
        )
    return str(url).rstrip("/")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its very name, whatever a name server says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_for_browsers(text: str) -> bool:
    """Tell whether an address that the API sent may be handed to a browser: a web page, and nothing else."""
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
