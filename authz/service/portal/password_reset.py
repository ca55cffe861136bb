"""A forgotten password: a mailed link sets a new one, once, within half an hour, and ends every session.

A request tells nobody who has an account: its response neither depends on the address nor waits for a look-up.
"""

from datetime import timedelta
from functools import partial

from authz.core.errors import Refused
from authz.core.owners import Owner
from authz.core.throttles import Attempt
from authz.service.portal.accounts import check_bounds
from authz.service.portal.codes import digest
from authz.service.portal.mailed_links import MailedLinks
from authz.service.portal.notices import Notice

_LIFE = timedelta(minutes=30)
_UNKNOWN = "this link has been used or has expired"
_TEXT = """Someone, hopefully you, forgot the password of the account with this
address. To choose a new one, open

    {url}?code={code}

within 30 minutes. If it was not you, do nothing: your password has not
changed.
"""


class PasswordReset:
    """Sends links and accepts their codes. `url` is the target of a link; only the digest of its code is stored."""

    def __init__(self, links: MailedLinks, url: str) -> None:
        self._links = links
        self._url = url

    @property
    def is_possible(self) -> bool:
        """Tell whether links can be sent."""
        return self._links.outgoing.is_set_up

    async def request(self, email: str, address: str) -> None:
        """Send a link if the address has an owner; raises `Throttled`, and `Refused` if no mail can be sent.

        Everything that depends on the owner happens after the return.
        """
        if not self.is_possible:
            raise Refused("passwords cannot be reset here, because no mail is sent")
        await self._links.gate.admit(Attempt.PASSWORD_RESET, address=address)
        try:
            email = self._links.accounts.normalise_email(email)
        except Refused:
            return
        await self._links.gate.admit_subject(Attempt.PASSWORD_RESET, subject=email)
        self._links.outgoing.start(partial(self._send, email, address))

    async def owner(self, code: str) -> Owner:
        """Return the owner whose password a code may reset; raises `Refused`."""
        owner = await self._links.ledger.owner_of_reset(digest(code), self._links.codes.now())
        if owner is None:
            raise Refused(_UNKNOWN)
        return owner

    async def take(self, code: str, password: str, address: str) -> Owner:
        """Set a new password by a link's code; raises `Refused`, after which the code is valid for another password."""
        check_bounds(password, self._links.accounts.rules)
        # A hash costs much, and only who has a valid code causes one.
        owner = await self.owner(code)
        password_hash = await self._links.accounts.new_hash(password, owner.email)
        changed = await self._links.ledger.reset_password(digest(code), password_hash, self._links.codes.now(), address)
        if changed is None:
            raise Refused(_UNKNOWN)
        self._links.notices.tell(
            changed.account_id, Notice.PASSWORD_CHANGED, address, "a link that was sent to this address"
        )
        return changed

    async def _send(self, email: str, address: str) -> None:
        code = self._links.codes.new()
        if await self._links.ledger.add_reset(email, digest(code), self._links.codes.end(_LIFE), address):
            await self._links.outgoing.send(email, "Choose a new password", _TEXT.format(url=self._url, code=code))
