"""The values of one check, in order: request attributes, lookup, the store's reply, decision.

The rules that compute one from another are in `decision.py`.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Self, TypeAlias

from authz.core.errors import DenyReason
from authz.core.limits import NO_LIMIT, Limit, NamedLimit
from authz.core.policy.overrides import Override
from authz.core.policy.path import Target
from authz.core.policy.route import Route
from authz.core.policy.template import Template
from authz.core.streams import Acquisition, Opening, StreamUse
from authz.core.text import without_key
from authz.core.traces.context import Traced
from authz.core.value import Value, force_setattr


class BodyForm(Value):
    """How a body was sent: its content type, whether Envoy sent only its beginning, and whether it is compressed."""

    content_type: str = ""
    is_partial: bool = False
    is_encoded: bool = False


_NO_FORM = BodyForm()


class RequestAttributes(Value):
    """What Envoy sent about one request.

    `request_id` is Envoy's stream id: it is the same for every retry of one check, and a client cannot choose it.
    `target` is the request target as the backend will receive it, query included. `api_keys` holds every value of the
    API key header, as bytes. `overrides` is set if a header names another method or path. `has_body` is False only if
    the request certainly has no body, or is a GET or HEAD that announces none. `body` is empty if Envoy is not
    configured to send it as bytes. `source_address` is a function, because few requests need the address.
    `reserved_headers` holds the names of the client's headers that only authz may set (`core/reserved_headers.py`).
    `x_request_id` is the id that Envoy and its client know the request by, empty if Envoy does not send it; a client
    may have chosen it. `call` has the trace context of the check.
    `host` is the host as sent, or the operator's name of it; it is set for policies whose rows have hosts.
    `key_in_query` is set if the query had a key, which `target` no longer has.
    """

    request_id: str
    method: str
    target: str
    api_keys: tuple[bytes, ...] = ()
    is_grpc: bool = False
    overrides: Override | None = None
    has_body: bool = False
    body: bytes = b""
    source_address: Callable[[], str] = str
    reserved_headers: tuple[str, ...] = ()
    body_form: BodyForm = _NO_FORM
    x_request_id: bytes = b""
    call: Traced | None = None
    host: str = ""
    key_in_query: bool = False

    @property
    def logged_id(self) -> str:
        """The id of the request in every log: x-request-id, or Envoy's stream id where Envoy does not send that."""
        return logged_id(self.x_request_id, self.request_id)

    def __repr__(self) -> str:
        """Omit fields that may contain a secret."""
        return f"{type(self).__name__}(request_id={self.request_id!r}, method={self.method!r})"


def logged_id(x_request_id: bytes, stream_id: str) -> str:
    """Return the id of a request as it is logged: x-request-id, or Envoy's stream id where Envoy does not send that."""
    return without_key(x_request_id.decode("ascii", "replace")) or stream_id


class Principal(Value, eq=False):
    """The caller: an account, the key it uses, and the scopes of that key.

    `fragments` belongs to `edge/check/responses.py`. It caches response fragments beside the caller, because a separate
    table of them misses the processor's caches, which costs a twentieth of a check. It is not part of the identity.
    """

    account_id: str
    key_id: str
    scopes: frozenset[str]
    fragments: object = None

    def __eq__(self, other: object) -> bool:
        """Compare everything except the fragments."""
        return isinstance(other, Principal) and self._identity() == other._identity()

    def __hash__(self) -> int:
        """Hash the fields that are compared."""
        return hash(self._identity())

    def _identity(self) -> tuple[str, str, frozenset[str]]:
        return self.account_id, self.key_id, self.scopes


_NOBODY = Principal("", "", frozenset())


class Named(Value):
    """Where a request may name accounts, unread: its attributes, its target, and the template of its row."""

    attributes: RequestAttributes
    target: Target
    template: Template | None


class Lookup(Value):
    """The query to the key store, with what is already known about the request.

    `digest` is the SHA-256 of the presented key (32 bytes). `cost` is the number of tokens to take. `route` is the row
    that matched, or None; `refusal` is then the reason, and `methods` lists what the path accepts. `named` is set where
    the row binds accounts; `query` is the raw query. Both are read only after the key proved valid. `opening` is the
    stream that the request opens if it is allowed.
    """

    digest: bytes
    cost: int
    route: Route | None
    methods: tuple[str, ...] = ()
    named: Named | None = None
    query: str = ""
    refusal: DenyReason = DenyReason.ROUTE_UNKNOWN
    opening: Opening | None = None


class KeyState(StrEnum):
    """The state of a key in its record: a single letter, because every check reads it from Redis."""

    ACTIVE = "a"
    REVOKED = "r"
    DISABLED = "d"
    UNKNOWN = "u"


class KeyRecord(Value):
    """The projection of one key: everything that a check needs of it.

    `revision` increases with every change of the database row. `expires_at_ms` is Unix time in milliseconds, 0 for
    never. `limit` is None where the policy's default applies. `plan` is the name of the key's plan, or empty. A key
    that does not exist also has a record, in the state `UNKNOWN`, with revision 0 and empty ids. `principal` is the
    caller, built once for all checks of the key.
    """

    state: KeyState
    revision: int = 0
    key_id: str = ""
    account_id: str = ""
    scopes: frozenset[str] = frozenset()
    limit: Limit | None = None
    expires_at_ms: int = 0
    plan: str = ""
    principal: Principal = _NOBODY

    def __post_init__(self) -> None:
        """Make the principal."""
        force_setattr(self, "principal", Principal(self.account_id, self.key_id, self.scopes))


class AccountRecord(Value):
    """The projection of one account: whether its keys may be used, and how much of its bucket they add themselves.

    `revision` grows with every change of the row it was made from. `own` is the sum of the limits of its keys that have
    one of their own; it comes on top of the policy's limit for accounts.
    """

    account_id: str
    revision: int = 1
    is_suspended: bool = False
    own: Limit = NO_LIMIT

    def limit(self, default: Limit | None) -> Limit | None:
        """Return the limit of the account's bucket, with the policy's `default`; None if accounts have no bucket."""
        return default if default is None or self.own == NO_LIMIT else default + self.own


class Held(Value):
    """What the directory holds for one digest: the key's record, and its account's unless the key is of no use."""

    key: KeyRecord
    account: AccountRecord | None = None


class TakeOutcome(StrEnum):
    """The result in the store: a token was granted, none was left, or the key is not valid."""

    GRANTED = "g"
    LIMITED = "l"
    REVOKED = "r"
    DISABLED = "d"
    SUSPENDED = "s"
    EXPIRED = "e"
    UNKNOWN = "u"


class Quotas(Value):
    """The buckets of a check that took from more than those of the key's record and its account.

    `items` are all of them in their order, the account's last; `name` is that of the bucket that is shown.
    """

    items: tuple[NamedLimit, ...]
    name: str


class BucketLimits(Value):
    """The limits of the buckets of a check, and which one is shown: `limit` is its limit.

    It is the key's own, or with `is_account` that of its account. `other` is the limit of the other one; None if
    accounts have no bucket. `quotas` is set if the check took from further buckets, one of which may be this one.
    """

    limit: Limit
    other: Limit | None = None
    is_account: bool = False
    quotas: Quotas | None = None


class Bucket(Value):
    """The bucket that restricts a key the most after a check: tokens left (a fraction) under the applied limit.

    Checks of a key share its limits, so that an adapter can tell by identity whether they are the same.
    """

    limits: BucketLimits
    remaining: float

    @property
    def limit(self) -> Limit:
        """The limit of this bucket."""
        return self.limits.limit

    @classmethod
    def of(cls, limit: Limit, remaining: float, other: Limit | None = None, *, is_account: bool = False) -> Self:
        """Return a bucket with limits of its own."""
        return cls(BucketLimits(limit, other, is_account), remaining)


class Take(Value):
    """The store's reply to a `Lookup`. `bucket` is set for `GRANTED` and `LIMITED`.

    `acquired` is the result of acquiring a lease, set if the same call did that.
    """

    outcome: TakeOutcome
    record: KeyRecord
    bucket: Bucket | None = None
    acquired: Acquisition | None = None


class Allow(Value):
    """The request is allowed. `principal` is None on routes that need no key.

    `would_deny` is the refusal that a shadow route did not enforce. `streams` is set if the request opens a stream,
    which then holds a lease.
    """

    route: Route
    principal: Principal | None = None
    bucket: Bucket | None = None
    would_deny: DenyReason | None = None
    streams: StreamUse | None = None


class Deny(Value):
    """The request is denied.

    `methods` is what a 405 lists. `retry_after_s` is in whole seconds, set if waiting helps. `detail` is for the log
    only. `streams` is set if too many streams are open.
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
