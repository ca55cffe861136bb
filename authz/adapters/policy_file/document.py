"""The shape of a policy file, as pydantic models: what fields there are, their types and their meaning.

They define the JSON Schema and the checks of shape; the rules between rows are `core/policy/rules.py`.
"""

import json
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from authz.adapters.policy_file.error_template import ErrorTemplateModel
from authz.adapters.policy_file.foreign_keys import ForeignKeysModel
from authz.adapters.policy_file.keys import Keys, QueryKey
from authz.adapters.policy_file.limits import LimitModel, NamedWindows, Names, Plans, WindowModel
from authz.adapters.policy_file.shape import Hosts, OneOrMore, Shape
from authz.core.limits import CAPACITY_MAX
from authz.core.policy.policy import INVALID_KEYS
from authz.core.policy.route import Access, AccountBinding, BindingLocation, ErrorFormat
from authz.core.throttles import DEFAULT_THROTTLES, Attempt, Throttle, Throttles

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


Errors = Literal["json", "problem", "text", "template"]
_BARRED = "barred"
Several = Annotated[list[str] | None, Field(default=None, min_length=2, max_length=16)]


class Api(Shape):
    """The API that the policy is about."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)
    """Its short name; the realm of a 401."""
    domain: str = Field(pattern=r"^[a-z0-9.-]+$", max_length=253)
    """The domain of its error reasons (google.rpc.ErrorInfo)."""


class RateHeadersModel(Shape):
    """The rate headers that are sent on allowed and on rate-limited requests."""

    ietf: bool = True
    """RateLimit-Policy and RateLimit, as the current IETF draft has them."""
    legacy: bool = True
    """X-RateLimit-Limit, -Remaining and -Reset."""


class ScopeModel(Shape):
    """A permission that a key may hold."""

    description: str = Field(min_length=1)
    """What it grants, in words for the key's owner."""
    write: bool = False
    """Whether it permits changes; only such scopes may gate routes that yield credentials."""


class Stream(Shape):
    """A class of long-lived responses with caps on how many are open at once."""

    per_key: int = Field(gt=0, le=1000)
    """Streams of one key."""
    per_account: int = Field(gt=0, le=1000)
    """Streams of all keys of an account."""
    ttl_s: int = Field(ge=3, le=3600)
    """Seconds without a heartbeat after which a stream's slot is free again."""
    title: str = Field(default="streams", pattern=r"^[A-Za-z][A-Za-z0-9 -]{0,39}$")
    """The plural noun for its streams in a refusal: too many concurrent TITLE for this key."""

    @model_validator(mode="after")
    def _key_within_account(self) -> "Stream":
        if self.per_key > self.per_account:
            raise ValueError("per_key is more than per_account, which then rules alone")
        return self


class ThrottleModel(Shape):
    """A limit on attempts at the portal."""

    per_address: int = Field(gt=0, le=1_000_000)
    """Attempts from one address, within `wait_s`."""
    per_subject: int = Field(default=0, ge=0, le=1_000_000)
    """Attempts on one subject: a login's e-mail address, a poll's code, an account. 0: not counted."""
    wait_s: int = Field(gt=0, le=86_400)
    """The seconds for which attempts count; also the value of Retry-After."""
    message: str = Field(default="", max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
    """The text of a refusal; empty for the built-in text."""


class Routes(Shape):
    """Routes with the same requirements."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name]} for name in ("scope", "all_of", "any_of", "access")]}
    )

    scope: str | None = None
    """The scope that a key must hold, exactly. Either this or `access`."""
    all_of: Several = None
    """Grammar 2, instead of `scope`: scopes that a key must hold together."""
    any_of: Several = None
    """Grammar 2, instead of `scope`: scopes of which a key must hold at least one."""
    access: Literal["any", "optional", "public", "session", "barred"] | None = None
    """any: any valid key. public: no key. session: allowed without a key, refused with one. barred: nobody. optional
    (grammar 2): allowed without a key; a key must be valid, and its owner is reported to the backend."""
    match: OneOrMore
    """`METHOD /template`, or `/package.Service/Method` and `/package.**` for gRPC; one or a list."""
    hosts: Annotated[Hosts | None, Field(default=None)] = None
    """Grammar 2: the hosts that have these rows, instead of those of the policy: `api.example.com`, an address, or
    `*.example.com` for every host below. A barred group without it bars on every host."""
    account: Annotated[OneOrMore | None, Field(default=None)] = None
    """Locations of an account id, which must be the key's own: `path:NAME`, `query:NAME`, `body:NAME`."""
    account_required: bool = False
    """Refuse requests that name no account."""
    yields_credential: bool = False
    """The response contains a credential; needs a write scope."""
    colon_ids: bool = False
    """Accept encoded colons in the last id, although the path could also end in a custom verb."""
    cost: int = Field(default=1, gt=0, le=CAPACITY_MAX)
    """Tokens that a request takes from each of its buckets."""
    limits: Annotated[Names | None, Field(default=None)] = None
    """Grammar 2: named limits that each key has for these rows, beside its other buckets; one or a list. Rows that name
    the same limit share its buckets."""
    errors: Errors | None = None
    """The format of refusals: JSON, or one line of plain text; `problem` (grammar 2) is that of RFC 9457,
    `template` (grammar 2) that of `error_template`. By default that of the policy."""
    stream: str = ""
    """The stream class, for responses that stay open."""
    shadow: bool = False
    """Decide and count, but allow every request."""

    @model_validator(mode="after")
    def _one_need(self) -> "Routes":
        needs = (self.scope, self.access, self.all_of, self.any_of)
        if sum(need is not None for need in needs) != 1:
            raise ValueError("needs exactly one of scope and access")
        return self

    def scopes(self) -> tuple[tuple[str, ...], ...]:
        """Return each set of scopes that suffices, where several are named."""
        if self.all_of is not None:
            return (tuple(dict.fromkeys(self.all_of)),)
        return tuple((scope,) for scope in dict.fromkeys(self.any_of or ()))

    def scope_text(self) -> str:
        """Return the scope, or a description of several."""
        return self.scope or " and ".join(self.all_of or ()) or " or ".join(self.any_of or ())

    def need(self) -> Access:
        """Return what the routes require of a caller."""
        return Access.SCOPE if self.access is None else Access(self.access)

    def error_format(self) -> ErrorFormat | None:
        """Return the format of refusals."""
        return None if self.errors is None else ErrorFormat(self.errors)

    def bindings(self) -> tuple[AccountBinding, ...]:
        """Return the account bindings; raises `ValueError` for one that is not LOCATION:NAME."""
        return tuple(_binding(text) for text in self.account or ())


class OverridesModel(Shape):
    """The treatment of requests that name another method or path than their own."""

    headers: Literal["refuse", "strip"] = "refuse"
    """Headers such as X-HTTP-Method-Override and X-Original-URL: refuse with 400, or remove before the backend."""
    query: Literal["refuse", "allow"] = "refuse"
    """Query parameters such as `_method`: refuse with 400 after the key proved valid, or ignore."""


Scopes = dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(:[a-z][a-z0-9-]*)?$", max_length=64)], ScopeModel]
Streams = dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)], Stream]
FileName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Document(Shape):
    """A policy: the routes of an API, what each requires, and the limits."""

    version: Literal[1, 2]
    """The grammar's version; fields of grammar 2 need 2."""
    acknowledge: Annotated[OneOrMore | None, Field(default=None)] = None
    """Digests of policies in force that this one may replace at run time although it opens something; not part of its
    own digest."""
    include: list[FileName] = Field(default=[], max_length=64)
    """Grammar 2: further files with `include`, `hosts`, `scopes`, `streams` and `routes`; relative to this file, and in
    its folder or below."""
    api: Api
    keys: Keys
    limit: LimitModel
    """The bucket of every key that has no limit of its own."""
    account_limit: LimitModel | None = None
    """A bucket of every account beside those of its keys: a request takes its cost from both or from neither. The own
    limits of an account's keys come on top of it. Without it accounts have no bucket."""
    limits: NamedWindows = Field(default={})
    """Grammar 2: named limits, each one bucket or several."""
    key_limits: Annotated[Names | None, Field(default=None)] = None
    """Grammar 2: named limits that every key without a plan has beside `limit`; one or a list."""
    plans: Plans = Field(default={})
    """Grammar 2: by name, the named limits that a key with this plan has instead of `limit` and `key_limits`."""
    invalid_keys: LimitModel = LimitModel(capacity=INVALID_KEYS.capacity, refill_per_s=INVALID_KEYS.refill_per_s)
    """The bucket of every source address; each invalid key takes a token."""
    rate_headers: RateHeadersModel = RateHeadersModel()
    errors: Errors = "json"
    """Grammar 2: the format of refusals on every row that has none of its own, and where there is no row."""
    error_template: ErrorTemplateModel | None = None
    """Grammar 2: the bodies of refusals in the format `template`."""
    base_path: str = Field(default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$", max_length=256)
    """Grammar 2: the beginning of every path of the table, such as `/api/v3`; gRPC rows have none."""
    hosts: Annotated[Hosts | None, Field(default=None)] = None
    """Grammar 2: the hosts of every group that has none of its own; other hosts are not served. By default those that
    some group names."""
    host_from: str = Field(default="authority", pattern=r"^(authority|extension [a-z][a-z0-9_.-]{0,63})$")
    """Grammar 2: where the host of a request is: in its authority, or in the entry of Envoy's `context_extensions` of
    this name."""
    methods: list[Method] = Field(default=list(METHODS), min_length=1)
    """The HTTP methods that are accepted at all."""
    head_follows_get: bool = True
    """Whether HEAD uses the GET row of a path that has no HEAD row."""
    trailing_slash: Literal["distinct", "same"] = "distinct"
    """Grammar 2: whether `/orders/` is another path than `/orders`, or has the same row."""
    overrides: OverridesModel = OverridesModel()
    scopes: Scopes
    """The scopes, by name."""
    streams: Streams = Field(default={})
    """The stream classes, by name."""
    throttles: dict[Annotated[Attempt, Field(strict=False)], ThrottleModel] = Field(default={})
    """The throttles of the portal's endpoints and of changes of keys there that differ from the built-in ones."""
    routes: list[Routes] = Field(default=[], min_length=1)
    """The table; a policy without it includes files that have rows."""

    def host_extension(self) -> str:
        """Return the name of the context extension that holds the host, if one does."""
        return self.host_from.partition(" ")[2]

    def hosts_of(self, group: Routes) -> tuple[str, ...]:
        """Return the hosts of a group; none for every host."""
        hosts = group.hosts if group.hosts is not None or group.access == _BARRED else self.hosts
        return tuple(dict.fromkeys(hosts or ()))

    def all_throttles(self) -> Throttles:
        """Return every throttle; those that the document omits are built in."""
        given = {
            name: Throttle(it.per_address, it.per_subject, it.wait_s, it.message or DEFAULT_THROTTLES[name].message)
            for name, it in self.throttles.items()
        }
        return DEFAULT_THROTTLES | given


def schema_text() -> str:
    """Return the JSON Schema of policy files, for editors and other checkers."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Document.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


def field_names() -> set[str]:
    """Return the names of all fields, for suggestions."""
    models = (
        Document,
        OverridesModel,
        Api,
        ErrorTemplateModel,
        Keys,
        QueryKey,
        ForeignKeysModel,
        LimitModel,
        WindowModel,
        RateHeadersModel,
        ScopeModel,
        Stream,
        ThrottleModel,
        Routes,
    )
    return {name for model in models for name in model.model_fields}


def _binding(text: str) -> AccountBinding:
    location, colon, name = text.partition(":")
    if not colon or not name or location not in set(BindingLocation):
        raise ValueError(f"{text!r} is not path:NAME, query:NAME or body:NAME")
    return AccountBinding(BindingLocation(location), name)
