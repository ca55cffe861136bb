"""URLs of settings without their secrets, for people, and texts without the secrets of these URLs.

Which settings hold a URL is `settings.py`.
"""

import re
from collections.abc import Iterable
from urllib.parse import unquote, unquote_plus

MASK = "***"
_SECRET_CHARS_MIN = 3
# Parameters whose values are no secrets. Every other value is masked, also of a parameter that does not exist yet.
_PLAIN_PARAMETERS = {
    *("application_name", "client_encoding", "connect_timeout", "db", "dbname", "host", "port", "target_session_attrs"),
    *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"),
    *("channel_binding", "gssencmode", "load_balance_hosts", "max_connections", "health_check_interval", "protocol"),
    *("sslmode", "sslnegotiation", "ssl_cert_reqs", "ssl_check_hostname"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
}
_CREDENTIAL = re.compile(r"[:@/?&=#]")


def masked_url(url: str, *, strict: bool = False) -> str:
    """Return a URL whose password and unknown parameters are masked.

    A user without a password is masked too, because tokens are given like this. `strict` also masks every user and
    every path but the number of a database: nothing is left that a caller can have chosen as a secret.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return MASK if url else ""
    # The last @ ends the credentials: what looks like a path or a parameter before it is a part of a password.
    credentials, at, rest = rest.rpartition("@")
    before, question, query = rest.partition("#")[0].partition("?")
    host, slash, path = before.partition("/")
    if strict and path and not path.isdecimal() and scheme != "unix":
        path = MASK
    shown = f"{_user(credentials, strict=strict)}{at}{host}{slash}{path}"
    parameters = "&".join(map(_parameter, query.split("&"))) if question else ""
    return f"{scheme}://{shown}{question}{parameters}" + (f"#{MASK}" if "#" in rest else "")


class Scrubber:
    """Removes the secret parts of URLs, and other secrets, from texts: messages of drivers may quote them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        parts = {spelling for secret in secrets for part in _secret_parts(secret) for spelling in _spellings(part)}
        self._parts = sorted((part for part in parts if len(part) >= _SECRET_CHARS_MIN), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return a text without secrets."""
        for part in self._parts:
            text = text.replace(part, MASK)
        return text


def _user(credentials: str, *, strict: bool) -> str:
    if not credentials:
        return ""
    user, colon, _ = credentials.partition(":")
    if strict or not colon:
        return MASK
    return f"{user}:{MASK}"


def _parameter(text: str) -> str:
    name, equals, _ = text.partition("=")
    return text if not equals or name.lower() in _PLAIN_PARAMETERS else f"{name}={MASK}"


def _secret_parts(secret: str) -> Iterable[str]:
    yield secret
    _, separator, rest = secret.partition("://")
    if not separator:
        return
    credentials, _, rest = rest.rpartition("@")
    if credentials:
        yield credentials
        user, _, password = credentials.partition(":")
        yield password
        yield from _CREDENTIAL.split(password)
        if not password:
            yield user
    rest, _, fragment = rest.partition("#")
    yield fragment
    for parameter in rest.partition("?")[2].split("&"):
        name, _, value = parameter.partition("=")
        if name.lower() not in _PLAIN_PARAMETERS:
            yield value


def _spellings(part: str) -> tuple[str, ...]:
    return part, unquote(part), unquote_plus(part)
