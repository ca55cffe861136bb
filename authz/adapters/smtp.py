"""Mail to account owners over SMTP, or to the log for a demo without a mail server (`service.portal.ports.Mail`).

The use cases in `service/portal/` write the texts.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from ssl import SSLError
from typing import Any
from urllib.parse import unquote, urlsplit

import aiosmtplib
import idna

from authz.core.errors import StoreUnavailable

_DEADLINE_S = 10.0
_WAITS_S = (5.0, 60.0)  # greylisting usually ends within a minute
_PORTS = {"smtp": 587, "smtps": 465}

_log = logging.getLogger("authz.mail")


class SmtpMail:
    """Mail over `smtp://[user:password@]host[:port]` with STARTTLS, or `smtps://` with TLS from the start.

    Without STARTTLS only loopback is permitted: a password or a link must not be sent unencrypted. `waits_s` are the
    waits before each retry.
    """

    is_set_up = True

    def __init__(self, url: str, sender: str, *, waits_s: Sequence[float] = _WAITS_S) -> None:
        where = urlsplit(url)
        is_local = where.hostname in {"localhost", "127.0.0.1", "::1"}
        address = parseaddr(sender)[1]
        self._sender = sender.replace(address, _ascii_domain(address)) if address else sender
        self._domain = _ascii_domain(address).rpartition("@")[2] or "localhost"
        self._waits_s = waits_s
        self._options: dict[str, Any] = {
            "hostname": where.hostname,
            "port": where.port or _PORTS[where.scheme],
            "username": unquote(where.username) if where.username else None,
            "password": unquote(where.password) if where.password else None,
            "use_tls": where.scheme == "smtps",
            "start_tls": None if is_local else where.scheme == "smtp",
            "timeout": _DEADLINE_S,
        }

    async def send(self, recipient: str, subject: str, text: str) -> None:
        """Send one mail; a temporary error, or a lost connection, is retried. Raises `StoreUnavailable`."""
        message = self._message(recipient, subject, text)
        for wait_s in (*self._waits_s, None):
            try:
                await aiosmtplib.send(message, **self._options)
            except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
                if wait_s is None or not _is_temporary(error):
                    # The text of a mail server's error may quote the mail.
                    raise StoreUnavailable("mail", type(error).__name__) from error
                await asyncio.sleep(wait_s)
            else:
                return

    def _message(self, recipient: str, subject: str, text: str) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, _ascii_domain(recipient), subject
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = make_msgid(domain=self._domain)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation replies
        message.set_content(text, cte="7bit")  # the texts are ASCII, and a link must not be wrapped
        return message


def _ascii_domain(address: str) -> str:
    """Return an address with its domain in ASCII, which servers without SMTPUTF8 accept."""
    local, at, domain = address.rpartition("@")
    if domain.isascii():
        return address
    try:
        return f"{local}{at}{idna.encode(domain, uts46=True).decode('ascii')}"
    except idna.IDNAError:
        return address


def _is_temporary(error: Exception) -> bool:
    """Return whether another attempt may succeed: the server asks for it (4xx, such as 451), or is not connected."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(_is_temporary(refused) for refused in error.recipients)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return 400 <= error.code < 500  # noqa: PLR2004 -- SMTP
    return isinstance(error, OSError) and not isinstance(error.__cause__, SSLError)


class LoggedMail:
    """Mail to the log, for the demo: everybody who reads the log can use the links."""

    is_set_up = True

    async def send(self, recipient: str, subject: str, text: str) -> None:
        """Log one mail."""
        _log.info("mail", extra={"recipient": recipient, "subject": subject, "text": text})


class NoMail:
    """No mail: addresses stay unverified."""

    is_set_up = False

    async def send(self, recipient: str, subject: str, text: str) -> None:
        """Discard one mail."""
        _log.debug("mail is not configured", extra={"recipient": recipient, "subject": subject, "chars": len(text)})
