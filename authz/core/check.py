"""The values of one check on its way through: attributes in, lookup, the store's reply, decision out.

Only values: the rules that turn one into the next are in `decision.py`.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from authz.core.errors import DenyReason
from authz.core.limits import Limit
from authz.core.policy.route import Route
from authz.core.streams import Acquisition, Opening, StreamUse
from authz.core.value import Value, force_setattr


class RequestAttributes(Value):
    """What Envoy told about one request.

    `request_id` is Envoy's stream id: the same for every retry of one check, and nothing a client can choose.
    `target` is the request target as the backend will receive it, query included. `api_keys` holds every value of the
    API key header, as bytes. `body` is empty where Envoy was not told to send it. `source_address` is called for the
    few requests that somebody wants it of.
    """

    request_id: str
    method: str
    target: str
    api_keys: tuple[bytes, ...] = ()
    is_grpc: bool = False
    overrides_method: bool = False
    has_body: bool = False
    body: bytes = b""
    source_address: Callable[[], str] = str

    def __repr__(self) -> str:
        """Leave out what may hold a secret."""
        return f"{type(self).__name__}(request_id={self.request_id!r}, method={self.method!r})"


class Principal(Value, eq=False):
    """Who calls: an account through one of its keys, with that key's scopes.

    `pieces` is for `edge/answers.py`: what it once wrote of a caller is kept with the caller, because a table of them
    would be out of the processor's reach, which costs a twentieth of the check. It says nothing about who calls.
    """

    account_id: str
    key_id: str
    scopes: frozenset[str]
    pieces: object = None

    def __eq__(self, other: object) -> bool:
        """Compare all but the pieces."""
        return isinstance(other, Principal) and self._identity() == other._identity()

    def __hash__(self) -> int:
        """Hash what is compared."""
        return hash(self._identity())

    def _identity(self) -> tuple[str, str, frozenset[str]]:
        return self.account_id, self.key_id, self.scopes


_NOBODY = Principal("", "", frozenset())


class Lookup(Value):
    """The question to the key store, and what was already found out about the request.

    `digest` is the SHA-256 of the presented key (32 bytes); `cost` the tokens to take. `route` is the row that matched,
    None where none did; `methods` then lists what the path would have accepted. `accounts` holds every account id that
    the request names where its route declares one; `refusal` is what the request itself already earned, due only after
    the key has proven valid. `opening` is the stream that the request opens if it may pass.
    """

    digest: bytes
    cost: int
    route: Route | None
    methods: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    refusal: DenyReason | None = None
    opening: Opening | None = None


class KeyState(StrEnum):
    """What a key record says of its key; a single letter, because every check reads it from Redis."""

    ACTIVE = "a"
    REVOKED = "r"
    DISABLED = "d"
    SUSPENDED = "s"
    UNKNOWN = "u"


class KeyRecord(Value):
    """The projection of one key: what a check needs to know of it.

    `revision` grows with every change of the row it was made from. `expires_at_ms` is Unix time in milliseconds, 0 for
    never. `limit` is None where the policy's default applies. A key that does not exist has a record too, in the state
    `UNKNOWN`, with revision 0 and empty ids. `principal` is who calls with the key, made once for all its checks.
    """

    state: KeyState
    revision: int = 0
    key_id: str = ""
    account_id: str = ""
    scopes: frozenset[str] = frozenset()
    limit: Limit | None = None
    expires_at_ms: int = 0
    principal: Principal = _NOBODY

    def __post_init__(self) -> None:
        """Make the principal."""
        force_setattr(self, "principal", Principal(self.account_id, self.key_id, self.scopes))


class TakeOutcome(StrEnum):
    """What the store found: a token granted, none left, or a key that opens nothing."""

    GRANTED = "g"
    LIMITED = "l"
    REVOKED = "r"
    DISABLED = "d"
    SUSPENDED = "s"
    EXPIRED = "e"
    UNKNOWN = "u"


class Bucket(Value):
    """The state of a key's bucket after a check: tokens left (a fraction) under the limit that was applied."""

    limit: Limit
    remaining: float


class Take(Value):
    """The store's answer to a `Lookup`. `bucket` is set where a bucket was looked at (`GRANTED` and `LIMITED`).

    `acquired` is what came of asking for a lease, set where that was done in the same step.
    """

    outcome: TakeOutcome
    record: KeyRecord
    bucket: Bucket | None = None
    acquired: Acquisition | None = None


class Allow(Value):
    """The request may pass. `principal` is None on routes that need no key.

    `would_deny` is the refusal that a shadow route did not enforce. `streams` is set where the request opens a
    stream, which holds a lease.
    """

    route: Route
    principal: Principal | None = None
    bucket: Bucket | None = None
    would_deny: DenyReason | None = None
    streams: StreamUse | None = None


class Deny(Value):
    """The request may not pass.

    `methods` is what a 405 lists. `retry_after_s` is in whole seconds, set where waiting helps. `detail` is for the log
    alone. `streams` is set where too many are open.
    """

    reason: DenyReason
    route: Route | None = None
    principal: Principal | None = None
    bucket: Bucket | None = None
    methods: tuple[str, ...] = ()
    retry_after_s: int | None = None
    detail: str = ""
    streams: StreamUse | None = None


Decision: TypeAlias = Allow | Deny
