"""Brings in keys that another system has made, by their digests: all lines are checked before the first is stored.

A line whose digest is stored already, for the same account, is done; so a run that was interrupted is repeated. An
e-mail address stands for an account only if its owner has verified it or an operator has made the account: otherwise a
stranger who signed up with it would get the keys. What a line is in a file is `adapters/key_file.py`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from authz.core.accounts import Account, Actor, ApiKey, AuditEvent, EmailAccounts, ForeignKey
from authz.core.errors import Refused, StoreUnavailable
from authz.core.keys import DIGEST_BYTES
from authz.core.policy.policy import Policy
from authz.core.text import is_visible
from authz.service.keys.admin import NAME_CHARS_MAX, KeyRequest, checked_name, checked_request, random_id
from authz.service.ports import KeyLedger, KeyProjection

_HINT_CHARS_MAX = 40
_HINT_DIGITS = 8
_BATCH = 1_000
_NO_ACCOUNTS = EmailAccounts((), is_unverified=False)


class ImportLedger(KeyLedger, Protocol):
    """What an import needs of the ledger beside the ordinary changes."""

    async def accounts_of(self, digests: Collection[bytes]) -> dict[bytes, str]:
        """Return the accounts of those of the digests that are stored."""
        ...

    async def accounts_of_emails(self, emails: Collection[str]) -> dict[str, EmailAccounts]:
        """Return the accounts of those of the addresses that have any."""
        ...

    async def live_counts(self, account_ids: Collection[str]) -> dict[str, int]:
        """Return how many live keys each existing account has, if it is not suspended."""
        ...


@dataclass(frozen=True, slots=True)
class Check:
    """What an import would do. `faults` are the lines that cannot be stored, with why; then nothing is stored.

    `accounts` is how many accounts it would create: keys of these have an e-mail address and no account id yet.
    """

    new: list[ForeignKey]
    present: int
    faults: list[tuple[int, str]]
    accounts: int = 0


class KeyImporter:
    """The use case. `entropy(n)` returns n random bytes, `now` the time with its zone."""

    def __init__(
        self,
        ledger: ImportLedger,
        projection: KeyProjection,
        policy: Policy,
        *,
        entropy: Callable[[int], bytes],
        now: Callable[[], datetime],
    ) -> None:
        self._ledger, self._projection, self._policy = ledger, projection, policy
        self._entropy, self._now = entropy, now
        self._created: dict[str, str] = {}

    async def check(self, keys: Sequence[ForeignKey], *, create: bool = False) -> Check:
        """Check all keys, without any change; raises `Refused` if the policy has no foreign format.

        With `create`, an e-mail address without an account is no fault: `store` makes an account for it.
        """
        if not self._policy.keys.foreign:
            raise Refused("the policy names no format in keys.foreign, so no imported key could be presented")
        keys, faults = await self._resolved(keys, create=create)
        faults += [(key.line, fault) for key in keys if (fault := self._fault(key)) is not None]
        first_lines: dict[bytes, int] = {}
        for key in keys:
            first = first_lines.setdefault(key.digest, key.line)
            if first != key.line:
                faults.append((key.line, f"the same digest as line {first}"))
        stored: dict[bytes, str] = {}
        live: dict[str, int] = {}
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            stored |= await self._ledger.accounts_of([key.digest for key in batch])
            live |= await self._ledger.live_counts({key.account_id for key in batch} - live.keys() - {""})
        new = [key for key in keys if key.digest not in stored]
        faults += [
            (key.line, "the digest is that of a key of another account")
            for key in keys
            if stored.get(key.digest, key.account_id) != key.account_id
        ]
        unmade = {key.email for key in new if not key.account_id}
        faults += _account_faults(new, live | dict.fromkeys(unmade, 0), self._policy.keys.active_max)
        return Check(new, len(keys) - len(new), sorted(faults), len(unmade))

    async def _resolved(
        self, keys: Sequence[ForeignKey], *, create: bool
    ) -> tuple[list[ForeignKey], list[tuple[int, str]]]:
        """Return the keys with the accounts of their e-mail addresses, and the lines whose address has none."""
        emails = sorted({key.email for key in keys if key.email})
        found: dict[str, EmailAccounts] = {}
        for start in range(0, len(emails), _BATCH):
            found |= await self._ledger.accounts_of_emails(emails[start : start + _BATCH])
        resolved, faults = [], []
        for key in keys:
            known = found.get(key.email, _NO_ACCOUNTS)
            if key.email and len(known.account_ids) == 1:
                resolved.append(replace(key, account_id=known.account_ids[0]))
            elif key.email and (fault := _email_fault(known, create=create)):
                faults.append((key.line, fault))
            else:
                resolved.append(key)
        return resolved, faults

    async def store(self, key: ForeignKey, actor: Actor) -> None:
        """Store one key of a check without faults; raises `Refused` if its account has changed since."""
        stored = ApiKey(
            id=random_id("key", self._entropy),
            account_id=key.account_id or await self._account(key.email, actor),
            name=checked_name(key.name),
            hint=key.hint or f"sha256:{key.digest.hex()[:_HINT_DIGITS]}",
            scopes=key.scopes,
            created_at=self._now(),
            limit=key.limit,
            plan=key.plan,
            expires_at=key.expires_at,
        )
        await self._ledger.add_key(stored, key.digest, self._policy.keys.active_max, actor, AuditEvent.KEY_IMPORTED)
        # Redis may remember that the key was unknown. If it is unavailable, that is forgotten soon.
        with suppress(StoreUnavailable):
            await self._ledger.settle(stored.id, self._projection.put)
            await self._ledger.settle_account(stored.account_id, self._projection.put_account)

    async def _account(self, email: str, actor: Actor) -> str:
        """Return the account that this import has made for an e-mail address; makes it the first time."""
        if email not in self._created:
            made = Account(random_id("acct", self._entropy), email[:NAME_CHARS_MAX], self._now(), email)
            await self._ledger.add_account(made, actor)
            self._created[email] = made.id
        return self._created[email]

    def _fault(self, key: ForeignKey) -> str | None:
        if len(key.digest) != DIGEST_BYTES:
            return f"the digest has {len(key.digest)} bytes instead of {DIGEST_BYTES}"
        if len(key.hint) > _HINT_CHARS_MAX or (key.hint and not is_visible(key.hint)):
            return f"a hint has at most {_HINT_CHARS_MAX} printable characters"
        if key.hint and any(it.matches(key.hint.encode()) for it in self._policy.keys.foreign):
            return "the hint looks like a whole key"
        try:
            checked_name(key.name)
            request = KeyRequest(key.account_id, key.name, key.scopes, key.limit, key.expires_at, plan=key.plan)
            checked_request(request, self._policy, self._now())
        except Refused as error:
            return str(error)
        return None


def _email_fault(known: EmailAccounts, *, create: bool) -> str:
    """Return why an e-mail address cannot name the owner of a key; "" if an account is made for it."""
    if known.account_ids:
        return f"{len(known.account_ids)} accounts have this e-mail address: name one by its id"
    if known.is_unverified:
        return "the account that has this e-mail address has not verified it: name it by its id if it is the right one"
    return "" if create else "no account has this e-mail address"


def _account_faults(new: Sequence[ForeignKey], live: dict[str, int], active_max: int) -> list[tuple[int, str]]:
    counts = Counter(live)
    faults = []
    for key in new:
        owner = key.account_id or key.email
        if owner not in live:
            faults.append((key.line, "there is no such account, or it is suspended"))
            continue
        counts[owner] += 1
        if counts[owner] > active_max:
            faults.append((key.line, f"its account would have more than {active_max} keys"))
    return faults
