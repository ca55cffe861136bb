"""TLS of the listeners: the certificate, who may connect, and the reload after a rotation.

The files are those that cert-manager and SPIFFE helpers write. Which files, is a setting.
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authz.edge.check.certificate import earliest_end_s

_log = logging.getLogger("authz.check")

_State = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With `client_ca`, clients need a certificate of it; with `client_names`, one with such a SAN as well.

    A SAN is a DNS name or a URI, such as `spiffe://cluster.local/ns/gateway/sa/envoy`, and is compared as a whole.
    `protocols` are those that the client is offered (ALPN).
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_names: frozenset[str] = frozenset()
    protocols: tuple[str, ...] = ("h2",)


class CheckTls:
    """The TLS context for new connections. Raises `OSError`, as `ssl.SSLError`, for unusable files at the start.

    Later, a file that cannot be used leaves the present context in place: writers replace one file after the other.
    """

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self._state = self._read_state()
        self._context = _context(files)
        self._ends_at_s = _end_s(files.certificate)

    def expires_at_s(self) -> float | None:
        """Return when the certificate of new connections ends, in Unix time; None if its file shows no time."""
        self.context()
        return self._ends_at_s

    def context(self) -> ssl.SSLContext:
        """Return the context, made anew if a file has changed. Connections that are open keep theirs."""
        try:
            state = self._read_state()
            if state != self._state:
                self._context = _context(self.files)
                self._state = state
                self._ends_at_s = _end_s(self.files.certificate)
                _log.info("certificate reloaded", extra={"file": str(self.files.certificate)})
        except OSError as error:
            _log.warning("certificate not reloaded, the present one stays", extra={"error": type(error).__name__})
        return self._context

    def admits(self, transport: asyncio.BaseTransport) -> bool:
        """Return whether the client's certificate has one of the names; always, if none are required."""
        if not self.files.client_names:
            return True
        certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
        alternatives: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
        return self.admits_names({name for kind, name in alternatives if kind in {"DNS", "URI"}})

    def admits_names(self, names: AbstractSet[str]) -> bool:
        """Return whether one of a certificate's names is admitted; always, if none are required."""
        if not self.files.client_names or names & self.files.client_names:
            return True
        _log.warning("client refused: none of the names of its certificate is admitted")
        return False

    def _read_state(self) -> _State:
        # Through symbolic links: Kubernetes replaces the folder that they lead to.
        paths = [self.files.certificate, self.files.key, self.files.client_ca]
        found = [path.stat() for path in paths if path is not None]
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)


def _end_s(certificate: Path) -> float | None:
    try:
        return earliest_end_s(certificate.read_bytes())
    except (OSError, ValueError):
        return None


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(files.protocols))
    # A resumed session would not show its certificate again.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    # An encrypted key would make the process wait for a person.
    context.load_cert_chain(files.certificate, files.key, password="")
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
