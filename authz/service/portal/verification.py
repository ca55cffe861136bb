"""Verification of e-mail addresses: a link with a code that works once, for a day.

The backend decides what an unverified address may do; `whoami` reports the state.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256

from authz.core.errors import Refused
from authz.core.owners import Owner
from authz.service.portal.ports import Mail, OwnerLedger

_CODE_BYTES = 32
_LIFE = timedelta(hours=24)
_TEXT = """Someone, hopefully you, signed up with this address.

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
        url: str,
        *,
        entropy: Callable[[int], bytes],
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._mail = mail
        self._url = url
        self._entropy = entropy
        self._now = now

    @property
    def is_possible(self) -> bool:
        """Tell whether links can be sent."""
        return self._mail.is_set_up

    async def send(self, owner: Owner) -> None:
        """Mail a link; earlier links become invalid. Raises `StoreUnavailable`."""
        code = urlsafe_b64encode(self._entropy(_CODE_BYTES)).decode().rstrip("=")
        await self._ledger.await_verification(owner.account_id, _digest(code), self._now() + _LIFE)
        text = _TEXT.format(url=self._url, code=code)
        await self._mail.send(owner.email, "Confirm your e-mail address", text)

    async def take(self, code: str, address: str) -> Owner:
        """Accept a link's code and mark its address verified; raises `Refused`."""
        owner = await self._ledger.verify_email(_digest(code), self._now(), address)
        if owner is None:
            raise Refused("this link has been used, replaced or has expired")
        return owner


def _digest(code: str) -> bytes:
    return sha256(code.encode()).digest()
