"""A change of an owner's e-mail address: the password, a link to the old address, and a link to the new one.

The verification of the address of a signup is `verification.py`.
"""

from datetime import timedelta
from functools import partial

from authz.core.accounts import Actor
from authz.core.errors import Refused
from authz.core.owners import EmailChange, Owner
from authz.core.throttles import Attempt
from authz.service.portal.accounts import Accounts
from authz.service.portal.codes import Codes, digest
from authz.service.portal.notices import Notice, Notices
from authz.service.portal.outgoing import OutgoingMail
from authz.service.portal.ports import LinkLedger
from authz.service.portal.throttling import Gate

_LIFE = timedelta(hours=2)
_UNKNOWN = "this link has been used, replaced or has expired"
_SUBJECT = "Confirm the change of your e-mail address"
_TEXT = """Someone, hopefully you, wants to change the e-mail address of the account
{account_id}. The change needs the consent of both addresses. {role}

To agree, open

    {url}?code={code}

within two hours. If it was not you, do not open it{advice}.
"""
_OLD = ("This is the present address.", ", and change your password")
_NEW = ("This is the new address.", "")


class EmailChanges:
    """Starts changes and accepts the codes of their links. `url` is the target of the links."""

    def __init__(
        self,
        ledger: LinkLedger,
        accounts: Accounts,
        gate: Gate,
        outgoing: OutgoingMail,
        notices: Notices,
        codes: Codes,
        url: str,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._gate = gate
        self._outgoing = outgoing
        self._notices = notices
        self._codes = codes
        self._url = url

    async def start(self, owner: Owner, email: str, password: str, address: str) -> None:
        """Send a link to both addresses; raises `Refused` and its kinds. It replaces an earlier change.

        Whether somebody else has the new address shows only to who reads its mails.
        """
        if not self._outgoing.is_set_up:
            raise Refused("the address cannot be changed here, because no mail is sent")
        await self._accounts.prove(owner, password, address)
        await self._gate.admit(Attempt.VERIFICATION_MAIL, address=address, subject=owner.account_id)
        change = EmailChange(owner.account_id, owner.email, self._accounts.normalise_email(email))
        if change.new_email == change.old_email:
            raise Refused("this is the present address")
        old, new = self._codes.new(), self._codes.new()
        actor = Actor(f"owner:{owner.account_id}", address)
        await self._ledger.start_email_change(change, digest(old), digest(new), self._codes.end(_LIFE), actor)
        self._outgoing.start(partial(self._send, change.old_email, owner.account_id, old, _OLD))
        self._outgoing.start(partial(self._send, change.new_email, owner.account_id, new, _NEW))

    async def change(self, code: str) -> EmailChange:
        """Return the change that a code confirms; raises `Refused`."""
        change = await self._ledger.email_change(digest(code), self._codes.now())
        if change is None:
            raise Refused(_UNKNOWN)
        return change

    async def confirm(self, code: str, address: str) -> EmailChange:
        """Confirm a change for the address that received the code; raises `Refused` and `EmailTaken`."""
        change = await self._ledger.confirm_email_change(digest(code), self._codes.now(), address)
        if change is None:
            raise Refused(_UNKNOWN)
        if change.is_done:
            about = f"{change.old_email} -> {change.new_email}"
            for email in (change.old_email, change.new_email):
                self._notices.tell_at(email, change.account_id, Notice.EMAIL_CHANGED, address, about)
        return change

    async def _send(self, email: str, account_id: str, code: str, words: tuple[str, str]) -> None:
        role, advice = words
        text = _TEXT.format(account_id=account_id, role=role, url=self._url, code=code, advice=advice)
        await self._outgoing.send(email, _SUBJECT, text)
