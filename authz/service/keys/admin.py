"""The changes that operators and owners make to accounts and keys: checked against the policy, durable, then effective.

`ports.KeyLedger` stores them. `reconciling.py` retries what is not effective yet.
"""

import asyncio
from base64 import b32encode
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from authz.core.accounts import Account, Actor, ApiKey, AuditEvent, NewApiKey, Replacement, Rotation
from authz.core.errors import NotEffectiveYet, Refused, StoreUnavailable
from authz.core.keys import ENTROPY_BYTES, KeyFormat, digest
from authz.core.limits import Limit, limit_fault
from authz.core.policy.policy import Policy
from authz.core.text import is_visible
from authz.service.keys.reconciling import Reconciler
from authz.service.ports import KeyLedger, KeyProjection

OVERLAP_MAX_S = 30 * 86_400
"""The longest time that a key may stay valid beside its replacement."""

PAGE_ROWS = 100
"""The rows of a page of a list."""

LIVE_ROWS_MAX = 1000
"""The most live keys of an account that are listed at once."""

_PAUSES_S = (0.25, 0.5, 0.75)
_ID_BYTES = 10  # sixteen characters of base32
NAME_CHARS_MAX = 100
_LIFE_MAX = timedelta(days=36_525)


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """The properties of a new key. `environment` is a label of the policy's prefixes; empty for the first one."""

    account_id: str
    name: str
    scopes: frozenset[str]
    limit: Limit | None = None
    expires_at: datetime | None = None
    environment: str = ""
    plan: str = ""


class KeyAdmin:
    """The use cases around accounts and keys. `entropy(n)` returns n random bytes, `now` the time with its zone."""

    def __init__(
        self,
        ledger: KeyLedger,
        projection: KeyProjection,
        policy: Policy,
        *,
        entropy: Callable[[int], bytes],
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._projection = projection
        self._reconciler = Reconciler(ledger, projection)
        self._policy = policy
        self._entropy = entropy
        self._now = now

    async def create_account(self, name: str, email: str | None, actor: Actor) -> Account:
        """Create an account; raises `Refused` for an invalid name."""
        account = Account(self._id("acct"), checked_name(name), self._now(), email)
        await self._ledger.add_account(account, actor)
        return account

    async def accounts(self, after: str = "", rows_max: int = PAGE_ROWS) -> list[Account]:
        """Return a page of accounts, oldest first; `after` is the id of the last account of the page before."""
        return await self._ledger.accounts(after, rows_max)

    async def account(self, account_id: str) -> Account:
        """Return one account; raises `Refused` if there is none."""
        return await self._ledger.account(account_id)

    async def create_key(
        self, request: KeyRequest, actor: Actor, event: AuditEvent = AuditEvent.KEY_CREATED
    ) -> NewApiKey:
        """Create a key; raises `Refused`. The secret exists only in the returned value."""
        name = checked_name(request.name)
        checked_request(request, self._policy, self._now())
        secret = self._secret(self._policy.keys.format_of(request.environment))
        key = ApiKey(
            id=self._id("key"),
            account_id=request.account_id,
            name=name,
            hint=self._policy.keys.format.hint(secret),
            scopes=request.scopes,
            created_at=self._now(),
            limit=request.limit,
            plan=request.plan,
            expires_at=request.expires_at,
        )
        active_max = self._policy.keys.active_max
        await self._ledger.add_key(key, digest(secret.encode()), active_max, actor, event)
        # So that its first check need not wait for a load. If Redis is unavailable, the first check loads it.
        with suppress(StoreUnavailable):
            await self._ledger.settle(key.id, self._projection.put)
            await self._ledger.settle_account(key.account_id, self._projection.put_account)
        return NewApiKey(key, secret)

    async def keys(self, account_id: str, after: str = "", rows_max: int = PAGE_ROWS) -> list[ApiKey]:
        """Return a page of an account's keys, oldest first; `after` is the id of the last key of the page before."""
        return await self._ledger.keys(account_id, after, rows_max)

    async def live_keys(self, account_id: str) -> list[ApiKey]:
        """Return the keys of an account that are neither revoked nor expired, newest first."""
        return await self._ledger.live_keys(account_id, LIVE_ROWS_MAX)

    async def latest_keys(
        self, account_id: str, before: str = "", rows_max: int = PAGE_ROWS, *, ended_only: bool = False
    ) -> list[ApiKey]:
        """Return a page of an account's keys, newest first; `before` is the id of the last key of the page before.

        With `ended_only` only those that are revoked or expired.
        """
        return await self._ledger.latest_keys(account_id, before, rows_max, ended_only=ended_only)

    async def key_names(self, account_id: str, key_ids: Collection[str]) -> dict[str, str]:
        """Return the names of those of the keys that the account has, by id."""
        return await self._ledger.key_names(account_id, key_ids)

    async def key(self, key_id: str) -> ApiKey:
        """Return one key; raises `Refused` if there is none."""
        return await self._ledger.key(key_id)

    async def find(self, text: str, *, is_secret: bool = False) -> list[ApiKey]:
        """Return the keys with a secret, a hint or an id; raises `Refused` if there is none.

        A secret is accepted only with `is_secret`: a caller that passes one by mistake must not show it.
        """
        form = self._policy.keys.format.form_of(text)
        if is_secret:
            found = await self._ledger.find_keys(digest(text.encode("utf-8", "surrogateescape")), "")
        elif self._is_secret(text.encode("utf-8", "surrogateescape")):
            raise Refused("this is the secret of a key: pass it on standard input, with -")
        else:
            suffix = text.removeprefix(form.prefix).lstrip("\N{HORIZONTAL ELLIPSIS}.")
            found = await self._ledger.find_keys(b"", f"{form.prefix}\N{HORIZONTAL ELLIPSIS}{suffix}")
            if not found:
                return [await self._ledger.key(text)]
        if not found:
            raise Refused("there is no such key")
        return found

    def _is_secret(self, text: bytes) -> bool:
        keys = self._policy.keys
        # A foreign format without a prefix matches ids, too.
        return keys.format.is_well_formed(text) or any(it.prefix and it.matches(text) for it in keys.foreign)

    async def change_key(
        self, key_id: str, event: AuditEvent, actor: Actor, to: Limit | str | None = None, *, own_only: bool = False
    ) -> None:
        """Change a key, `to` a limit or a plan if it gets one; return when every sidecar applies the change.

        With `own_only` a key that somebody other than the actor has disabled is not changed.
        Raises `Refused`, and `NotEffectiveYet` if Redis could not be written: the change is then durable and retried.
        """
        if isinstance(to, Limit):
            _check_limit(to)
        elif to:
            _check_plan(to, self._policy)
        account_id = await self._ledger.change_key(key_id, event, actor, to, own_only=own_only)
        await self._settle([key_id], [account_id] if account_id else [])

    async def plans(self) -> list[tuple[str, int, bool]]:
        """Return each plan that live keys have, how many have it, and whether the policy has the plan."""
        found = await self._ledger.plans()
        return [(plan, count, plan in self._policy.plans) for plan, count in sorted(found.items())]

    async def rotate(self, key_id: str, overlap_s: float, actor: Actor) -> Rotation:
        """Replace a key by one of the same name, scopes, limits and lifetime; the old one stays valid for `overlap_s`.

        Without an overlap it is revoked and no longer counts; with one, both keys count. Raises `Refused`.
        An unavailable Redis is reported in `Rotation.pending`, because the owner must receive the new secret.
        """
        if not 0 <= overlap_s <= OVERLAP_MAX_S:
            raise Refused(f"an overlap is at most {OVERLAP_MAX_S // 86_400} days")
        secret = self._secret(await self._format_of(key_id))
        replacement = partial(self._replacement, secret=secret, overlap_s=overlap_s)
        old, new = await self._ledger.replace_key(key_id, replacement, self._policy.keys.active_max, actor)
        try:
            # The account's record changes with the sum of its keys' own limits.
            await self._settle([old.id, new.id], [] if new.limit is None else [new.account_id])
        except NotEffectiveYet as error:
            return Rotation(NewApiKey(new, secret), old, pending=str(error))
        return Rotation(NewApiKey(new, secret), old)

    async def change_account(self, account_id: str, event: AuditEvent, actor: Actor) -> None:
        """Suspend or reinstate an account with all its keys, as `change_key` does."""
        await self._ledger.change_account(account_id, event, actor)
        await self._settle([], [account_id])

    async def reconcile(self, *, everything: bool = False) -> int:
        """Make pending changes effective, or with `everything` write all records again; returns how many were written.

        Raises `NotEffectiveYet` if some could not be written, after the others.
        """
        return await self._reconciler.reconcile(everything=everything)

    async def _settle(self, key_ids: Sequence[str], account_ids: Sequence[str]) -> None:
        """Make a durable change effective for every check that starts later; raises `NotEffectiveYet`."""
        for pause_s in _PAUSES_S:
            try:
                await self._reconciler.settle(key_ids, account_ids)
            except NotEffectiveYet:  # a failover, for most of which this is long enough
                await asyncio.sleep(pause_s)
            else:
                break
        else:
            await self._reconciler.settle(key_ids, account_ids)
        await self._projection.settled()

    def _replacement(self, old: ApiKey, *, secret: str, overlap_s: float) -> Replacement:
        now = self._now()
        if old.revoked_at is not None:
            raise Refused(f"the key {old.id} is revoked, for good")
        if old.expires_at is not None and old.expires_at <= now:
            raise Refused(f"the key {old.id} has expired; make a new one")
        if old.disabled_at is not None:
            # A caller who may rotate it but not enable it would get a working key.
            raise Refused(f"the key {old.id} is disabled; enable it first")
        key = replace(
            old,
            id=self._id("key"),
            hint=self._policy.keys.format.hint(secret),
            created_at=now,
            expires_at=None if old.expires_at is None else now + (old.expires_at - old.created_at),
            revision=1,
            replaces=old.id,
            last_used_at=None,
        )
        ends_at = now + timedelta(seconds=overlap_s)
        if old.expires_at is not None:
            ends_at = min(ends_at, old.expires_at)
        return Replacement(key, digest(secret.encode()), ends_at if overlap_s else None)

    async def _format_of(self, key_id: str) -> KeyFormat:
        """Return the format of a key, which its replacement has as well."""
        formats = self._policy.keys.format
        return formats if isinstance(formats, KeyFormat) else formats.form_of((await self._ledger.key(key_id)).hint)

    def _secret(self, key_format: KeyFormat | None) -> str:
        if key_format is None:
            raise Refused("the policy has no such environment")
        return key_format.mint(self._entropy(ENTROPY_BYTES))

    def _id(self, kind: str) -> str:
        return random_id(kind, self._entropy)


def random_id(kind: str, entropy: Callable[[int], bytes]) -> str:
    """Make the id of an account or a key."""
    return f"{kind}_{b32encode(entropy(_ID_BYTES)).decode().lower()}"


def checked_request(request: KeyRequest, policy: Policy, now: datetime) -> None:
    """Raise `Refused` if a new key may not have the properties that are requested."""
    if not request.scopes:
        raise Refused("a key needs at least one scope")
    for scope in sorted(request.scopes - policy.scopes.keys()):
        raise Refused(f"there is no scope {scope}")
    if request.expires_at is not None and request.expires_at <= now:
        raise Refused("the expiry is in the past")
    if request.expires_at is not None and request.expires_at - now > _LIFE_MAX:
        raise Refused("the expiry is more than a hundred years away; leave it out instead")
    if request.limit is not None:
        _check_limit(request.limit)
    if request.plan:
        _check_plan(request.plan, policy)


def checked_name(name: str) -> str:
    """Return a name without the blanks around it; raises `Refused` for an invalid one."""
    name = name.strip()
    if len(name) > NAME_CHARS_MAX or not is_visible(name):
        raise Refused(f"a name is 1 to {NAME_CHARS_MAX} printable characters, without invisible ones")
    return name


def _check_plan(plan: str, policy: Policy) -> None:
    if plan not in policy.plans:
        raise Refused(f"the policy has no plan {plan}")


def _check_limit(limit: Limit) -> None:
    if not 0 < limit.capacity <= 10**6 or not 0 < limit.refill_per_s <= 10**6:
        raise Refused("a limit's capacity and refill are more than 0 and at most 1000000")
    fault = limit_fault(limit)
    if fault is not None:
        raise Refused(fault)
