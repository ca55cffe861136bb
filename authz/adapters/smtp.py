"""Mail to account owners over SMTP, or to the log for a demo without a mail server (`service.portal.ports.Mail`).

The texts of the mails are in `service/portal/accounts.py`.
"""

import logging
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

import aiosmtplib

from authz.core.errors import StoreUnavailable

_DEADLINE_S = 10.0
_PORTS = {"smtp": 587, "smtps": 465}

_log = logging.getLogger("authz.mail")


class SmtpMail:
    """Mail over `smtp://[user:password@]host[:port]` with STARTTLS, or `smtps://` with TLS from the start.

    Without STARTTLS only loopback is permitted: a password or a link must not be sent unencrypted.
    """

    is_set_up = True

    def __init__(self, url: str, sender: str) -> None:
        where = urlsplit(url)
        is_local = where.hostname in {"localhost", "127.0.0.1", "::1"}
        self._sender = sender
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
        """Send one mail; raises `StoreUnavailable`."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, recipient, subject
        message.set_content(text, cte="7bit")  # the texts are ASCII, and a link must not be wrapped
        try:
            await aiosmtplib.send(message, **self._options)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            # The text of a mail server's error may quote the mail.
            raise StoreUnavailable("mail", type(error).__name__) from error


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
