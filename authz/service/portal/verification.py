"""Verification of e-mail addresses: a link with a code that works once, for a day.

The backend decides what an unverified address may do; `whoami` reports the state.
"""

from datetime import timedelta

from authz.core.errors import Refused
from authz.core.owners import Owner
from authz.service.portal.codes import Codes, digest
from authz.service.portal.ports import Mail, OwnerLedger

_LIFE = timedelta(hours=24)
_UNKNOWN = "this link has been used, replaced or has expired"
_TEXT = """Someone, hopefully you, signed up with this address. The account is
{account_id}.

To confirm that it is yours, open

    {url}?code={code}

within a day. If it was not you, do nothing.
"""


class EmailVerification:
    """Sends links and accepts their codes. `url` is the target of a link; only the digest of its code is stored."""

    def __init__(
        self,
        ledger: OwnerLedger,
        mail: Mail,
        codes: Codes,
        url: str,
    ) -> None:
        self._ledger = ledger
        self._mail = mail
        self._url = url
        self._codes = codes

    @property
    def is_possible(self) -> bool:
        """Tell whether links can be sent."""
        return self._mail.is_set_up

    async def send(self, owner: Owner) -> None:
        """Mail a link; earlier links become invalid. Raises `StoreUnavailable`."""
        code = self._codes.new()
        await self._ledger.await_verification(owner.account_id, digest(code), self._codes.end(_LIFE))
        text = _TEXT.format(account_id=owner.account_id, url=self._url, code=code)
        await self._mail.send(owner.email, "Confirm your e-mail address", text)

    async def owner(self, code: str) -> Owner:
        """Return the owner whose address a code verifies; raises `Refused`."""
        owner = await self._ledger.owner_to_verify(digest(code), self._codes.now())
        if owner is None:
            raise Refused(_UNKNOWN)
        return owner

    async def take(self, code: str, address: str) -> Owner:
        """Accept a link's code and mark its address verified; raises `Refused`."""
        owner = await self._ledger.verify_email(digest(code), self._codes.now(), address)
        if owner is None:
            raise Refused(_UNKNOWN)
        return owner
