"""The policy as frozen values: the routes of an API, what each needs, and the limits.

`adapters/policy_file/` reads files; `router.py` matches paths.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from authz.core.bodies.template import ErrorTemplate
from authz.core.keys import ForeignFormat, KeyFormat, KeyFormats
from authz.core.limits import KeyLimits, Limit
from authz.core.policy.overrides import Overrides
from authz.core.policy.route import ErrorFormat, Route
from authz.core.policy.router import Router
from authz.core.streams import StreamClass
from authz.core.throttles import DEFAULT_THROTTLES, Throttles

INVALID_KEYS = Limit(capacity=1000, refill_per_s=10)
"""The default limit of invalid keys from one address."""

OVERRIDES = Overrides()
"""The default treatment of other methods and paths: everything that names one is refused."""


class Gate(StrEnum):
    """What a reload at run time may do without an acknowledgement."""

    OFF = "off"
    NO_OPENING = "no-opening"


@dataclass(frozen=True, slots=True)
class Scope:
    """A permission, `resource:action`. Only `write` scopes may gate routes that yield credentials."""

    name: str
    description: str
    write: bool = False


class KeyScheme(StrEnum):
    """How a header carries a key: alone, after the word Bearer, or as the user name of Basic (RFC 6750, RFC 7617)."""

    PLAIN = "ApiKey"
    BEARER = "Bearer"
    BASIC = "Basic"


@dataclass(frozen=True, slots=True)
class KeyForm:
    """One way to present a key: a lower-case header name and its scheme."""

    header: str
    scheme: KeyScheme = KeyScheme.PLAIN


@dataclass(frozen=True, slots=True)
class KeyRules:
    """The rules of API keys: the lower-case header name, the format, and the most active keys of an account.

    `foreign` are the formats of keys that another system has made, and that may be presented, too. `forms` lists every
    way to present a key, in order, where there is more than the plain `header`; `environments` is the label of each
    prefix, for the backend. `query_parameter` may carry a key where no header does; empty for none.
    """

    header: str
    format: KeyFormat | KeyFormats
    active_max: int
    foreign: tuple[ForeignFormat, ...] = ()
    forms: tuple[KeyForm, ...] = ()
    environments: dict[str, str] = field(default_factory=dict)
    query_parameter: str = ""

    @property
    def headers(self) -> tuple[str, ...]:
        """Every header that may carry a key, in order."""
        return tuple(dict.fromkeys(form.header for form in self.forms)) or (self.header,)

    @property
    def schemes(self) -> tuple[str, ...]:
        """The schemes that a 401 offers."""
        return tuple(dict.fromkeys(form.scheme.value for form in self.forms)) or (KeyScheme.PLAIN.value,)

    @property
    def is_plain(self) -> bool:
        """Whether keys are of one format and stand alone in one header."""
        return not self.forms and isinstance(self.format, KeyFormat)

    def format_of(self, environment: str) -> KeyFormat | None:
        """Return the format of new keys of an environment, "" for the usual one; None if there is no such one."""
        if not environment:
            return self.format.form_of("")
        return next((KeyFormat(prefix) for prefix, label in self.environments.items() if label == environment), None)

    def environment(self, presented: bytes) -> str:
        """Return the label of a key; empty where prefixes have none, and for a foreign key."""
        if not self.format.is_well_formed(presented):
            return ""
        return self.environments.get(self.format.form_of(presented.decode("latin-1")).prefix, "")

    def is_foreign(self, presented: bytes) -> bool:
        """Tell whether a key that is not well-formed has a foreign format. A damaged key of our own has none."""
        if not self.foreign or presented.startswith(tuple(prefix.encode() for prefix in self.format.prefixes)):
            return False
        return any(it.matches(presented) for it in self.foreign)

    @property
    def pattern(self) -> str:
        """The regular expression of all keys that may be presented, for masking them."""
        return "|".join(filter(None, (self.format.pattern, *(it.pattern for it in self.foreign))))


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """Which families of rate headers are sent."""

    ietf: bool = True
    legacy: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole table, immutable. `api` names it in error details; `domain` is the ErrorInfo domain.

    `limit` is the bucket of a key without one of its own, `account_limit` that of an account beside those of its keys
    (None for no bucket). `key_limits` is set where a check may take from further buckets. `errors` is the format of
    refusals without a row. `invalid_keys` is the bucket of a source address; invalid keys take from it. `digest` names
    the content: processes with the same digest decide by the same table. `version` is that of the file's grammar.
    `acknowledges` names the policies, by their digests, that this one may replace although it opens something.
    `host_extension` names the context extension of Envoy that holds the host; empty for the authority of the request.
    `error_template` is the form of refusals whose format is `TEMPLATE`. `identity` is this object's own: caches compare
    with it, because a reference to the policy would keep the table of a former one.
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
    overrides: Overrides = OVERRIDES
    account_limit: Limit | None = None
    key_limits: KeyLimits | None = None
    errors: ErrorFormat = ErrorFormat.JSON
    host_extension: str = ""
    error_template: ErrorTemplate | None = None
    throttles: Throttles = field(default_factory=DEFAULT_THROTTLES.copy)
    digest: str = field(default="", compare=False)
    version: int = field(default=1, compare=False)
    acknowledges: tuple[str, ...] = field(default=(), compare=False)
    identity: object = field(init=False, default_factory=object, compare=False, repr=False)

    @property
    def plans(self) -> frozenset[str]:
        """The names of the plans that keys may have."""
        return frozenset() if self.key_limits is None else frozenset(self.key_limits.plans)
