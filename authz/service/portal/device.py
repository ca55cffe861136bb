"""The device flow (RFC 8628): a command requests a grant, its owner approves it, and one poll receives the key.

`sessions.py` authenticates the owner; `minting.py` creates the key.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

from authz.core.accounts import Actor, AuditEvent
from authz.core.device import (
    USER_CODE_CHARS,
    USER_CODE_ENTROPY_BYTES,
    Approval,
    Grant,
    GrantStatus,
    Polled,
    StartedGrant,
    typed,
    user_code,
)
from authz.core.errors import CodeUnknown, KeyLimitReached, Refused, ScopeUnknown, StoreUnavailable, Throttled
from authz.core.outcomes import GrantEvent
from authz.core.throttles import Attempt
from authz.service.portal.minting import Minting
from authz.service.portal.ports import Grants, OwnerLedger, PortalObserver
from authz.service.portal.throttling import Gate

GRANT_LIFE_S = 300
POLL_INTERVAL_S = 2
_SECRET_BYTES = 32
_CLIENT_CHARS_MAX = 200
_KEY_NAME = "device login"
_UNKNOWN = "this code is not known; it may have been used or have expired"


class DeviceFlow:
    """The use cases of both sides. A device code is the user code, which identifies the grant, and a secret."""

    def __init__(
        self,
        grants: Grants,
        minting: Minting,
        gate: Gate,
        ledger: OwnerLedger,
        observer: PortalObserver,
        *,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._grants = grants
        self._minting = minting
        self._gate = gate
        self._ledger = ledger
        self._observer = observer
        self._entropy = entropy

    async def start(self, address: str, client: str, scopes: frozenset[str] = frozenset()) -> StartedGrant:
        """Start a grant; raises `Throttled` and `ScopeUnknown`.

        `client` is the name that the device sends, `scopes` what it requests; empty for all.
        """
        await self._gate.admit(Attempt.DEVICE_START, address=address)
        for scope in sorted(scopes - self._minting.every_scope):
            raise ScopeUnknown(f"there is no scope {scope}")
        client = "".join(char for char in client[:_CLIENT_CHARS_MAX] if char.isprintable())
        secret = urlsafe_b64encode(self._entropy(_SECRET_BYTES)).decode().rstrip("=")
        while True:
            code = user_code(self._entropy(USER_CODE_ENTROPY_BYTES))
            if await self._grants.start(code, _digest(code + secret), address, client, GRANT_LIFE_S, scopes):
                self._observer.grant_went_on(GrantEvent.STARTED)
                return StartedGrant(code + secret, code)

    async def poll(self, device_code: str, address: str) -> Polled:
        """Return the state of a grant and, once, its key; raises `Throttled` and `KeyLimitReached`."""
        digest, code = _digest(device_code), typed(device_code[:USER_CODE_CHARS])
        await self._gate.admit(Attempt.DEVICE_POLL, address=address, subject=digest.hex())
        if not code:
            return Polled(GrantStatus.EXPIRED)
        status, approval = await self._grants.poll(code, digest)
        if status is GrantStatus.REFUSED:
            return Polled(GrantStatus.EXPIRED, is_refused=True)
        if approval is None:
            return Polled(status)
        return await self._hand_out(code, approval, address)

    async def look(self, text: str, account_id: str, address: str) -> Grant:
        """Return the grant whose code an owner typed; raises `Throttled`, and `Refused` if there is none."""
        await self._gate.admit(Attempt.CODE_ENTRY, address=address, subject=account_id)
        code = typed(text)
        grant = await self._grants.look(code) if code else None
        if grant is None:
            raise CodeUnknown(_UNKNOWN)
        await self._gate.forgive(Attempt.CODE_ENTRY, subject=account_id)
        return grant

    async def approve(self, text: str, approval: Approval, address: str) -> None:
        """Grant a device a key of the approver's account; raises `Throttled` and `Refused`."""
        if not approval.scopes:
            raise Refused("a key needs at least one scope")
        for scope in sorted(approval.scopes - self._minting.every_scope):
            raise Refused(f"there is no scope {scope}")
        owner = await self._ledger.owner(approval.account_id)
        if owner is not None and owner.suspended_at is not None:
            raise Refused("this account is suspended")
        await self._decide(text, approval, approval.account_id, address)

    async def refuse(self, text: str, account_id: str, address: str) -> None:
        """Refuse a device; raises `Throttled` and `Refused`."""
        await self._decide(text, None, account_id, address)

    async def _decide(self, text: str, approval: Approval | None, account_id: str, address: str) -> None:
        await self._gate.admit(Attempt.CODE_ENTRY, address=address, subject=account_id)
        code = typed(text)
        if not code or not await self._grants.decide(code, approval):
            raise CodeUnknown(_UNKNOWN)
        await self._gate.forgive(Attempt.CODE_ENTRY, subject=account_id)
        self._observer.grant_went_on(GrantEvent.REFUSED if approval is None else GrantEvent.APPROVED)
        event = AuditEvent.DEVICE_REFUSED if approval is None else AuditEvent.DEVICE_APPROVED
        await self._ledger.note(account_id, event, Actor(f"owner:{account_id}", address))

    async def _hand_out(self, code: str, approval: Approval, address: str) -> Polled:
        actor = Actor(f"owner:{approval.account_id}", address)
        try:
            made = await self._minting.mint(
                approval.account_id, _KEY_NAME, actor, AuditEvent.KEY_MINTED_BY_DEVICE, approval.scopes
            )
        except (KeyLimitReached, Throttled, StoreUnavailable):
            # The owner can revoke a key, the throttle ends, a store returns: the device continues to poll.
            await self._grants.settle(code, is_over=False)
            raise
        except Refused:
            # The account was suspended or a scope removed since: waiting does not help the device.
            polled = Polled(GrantStatus.EXPIRED)
        else:
            polled = Polled(GrantStatus.APPROVED, made.secret)
            self._observer.grant_went_on(GrantEvent.HANDED_OUT)
        # A claimed grant yields no second key, so this key must be returned even if the store fails now.
        with suppress(StoreUnavailable):
            await self._grants.settle(code, is_over=True)
        return polled


def _digest(device_code: str) -> bytes:
    return sha256(device_code.encode()).digest()
