"""Decisions without a store: what a policy would say to a request if the key were valid and its bucket full.

The decision itself is `decision.py`, unchanged; this only stands in for the store's answer.
"""

import json
from dataclasses import dataclass

from authz.core.check import Allow, Bucket, Decision, KeyRecord, KeyState, Lookup, RequestAttributes, Take, TakeOutcome
from authz.core.decision import conclude, enforce, plan
from authz.core.errors import DenyReason
from authz.core.keys import ENTROPY_BYTES
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, BindingPlace, Route

NO_KEY, ANY_KEY = "no key", "any key"
"""Names of callers; the others go by their scope."""

_OWN = "acct_own"
_REFUSED_NEEDS = {DenyReason.BARRED: Access.BARRED.value}


@dataclass(frozen=True, slots=True)
class Caller:
    """A valid key with these scopes; of this account, or, when None, of whichever account the request names."""

    scopes: frozenset[str] = frozenset()
    account_id: str | None = None


def decide(policy: Policy, method: str, target: str, caller: Caller | None, body: bytes = b"") -> Decision:
    """Decide on a request; without a caller, on one that carries no key."""
    presented = () if caller is None else (policy.keys.format.mint(bytes(ENTROPY_BYTES)).encode(),)
    attributes = RequestAttributes("trial", method, target, presented, has_body=bool(body), body=body)
    planned = plan(policy, attributes)
    if isinstance(planned, Lookup):
        planned = conclude(planned, _granted(policy, planned, caller or Caller()))
    return enforce(planned)


def _granted(policy: Policy, lookup: Lookup, caller: Caller) -> Take:
    account_id = caller.account_id or next(iter(lookup.accounts), _OWN)
    record = KeyRecord(KeyState.ACTIVE, 1, "key_trial", account_id, caller.scopes)
    return Take(TakeOutcome.GRANTED, record, Bucket(policy.limit, policy.limit.capacity))


def naming_account(path: str, route: Route | None) -> tuple[str, bytes]:
    """Return the target and the body of a request to a row's path, which name an account where the row asks for one."""
    if route is None or not route.account_required or any(it.place is BindingPlace.PATH for it in route.accounts):
        return path, b""
    binding = route.accounts[0]
    if binding.place is BindingPlace.QUERY:
        return f"{path}?{binding.name}={_OWN}", b""
    return path, json.dumps({binding.name: _OWN}).encode()


def callers(*policies: Policy) -> dict[str, Caller | None]:
    """Name every kind of caller that a policy can tell apart: no key, a key without scopes, one for each scope."""
    scopes = sorted({name for policy in policies for name in policy.scopes})
    return {NO_KEY: None, ANY_KEY: Caller(), **{name: Caller(frozenset({name})) for name in scopes}}


def need(policy: Policy, method: str, target: str, body: bytes = b"") -> str:
    """Say what a request takes to pass: a scope, `any`, `public` or `session`; or, where nothing does, why not.

    The reasons are `barred` and those of `DenyReason`. Said of what is enforced: a shadow row is `public`.
    """

    def passes(caller: Caller | None) -> bool:
        return isinstance(decide(policy, method, target, caller, body), Allow)

    everything = decide(policy, method, target, Caller(frozenset(policy.scopes)), body)
    if passes(None):
        return Access.PUBLIC if isinstance(everything, Allow) else Access.SESSION
    if not isinstance(everything, Allow):
        return _REFUSED_NEEDS.get(everything.reason, everything.reason.value)
    if passes(Caller()):
        return Access.ANY
    return next(name for name in policy.scopes if passes(Caller(frozenset({name}))))
