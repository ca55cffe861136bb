"""The policy as frozen values: what an API's routes are, what each needs, and what a key may spend.

Reading files is `adapters/policy_file.py`; matching a path is `router.py`.
"""

from dataclasses import dataclass, field

from authz.core.keys import KeyFormat
from authz.core.limits import Limit
from authz.core.policy.route import Route
from authz.core.policy.router import Router
from authz.core.streams import StreamClass
from authz.core.throttles import DEFAULT_THROTTLES, Throttles

INVALID_KEYS = Limit(capacity=1000, refill_per_s=10)
"""How many keys that open nothing may come from one address, unless a policy says otherwise."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A permission, `resource:action`. `write` scopes alone may gate routes that yield credentials."""

    name: str
    description: str
    write: bool = False


@dataclass(frozen=True, slots=True)
class KeyRules:
    """How API keys look and travel: the header's lower-case name, the format, and how many an account may have."""

    header: str
    format: KeyFormat
    active_max: int


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """Which families of rate headers are sent."""

    ietf: bool = True
    legacy: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole table, immutable. `api` names it in error details; `domain` is the ErrorInfo domain.

    `limit` is the bucket of a key without one of its own, `invalid_keys` that of a source address, from which keys that
    open nothing take.
    """

    api: str
    domain: str
    keys: KeyRules
    limit: Limit
    rate_headers: RateHeaders
    methods: frozenset[str]
    scopes: dict[str, Scope]
    streams: dict[str, StreamClass]
    routes: tuple[Route, ...]
    router: Router
    invalid_keys: Limit = INVALID_KEYS
    throttles: Throttles = field(default_factory=DEFAULT_THROTTLES.copy)
