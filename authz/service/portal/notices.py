"""Notices by mail: what an owner should hear of, because somebody else may have done it.

`outgoing.py` sends beside the request; a notice that cannot be sent holds up nothing.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial

from authz.core.accounts import ApiKey
from authz.core.text import ascii_only
from authz.service.portal.outgoing import OutgoingMail
from authz.service.portal.ports import OwnerLedger

_ABOUT_CHARS_MAX = 200


class Notice(StrEnum):
    """What has happened, as the subject of the mail says it."""

    KEY_CREATED = "A new API key for your account"
    KEY_ROTATED = "An API key of your account was rotated"
    KEY_REVOKED = "An API key of your account was revoked"
    NEW_DEVICE = "A login from a new browser"
    PASSWORD_CHANGED = "The password of your account was changed"  # noqa: S105 -- a subject
    EMAIL_CHANGED = "The e-mail address of your account was changed"


_ALWAYS = {Notice.PASSWORD_CHANGED, Notice.EMAIL_CHANGED}
_TEXT = """{notice}.

    Account:  {account_id}
    About:    {about}
    From:     {address}
    Time:     {time}

If it was you, do nothing. If it was not you, change your password and
revoke the keys that you do not know at

    {url}
"""


def described(key: ApiKey) -> str:
    """Return the words by which a notice names a key; they contain no secret."""
    return f"{key.name} ({key.hint})"


class Notices:
    """Sends notices to owners whose address is verified: nobody gets mails who did not ask for them.

    `is_on` switches the notices about keys and new browsers; those about the login itself are always sent.
    """

    def __init__(
        self,
        ledger: OwnerLedger,
        outgoing: OutgoingMail,
        *,
        is_on: bool,
        url: str,
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._outgoing = outgoing
        self._is_on = is_on
        self._url = url
        self._now = now

    def tell(self, account_id: str, notice: Notice, address: str, about: str) -> None:
        """Begin to mail a notice to an account's owner; never raises.

        `address` is where the action came from, `about` its subject.
        """
        if self._sends(notice):
            self._outgoing.start(
                partial(self._tell, account_id, notice, self._text(account_id, notice, address, about))
            )

    def tell_at(self, email: str, account_id: str, notice: Notice, address: str, about: str) -> None:
        """Begin to mail a notice to a verified address, whosever it is now; never raises."""
        if self._sends(notice):
            text = self._text(account_id, notice, address, about)
            self._outgoing.start(partial(self._outgoing.send, email, notice.value, text))

    def _sends(self, notice: Notice) -> bool:
        return self._outgoing.is_set_up and (self._is_on or notice in _ALWAYS)

    async def _tell(self, account_id: str, notice: Notice, text: str) -> None:
        owner = await self._ledger.owner(account_id)
        if owner is not None and owner.email_verified_at is not None:
            await self._outgoing.send(owner.email, notice.value, text)

    def _text(self, account_id: str, notice: Notice, address: str, about: str) -> str:
        return _TEXT.format(
            notice=notice.value,
            account_id=account_id,
            about=ascii_only(about[:_ABOUT_CHARS_MAX]),
            address=address or "unknown",
            time=f"{self._now().astimezone(UTC):%Y-%m-%d %H:%M UTC}",
            url=self._url,
        )
