"""Mails that are sent beside the request that causes them, so that no response waits for a mail server.

The adapter sends and retries; `../supervision.py` reports failures; the texts belong to the use cases.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from authz.core.errors import StoreUnavailable
from authz.service.portal.ports import Mail, PortalObserver
from authz.service.supervision import Supervisor

MAIL_WORK = "mail"
"""The name of this work in metrics and in the faults of the process."""


class OutgoingMail:
    """Starts works that send mails. A failure of one is counted and logged, and fails no request."""

    def __init__(self, mail: Mail, supervisor: Supervisor, observer: PortalObserver) -> None:
        self._mail = mail
        self._supervisor = supervisor
        self._observer = observer
        supervisor.expect(MAIL_WORK, event="a mail was not sent")

    @property
    def is_set_up(self) -> bool:
        """Tell whether mail is configured."""
        return self._mail.is_set_up

    async def send(self, recipient: str, subject: str, text: str) -> None:
        """Send one mail, within a work; raises `StoreUnavailable`."""
        await self._mail.send(recipient, subject, text)

    def start(self, work: Callable[[], Awaitable[object]]) -> None:
        """Begin a work; never raises."""
        self._supervisor.start(MAIL_WORK, partial(self._counted, work))

    async def _counted(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except StoreUnavailable as error:
            self._observer.store_failed(error.store)
            raise
