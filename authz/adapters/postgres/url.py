"""The libpq URL of Postgres: each parameter is honoured, or refused by name.

Connections are made in `session.py`. Nothing here repeats a value of the URL in an error, because it may be a password.
"""

import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from authz.core.text import CONTROL

# Read by the driver.
_DRIVER = {
    *("dbname", "user", "password", "passfile"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"),
}
# Sent to the server when a connection starts. A pooler may refuse `options`.
_STARTUP = {"application_name", "options"}
# Values that change nothing here. Every other value asks for something that authz cannot do.
_NEUTRAL = {
    "client_encoding": {"utf8", "utf-8", "auto"},
    "gssencmode": {"disable", "prefer", "allow"},
    "channel_binding": {"disable", "prefer"},
    "load_balance_hosts": {"disable"},
    "sslcompression": {"0"},
    "sslsni": {"1"},
    "sslcertmode": {"allow"},
    "gssdelegation": {"0"},
    "replication": {"false", "off", "no", "0"},
    "target_session_attrs": {"any", "primary", "read-write"},
}
# Values that the driver knows.
_VALUES = {
    "sslmode": {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
    "sslnegotiation": {"postgres", "direct"},
    "ssl_min_protocol_version": {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
    "ssl_max_protocol_version": {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
    "gsslib": {"gssapi", "sspi"},
}
# With the most that Linux accepts.
_KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 32_767,
    "keepalives_interval": 32_767,
    "keepalives_count": 127,
    "tcp_user_timeout": 2**31 - 1,
}
_SECONDS_MAX = 3600
_PORT_MAX = 65_535
_ESCAPES = "percent-encode / as %2F, # as %23, ? as %3F, @ as %40, : as %3A and % as %25, or use a passfile"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Host:
    """One server of a URL. `name` is a host, an address or the folder of a unix socket; `port` is None for PGPORT."""

    name: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Server:
    """One server to try: a host, None for those that the driver knows, and one of its addresses if it has several."""

    host: Host | None
    address: str = ""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """TCP options of each connection, in seconds. `user_timeout_ms` is 0 for the system's own."""

    enabled: bool = True
    idle_s: int = 20
    interval_s: int = 5
    probes: int = 3
    user_timeout_ms: int = 0

    def apply(self, connected: socket.socket) -> None:
        """Set the options on a TCP socket; a unix socket has none."""
        if connected.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(self.enabled))
        for name, amount in (
            ("TCP_KEEPIDLE", self.idle_s),
            ("TCP_KEEPINTVL", self.interval_s),
            ("TCP_KEEPCNT", self.probes),
            ("TCP_USER_TIMEOUT", self.user_timeout_ms),
        ):
            if amount and hasattr(socket, name):  # not every system has all of them
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), amount)


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A URL that was checked, with what a service file adds. `dsn` is for the driver; `hosts` may be left to it."""

    dsn: str = field(repr=False)
    hosts: tuple[Host, ...]
    startup: Mapping[str, str]
    keepalive: Keepalive
    connect_s: float | None


def read_postgres_url(url: str) -> PostgresUrl:
    """Read a URL `postgresql://[user[:password]@][host[:port],…][/dbname][?name=value&…]`.

    Raises `ValueError` with a message that names the fault and quotes no value.
    """
    url = url.strip()
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be postgresql://[user[:password]@]host[:port][/database][?parameter=value]")
    parts = _parts(url)
    _check_escapes(url, parts.netloc)
    parameters = _parameters(parts.query)
    service = parameters.pop("service", "") or os.environ.get("PGSERVICE", "")
    parameters = (_service(service) if service else {}) | parameters
    startup = {name: parameters.pop(name) for name in _STARTUP & parameters.keys()}
    fallback = parameters.pop("fallback_application_name", "authz")
    startup.setdefault("application_name", fallback)
    hosts = _hosts(parts.netloc.rpartition("@")[2], parameters)
    connect = parameters.pop("connect_timeout", None)
    keepalive = _keepalive(parameters)
    _refuse_others(parameters)
    dsn = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(parameters), ""))
    connect_s = None if connect is None else _number("connect_timeout", connect, _SECONDS_MAX)
    return PostgresUrl(dsn, hosts, startup, keepalive, connect_s or None)


def url_reader(source: str | Callable[[], str]) -> Callable[[], PostgresUrl]:
    """Return what reads a URL anew for each connection, so that a rotated password needs no restart."""
    return lambda: read_postgres_url(source if isinstance(source, str) else source())


def _parts(url: str) -> SplitResult:
    if CONTROL.search(url):  # the library below removes line ends silently
        raise ValueError("there is a line end or another control character in it")
    try:
        return urlsplit(url)
    except ValueError:  # its message quotes the user and the password
        raise ValueError(f"the user, the password or a host cannot be read: {_ESCAPES}") from None


def _check_escapes(url: str, netloc: str) -> None:
    rest = url.partition("://")[2]
    if "#" in rest or netloc.count("@") > 1 or (netloc.count("@") == 0 and "@" in rest.partition("?")[0]):
        raise ValueError(f"the user or the password has a character with a meaning in URLs: {_ESCAPES}")
    if "%00" in url:
        raise ValueError("%00 is no character of a name or a value")
    if _BAD_ESCAPE.search(url):
        raise ValueError(f"a % is not followed by two hexadecimal digits: {_ESCAPES}")


def _parameters(query: str) -> dict[str, str]:
    try:
        # To libpq a + is a +; in a form it would be a space.
        pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ValueError("a parameter is not of the form name=value") from None
    parameters = {name: value for name, value in pairs if value}
    if "database" in parameters:  # the driver's word for it
        parameters.setdefault("dbname", parameters.pop("database"))
    return parameters


def _service(name: str) -> dict[str, str]:
    """Read the parameters of a service, as libpq does; those of the URL come first."""
    path = os.environ.get("PGSERVICEFILE") or str(Path.home() / ".pg_service.conf")
    services = ConfigParser(delimiters="=", comment_prefixes="#", strict=False, interpolation=None)
    services.optionxform = str  # type: ignore[assignment, method-assign]  # names have one spelling
    try:
        services.read(path)
    except (ConfigError, OSError, UnicodeError):
        raise ValueError("the service file (PGSERVICEFILE) cannot be read") from None
    if name not in services:
        raise ValueError("the service is not in the service file (PGSERVICEFILE, else ~/.pg_service.conf)")
    return {key: text for key, text in services[name].items() if text}


def _hosts(netloc: str, parameters: dict[str, str]) -> tuple[Host, ...]:
    names = parameters.pop("host", "") or os.environ.get("PGHOST", "")
    ports = parameters.pop("port", "")
    if netloc and not netloc.startswith(":"):
        # A folder has a port too: %2Frun%2Fpostgresql:5433.
        named = [replace(host, name=unquote(host.name)) for host in map(_host, netloc.split(","))]
    else:
        named = [_host(one) for one in names.split(",")] if names else []
        if netloc.startswith(":") and not ports:
            ports = netloc[1:]
    ports = ports or os.environ.get("PGPORT", "")
    if not ports:
        return tuple(named)
    numbers = [_port(one) for one in ports.split(",")]
    if not named:
        named = [Host("localhost", None)]
    if len(numbers) == 1:
        numbers *= len(named)
    if len(numbers) != len(named):
        raise ValueError("the parameter port must name one port, or one for each host")
    return tuple(Host(host.name, host.port or port) for host, port in zip(named, numbers, strict=True))


def _host(text: str) -> Host:
    if text.startswith("/"):
        return Host(text, None)
    if text.startswith("["):
        name, _, port = text[1:].partition("]")
        return Host(name, _port(port[1:]) if port else None)
    name, colon, port = text.partition(":") if text.count(":") == 1 else (text, "", "")
    if not name:
        raise ValueError("a host is empty")
    return Host(name, _port(port) if colon and port else None)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _PORT_MAX):
        # A password that is not percent-encoded looks like a host and a port.
        raise ValueError(f"a port is not a number from 1 to {_PORT_MAX}; in a password, {_ESCAPES}")
    return int(text)


def _keepalive(parameters: dict[str, str]) -> Keepalive:
    given = {name: _number(name, parameters.pop(name), most) for name, most in _KEEPALIVE.items() if name in parameters}
    default = Keepalive()
    return Keepalive(
        enabled=bool(given.get("keepalives", 1)),
        idle_s=given.get("keepalives_idle", 0) or default.idle_s,
        interval_s=given.get("keepalives_interval", 0) or default.interval_s,
        probes=given.get("keepalives_count", 0) or default.probes,
        user_timeout_ms=given.get("tcp_user_timeout", 0),
    )


def _number(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise ValueError(f"the parameter {name} must be a whole number of at most {most}")
    return int(text)


def _refuse_others(parameters: dict[str, str]) -> None:
    for name in [name for name in _NEUTRAL if name in parameters]:
        if parameters.pop(name).lower() not in _NEUTRAL[name]:
            raise ValueError(f"the parameter {name} is supported with {_choices(sorted(_NEUTRAL[name]))} only")
    for name in [name for name in _VALUES if parameters.get(name, "") not in {"", *_VALUES[name]}]:
        raise ValueError(f"the parameter {name} is supported with {', '.join(sorted(_VALUES[name]))} only")
    unknown = sorted(parameters.keys() - _DRIVER)
    if unknown:
        hint = "a server's setting is set with options=-c%20name%3Dvalue"
        raise ValueError(f"the parameter {_choices(unknown)} is not supported; {hint}")
    if parameters.get("sslrootcert") == "system":
        raise ValueError("the parameter sslrootcert must name a file; 'system' is not supported")


def _choices(names: Sequence[str]) -> str:
    shown = [name if re.fullmatch(r"[a-z_0-9-]{1,40}", name) else "…" for name in names]
    return ", ".join(shown)
