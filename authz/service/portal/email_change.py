"""A change of an owner's e-mail address: the password, a link to the old address, and a link to the new one.

The verification of the address of a signup is `verification.py`.
"""

from datetime import timedelta
from functools import partial

from authz.core.accounts import Actor
from authz.core.errors import Refused
from authz.core.owners import EmailChange, Owner
from authz.core.throttles import Attempt
from authz.service.portal.codes import digest
from authz.service.portal.mailed_links import MailedLinks
from authz.service.portal.notices import Notice

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

    def __init__(self, links: MailedLinks, url: str) -> None:
        self._links = links
        self._url = url

    async def start(self, owner: Owner, email: str, password: str, address: str) -> None:
        """Send a link to both addresses; raises `Refused` and its kinds. It replaces an earlier change.

        Whether somebody else has the new address shows only to who reads its mails.
        """
        if not self._links.outgoing.is_set_up:
            raise Refused("the address cannot be changed here, because no mail is sent")
        await self._links.accounts.prove(owner, password, address)
        await self._links.gate.admit(Attempt.VERIFICATION_MAIL, address=address, subject=owner.account_id)
        change = EmailChange(owner.account_id, owner.email, self._links.accounts.normalise_email(email))
        if change.new_email == change.old_email:
            raise Refused("this is the present address")
        old, new = self._links.codes.new(), self._links.codes.new()
        actor = Actor(f"owner:{owner.account_id}", address)
        await self._links.ledger.start_email_change(
            change, digest(old), digest(new), self._links.codes.end(_LIFE), actor
        )
        self._links.outgoing.start(partial(self._send, change.old_email, owner.account_id, old, _OLD))
        self._links.outgoing.start(partial(self._send, change.new_email, owner.account_id, new, _NEW))

    async def change(self, code: str) -> EmailChange:
        """Return the change that a code confirms; raises `Refused`."""
        change = await self._links.ledger.email_change(digest(code), self._links.codes.now())
        if change is None:
            raise Refused(_UNKNOWN)
        return change

    async def confirm(self, code: str, address: str) -> EmailChange:
        """Confirm a change for the address that received the code; raises `Refused` and `EmailTaken`."""
        change = await self._links.ledger.confirm_email_change(digest(code), self._links.codes.now(), address)
        if change is None:
            raise Refused(_UNKNOWN)
        if change.is_done:
            about = f"{change.old_email} -> {change.new_email}"
            for email in (change.old_email, change.new_email):
                self._links.notices.tell_at(email, change.account_id, Notice.EMAIL_CHANGED, address, about)
        return change

    async def _send(self, email: str, account_id: str, code: str, words: tuple[str, str]) -> None:
        role, advice = words
        text = _TEXT.format(account_id=account_id, role=role, url=self._url, code=code, advice=advice)
        await self._links.outgoing.send(email, _SUBJECT, text)
