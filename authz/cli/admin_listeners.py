"""How commands read admin listeners: the addresses, TLS with its options, and a bound on what a response may take.

What the responses mean is in the commands.
"""

import ssl
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import typer

CaFile = Annotated[
    Path | None,
    typer.Option(help="The CA (PEM) of the listeners' certificates; addresses without a scheme are then https."),
]
CertificateFile = Annotated[Path | None, typer.Option(help="The certificate of this client (PEM), with --key-file.")]
KeyFile = Annotated[Path | None, typer.Option(help="The private key of that certificate (PEM).")]
ServerName = Annotated[
    str, typer.Option(help="The name in the listeners' certificates, if it is not the host of the address.")
]


@dataclass(frozen=True, slots=True)
class AdminListeners:
    """Reads admin listeners; with a TLS context, those without a scheme by https."""

    tls: ssl.SSLContext | None = None

    def url(self, address: str, path: str) -> str:
        """Return the URL of a path at `HOST:PORT` or `http[s]://HOST:PORT`; raises `ValueError` for anything else."""
        text = address if "://" in address else f"{'https' if self.tls else 'http'}://{address}"
        if "@" in text:
            raise ValueError("an admin listener has no user and no password: give its host and port only")
        try:
            url = urlsplit(text)
            has_place = bool(url.hostname) and url.port is not None
        except ValueError:
            has_place = False
        if not has_place or url.scheme not in {"http", "https"} or url.query or not text.isprintable():
            raise ValueError(f"not an address of an admin listener, such as 127.0.0.1:9090: {ascii(address)[1:-1]}")
        return f"{url.scheme}://{url.netloc}{path}"

    def read(self, url: str, bytes_max: int, timeout_s: float) -> tuple[int, bytes]:
        """Return the status and the first bytes of the body. Raises `OSError`, and `ValueError` for other protocols.

        Neither a proxy of the environment nor a redirect leads anywhere else.
        """
        handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.tls), _NoRedirects()
        try:
            with urllib.request.build_opener(*handlers).open(url, timeout=timeout_s) as response:
                return int(response.status), bytes(response.read(bytes_max))
        except HTTPError as error:
            with error:
                return error.code, error.read(bytes_max)
        except HTTPException as error:
            raise ValueError(f"not an HTTP response ({type(error).__name__})") from None


def admin_listeners(
    addresses: list[str],
    addresses_max: int,
    ca_file: Path | None,
    certificate_file: Path | None,
    key_file: Path | None,
    server_name: str,
) -> AdminListeners:
    """Return what reads these addresses by the options of a command; raises `typer.BadParameter` for unusable ones."""
    if len(addresses) > addresses_max:
        raise typer.BadParameter(f"at most {addresses_max} addresses")
    if (certificate_file is None) != (key_file is None):
        raise typer.BadParameter("--certificate-file and --key-file need each other")
    tls = None
    if ca_file or certificate_file or server_name:
        tls = _context(ca_file, certificate_file, key_file, server_name)
    made = AdminListeners(tls)
    for address in addresses:
        try:
            made.url(address, "/")
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return made


def distinct(addresses: Iterable[str]) -> list[str]:
    """Return addresses in order, each of them once: twice, its process would count twice."""
    return list(dict.fromkeys(addresses))


def described_error(error: Exception) -> str:
    """Return in a few words why a listener could not be read."""
    return str(getattr(error, "reason", "") or error) or type(error).__name__


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error with its status."""

    def redirect_request(self, *_: object) -> None:
        """Return nothing to request instead (`urllib.request.HTTPRedirectHandler`)."""


class _NamedContext(ssl.SSLContext):
    """A context that expects one name in every certificate, whatever the address is."""

    name: str

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 -- as `ssl.SSLContext`
        """Begin TLS (`ssl.SSLContext`)."""
        return super().wrap_socket(*args, **options | {"server_hostname": self.name})


def _context(
    ca_file: Path | None, certificate_file: Path | None, key_file: Path | None, server_name: str
) -> ssl.SSLContext:
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT) if server_name else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if isinstance(context, _NamedContext):
        context.name = server_name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
    except OSError as error:
        raise typer.BadParameter(f"{ca_file} cannot be used: {type(error).__name__}", param_hint="--ca-file") from None
    if certificate_file is not None:
        try:
            # An encrypted key would ask a person.
            context.load_cert_chain(certificate_file, key_file, password="")
        except OSError as error:
            text = f"{certificate_file} and {key_file} cannot be used: {type(error).__name__}"
            raise typer.BadParameter(text, param_hint="--certificate-file") from None
    return context
