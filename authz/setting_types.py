"""The types of settings: which texts are an address, a URL, a duration or a file, and how a secret is read from one.

Which settings there are is `settings.py`.
"""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from authz.adapters.postgres.url import read_postgres_url
from authz.adapters.public_url import canonical_host, canonical_origin
from authz.adapters.redis.connection.url import read_url
from authz.core.errors import Refused
from authz.core.text import CONTROL

_SECRET_BYTES_MAX = 65_536
_UNIX = "unix:"
_PORT_MAX = 65535
_LOCAL_SENDER = re.compile(r"[\w.+-]+@localhost")


def _checked_listen(value: str) -> str:
    _, colon, port = value.rpartition(":")
    if value.startswith(_UNIX) and len(value) > len(_UNIX):
        return value
    if colon and port.isascii() and port.isdigit() and int(port) <= _PORT_MAX:
        return value
    raise ValueError("must be HOST:PORT or unix:/PATH")


def is_exposed(listen: str) -> bool:
    """Return whether an address can be reached from other machines: all but loopback and unix sockets."""
    if not listen or listen.startswith(_UNIX):
        return False
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True


def files_together(prefix: str, certificate: Path | None, key: Path | None, client_ca: Path | None) -> None:
    """Raise `ValueError` unless the files of TLS belong together."""
    if (certificate is None) != (key is None):
        raise ValueError(f"{prefix}_CERTIFICATE_FILE and {prefix}_KEY_FILE need each other")
    if client_ca is not None and certificate is None:
        raise ValueError(f"{prefix}_CLIENT_CA_FILE needs {prefix}_CERTIFICATE_FILE")


def check_transport(
    certificate: Path | None, key: Path | None, client_ca: Path | None, client_names: str, plain: tuple[str, ...]
) -> None:
    """Raise `ValueError` unless the files of TLS belong together, and no address in `plain` is exposed."""
    files_together("AUTHZ_CHECK", certificate, key, client_ca)
    if client_names.strip(" ,") and client_ca is None:
        raise ValueError("AUTHZ_CHECK_CLIENT_NAMES needs AUTHZ_CHECK_CLIENT_CA_FILE")
    if any(map(is_exposed, plain)):
        raise ValueError("checks from other machines need AUTHZ_CHECK_CERTIFICATE_FILE or AUTHZ_CHECK_PLAIN_TEXT=true")


def _checked_mail_url(value: SecretStr) -> SecretStr:
    if value.get_secret_value() in {"", "log:"}:
        return value
    where = _split(value.get_secret_value())
    if where is None or where.scheme not in {"smtp", "smtps"} or not where.hostname:
        raise ValueError("must be smtp://…, smtps://… or log:")
    if where.path.strip("/") or where.query or where.fragment or where.port == 0:
        raise ValueError("must be smtp://[USER:PASSWORD@]HOST[:PORT], with special characters percent-encoded")
    if (where.username is None) != (where.password is None):
        raise ValueError("must have a user and a password, or neither")
    canonical_host(where.hostname.removesuffix("."))
    return value


def _checked_mail_from(value: str) -> str:
    if _LOCAL_SENDER.fullmatch(value):
        return value
    from email.errors import InvalidHeaderDefect  # noqa: PLC0415 -- the sidecar does not need it
    from email.message import EmailMessage  # noqa: PLC0415 -- the sidecar does not need it

    try:
        from authz.adapters.email_addresses import normalised_email  # noqa: PLC0415 -- the same
    except ImportError:  # without the portal's packages no mail is sent
        return value
    message = EmailMessage()
    try:
        message["From"] = value
        (address,) = message["From"].addresses
        normalised_email(address.addr_spec)
        is_sound = not any(isinstance(defect, InvalidHeaderDefect) for defect in message["From"].defects)
    except (Refused, ValueError):
        is_sound = False
    if not is_sound:
        raise ValueError("must be an e-mail address, or NAME <ADDRESS>")
    return value


def _checked_otlp_endpoint(value: str) -> str:
    if not value:
        return value
    where = _split(value)
    is_plain = where is not None and not (where.username or where.password or where.query or where.fragment)
    if where is None or not is_plain or where.scheme not in {"http", "https"} or not where.hostname or "@" in value:
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT, without credentials; they are headers")
    return value


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL; None if it has no valid host and port."""
    try:
        where = urlsplit(url)
        port = where.port or 1
    except ValueError:
        return None
    return where if port <= _PORT_MAX else None


def _checked_postgres_url(value: SecretStr) -> SecretStr:
    read_postgres_url(value.get_secret_value())
    return value


def _checked_redis_url(value: SecretStr) -> SecretStr:
    read_url(value.get_secret_value())
    return value


Listen = Annotated[str, AfterValidator(_checked_listen)]
OptionalListen = Annotated[str, AfterValidator(lambda value: value and _checked_listen(value))]
Seconds = Annotated[float, Field(gt=0, le=3600)]
WatchSeconds = Annotated[float, Field(ge=0, le=3600)]
OptionalFile = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
SocketMode = Annotated[str, Field(pattern="^0?[0-7]{3}$")]
LongSeconds = Annotated[int, Field(ge=60, le=30 * 86_400)]
PublicUrl = Annotated[str, AfterValidator(canonical_origin)]
MailUrl = Annotated[SecretStr, AfterValidator(_checked_mail_url)]
OtlpEndpoint = Annotated[str, AfterValidator(_checked_otlp_endpoint)]
MailFrom = Annotated[str, AfterValidator(_checked_mail_from)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_checked_postgres_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_checked_redis_url)]


def read_secret(file: Path) -> str:
    """Read a secret, one line of text, from a file; raises OSError, and ValueError where it is something else."""
    with file.open("rb") as opened:
        content = opened.read(_SECRET_BYTES_MAX + 1)
    secret = content.decode("utf-8-sig").rstrip("\r\n")  # some editors write a mark of the encoding first
    if len(content) > _SECRET_BYTES_MAX or CONTROL.search(secret):
        raise ValueError("must be one line of text, of 64 KiB at most")
    return secret
