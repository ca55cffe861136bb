"""Parses `AUTHZ_REDIS_URL` into the servers that it names, with the redis-py URL of each.

    redis://[user:password@]host:port/db                                one server; rediss:// with TLS; unix:///path
    redis+sentinel://[user:password@]host:port,host:port…/name[/db]     the primary that these Sentinels call `name`
    redis+cluster://[user:password@]host:port,host:port…                a cluster, through any of these nodes

Connections belong to `primary.py` and `cluster.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlencode

from authz.core.errors import StoreUnavailable
from authz.core.text import CONTROL

Source: TypeAlias = str | Callable[[], str]
"""A URL, or what reads one, which may raise OSError and ValueError."""

_PORT = 6379
_SENTINEL_PORT = 26379
_PORT_MAX = 65535
_SENTINEL_USER, _SENTINEL_PASSWORD = "sentinel_username", "sentinel_password"
_OF_SENTINELS = {_SENTINEL_USER, _SENTINEL_PASSWORD}
_OF_SERVERS = {"username", "password"}
# redis-py has more, such as `decode_responses`, after which no reply could be read.
_PARAMETERS = {
    *("db", "client_name", "protocol", "max_connections", "health_check_interval", "retry_on_timeout"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", *_OF_SERVERS),
}


class Form(StrEnum):
    """The kind of deployment that a URL names."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_FORMS = {
    "redis": Form.SERVER,
    "rediss": Form.SERVER,
    "unix": Form.SERVER,
    "redis+sentinel": Form.SENTINEL,
    "rediss+sentinel": Form.SENTINEL,
    "redis+cluster": Form.CLUSTER,
    "rediss+cluster": Form.CLUSTER,
}


class Address(NamedTuple):
    """The address of a server; `host` is a name or an IP address, IPv6 without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL. `nodes` are Sentinels or cluster nodes; `name` is the name of the primary in the Sentinels."""

    form: Form
    text: str = field(repr=False)
    nodes: tuple[Address, ...] = ()
    name: str = ""
    _scheme: str = "redis"
    _user: str = field(default="", repr=False)
    _database: str = "0"
    _options: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def server_url(self, address: Address) -> str:
        """Return the redis-py URL of a data server."""
        return self._url(self._user, address, without=_OF_SENTINELS)

    def sentinel_url(self, address: Address) -> str:
        """Return the redis-py URL of a Sentinel: it has its own credentials, or none, and no databases."""
        own = dict(self._options)
        user, password = own.get(_SENTINEL_USER, ""), own.get(_SENTINEL_PASSWORD, "")
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
        return self._url(credentials, address, without=_OF_SENTINELS | _OF_SERVERS, database="0")

    def _url(self, user: str, address: Address, *, without: set[str], database: str | None = None) -> str:
        query = urlencode([(name, text) for name, text in self._options if name not in without])
        place = self._database if database is None else database
        return f"{self._scheme}://{user}{address}/{place}" + (f"?{query}" if query else "")


class UrlSource:
    """A URL that is read again for each connection, so that a rotated password needs no restart.

    `url` is the latest one. Raises `ValueError`, whose message quotes no part of it.
    """

    def __init__(self, source: Source) -> None:
        self._read: Callable[[], str] = (lambda: source) if isinstance(source, str) else source
        self.url = self._latest()

    def renew(self) -> bool:
        """Read the URL again; return whether it has changed. Raises `StoreUnavailable`."""
        try:
            url = self._latest()
        except ValueError as error:
            raise StoreUnavailable("redis", f"AUTHZ_REDIS_URL: {error}") from None
        if url.form is not self.url.form:
            raise StoreUnavailable("redis", "AUTHZ_REDIS_URL: another form of URL needs a restart")
        is_other, self.url = url != self.url, url
        return is_other

    def _latest(self) -> RedisUrl:
        try:
            return read_url(self._read())
        except (OSError, UnicodeError) as error:
            raise ValueError(f"cannot be read: {type(error).__name__}") from None


def read_url(text: str) -> RedisUrl:
    """Parse a URL; raises `ValueError`, whose message quotes no part of it."""
    text = text.strip()
    scheme, _, rest = text.partition("://")
    form = _FORMS.get(scheme)
    if form is None:
        raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in _FORMS)}")
    try:
        _check_parts(form, rest)
        if form is Form.SERVER:
            _check_parameters(text)
            return RedisUrl(form, text)
        url = _read_nodes(form, scheme, text, rest)
        _check_parameters(url.server_url(url.nodes[0]))
    except ValueError as error:
        # The error for an invalid port quotes it, and it may be the end of a password.
        fault = error.args[0] if isinstance(error, _UrlError) else "is no URL of a Redis"
        raise ValueError(fault) from None
    return url


class _UrlError(ValueError):
    """A fault whose message quotes no part of the URL."""


def _check_parts(form: Form, rest: str) -> None:
    """Refuse what redis-py would ignore: it is the rest of a password that needs escapes, or a slip."""
    if CONTROL.search(rest):  # urlsplit removes line ends silently
        raise _UrlError("has a line end or another control character")
    before, asked, query = rest.partition("?")
    path = before.partition("/")[2]
    is_file = before.startswith("/")
    is_pair = not asked or all("=" in pair for pair in query.split("&"))
    if "#" in rest or not is_pair or "@" in query or ("@" in path and not is_file):
        raise _UrlError("has a part that cannot be read: in a password, percent-encode / as %2F, # as %23 and ? as %3F")
    _check_names(form, query)
    if form is Form.SERVER and not is_file and path and not _is_number(path.rstrip("/")):
        raise _UrlError("must end in /db, a number")


def _check_names(form: Form, query: str) -> None:
    names = {pair.partition("=")[0] for pair in query.split("&") if pair}
    if any(name not in _PARAMETERS | _OF_SENTINELS and not name.startswith("ssl_") for name in names):
        raise _UrlError("has a parameter that redis-py does not have, or that authz does not support")
    if form is not Form.SERVER and "db" in names:
        raise _UrlError("must name its database in its path")


def _check_parameters(url: str) -> None:
    from redis.asyncio.connection import ConnectionPool  # noqa: PLC0415 -- slow to load, and many commands use no Redis
    from redis.exceptions import RedisError  # noqa: PLC0415 -- as above

    try:
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
    except (TypeError, RedisError):
        raise _UrlError("has a parameter that redis-py does not have") from None


def _read_nodes(form: Form, scheme: str, text: str, rest: str) -> RedisUrl:
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    user, at, hosts = authority.rpartition("@")
    names = [unquote(part) for part in path.rstrip("/").split("/")]
    if form is Form.SENTINEL:
        name, database = names[0], names[1] if len(names) > 1 else "0"
        if not name or len(names) > 2 or not _is_number(database):  # noqa: PLR2004 -- name and database
            raise _UrlError("must end in /name or /name/db: the primary as its sentinels call it")
    else:
        name, database = "", "0"
        if names not in ([""], ["0"]):
            raise _UrlError("must name no database: a cluster has only the first")
    port = _SENTINEL_PORT if form is Form.SENTINEL else _PORT
    nodes = tuple(_read_address(host, port) for host in hosts.split(","))
    options = tuple(parse_qsl(query, keep_blank_values=True))
    return RedisUrl(form, text, nodes, name, scheme.partition("+")[0], user + at, database, options)


def _read_address(text: str, default_port: int) -> Address:
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        port = port.removeprefix(":") if closed else "none"
    else:
        host, _, port = text.partition(":")
    port = port or str(default_port)
    if not host or not _is_number(port) or int(port) > _PORT_MAX:
        raise _UrlError("must name its servers as host:port,host:port…")
    return Address(unquote(host), int(port))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
