"""Simulated decisions: the policy's decision on a request whose key is valid and whose bucket is full.

`decision.py` decides, unchanged; this module replaces only the store's reply.
"""

import json
from dataclasses import dataclass
from functools import lru_cache

from authz.core.bindings.accounts import Unreadable, named_accounts
from authz.core.check import (
    Allow,
    BodyForm,
    Bucket,
    Decision,
    KeyRecord,
    KeyState,
    Lookup,
    RequestAttributes,
    Take,
    TakeOutcome,
)
from authz.core.decision import conclude, enforce, plan
from authz.core.errors import DenyReason
from authz.core.keys import ENTROPY_BYTES, KeyFormat
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, BindingLocation, Route

NO_KEY, ANY_KEY = "no key", "any key"
"""Names of callers; the other callers have the name of their scope."""

_OWN = "acct_own"
_REFUSED_NEEDS = {DenyReason.BARRED: Access.BARRED.value}


@dataclass(frozen=True, slots=True)
class Caller:
    """A valid key with these scopes, of this account; None stands for the account that the request names."""

    scopes: frozenset[str] = frozenset()
    account_id: str | None = None


def decide(
    policy: Policy, method: str, target: str, caller: Caller | None, body: bytes = b"", *, host: str = ""
) -> Decision:
    """Decide on a request; without a caller, the request carries no key."""
    presented = () if caller is None else (_key(policy.keys.format),)
    form = BodyForm("application/json" if body else "")
    attributes = RequestAttributes(
        "simulation", method, target, presented, has_body=bool(body), body=body, body_form=form, host=host
    )
    planned = plan(policy, attributes)
    if isinstance(planned, Lookup):
        planned = conclude(planned, _granted(policy, planned, caller or Caller()))
    return enforce(planned)


@lru_cache(maxsize=4)
def _key(key_format: KeyFormat) -> bytes:
    return key_format.mint(bytes(ENTROPY_BYTES)).encode()


def _granted(policy: Policy, lookup: Lookup, caller: Caller) -> Take:
    account_id = caller.account_id or _named(lookup) or _OWN
    record = KeyRecord(KeyState.ACTIVE, 1, "key_simulation", account_id, caller.scopes)
    return Take(TakeOutcome.GRANTED, record, Bucket.of(policy.limit, policy.limit.capacity))


def _named(lookup: Lookup) -> str:
    """Return the first account that a request names, or ""."""
    if lookup.route is None or lookup.named is None:
        return ""
    try:
        return next(iter(named_accounts(lookup.route, lookup.named)), "")
    except Unreadable:
        return ""


def naming_account(path: str, route: Route | None) -> tuple[str, bytes]:
    """Return the target and the body of a request to a row's path; they name an account if the row requires one."""
    if route is None or not route.account_required or any(it.location is BindingLocation.PATH for it in route.accounts):
        return path, b""
    binding = route.accounts[0]
    if binding.location is BindingLocation.QUERY:
        return f"{path}?{binding.name}={_OWN}", b""
    return path, json.dumps({binding.name: _OWN}).encode()


def callers(*policies: Policy) -> dict[str, Caller | None]:
    """Name every caller that a policy distinguishes: no key, a key without scopes, one key for each scope.

    And one for each set of scopes that a row needs together.
    """
    scopes = {(name,) for policy in policies for name in policy.scopes}
    needed = {it for policy in policies for route in policy.routes for it in route.scopes}
    return {NO_KEY: None, ANY_KEY: Caller(), **{_together(it): Caller(frozenset(it)) for it in sorted(scopes | needed)}}


def _together(scopes: tuple[str, ...]) -> str:
    return " and ".join(scopes)


def need(policy: Policy, method: str, target: str, body: bytes = b"", *, host: str = "") -> str:
    """Return what a request needs: scopes, `any`, `optional`, `public` or `session`; or why nothing suffices.

    The reasons are `barred` and those of `DenyReason`. Only what is enforced counts: a shadow row is `public`.
    """

    def passes(caller: Caller | None) -> bool:
        return isinstance(decide(policy, method, target, caller, body, host=host), Allow)

    everything = decide(policy, method, target, Caller(frozenset(policy.scopes)), body, host=host)
    if passes(None):
        if not isinstance(everything, Allow):
            return Access.SESSION
        return Access.OPTIONAL if everything.route.access is Access.OPTIONAL else Access.PUBLIC
    if not isinstance(everything, Allow):
        return _REFUSED_NEEDS.get(everything.reason, everything.reason.value)
    if passes(Caller()):
        return Access.ANY
    # Which scopes are sufficient: one, a set of them together, or one of several such sets.
    sufficient = [it for it in _sets_of_scopes(policy) if passes(Caller(frozenset(it)))]
    least = [it for it in sufficient if not any(set(other) < set(it) for other in sufficient)]
    return " or ".join(map(_together, least))


def _sets_of_scopes(policy: Policy) -> list[tuple[str, ...]]:
    together = {it for route in policy.routes for it in route.scopes if len(it) > 1}
    return [(name,) for name in policy.scopes] + sorted(together)
