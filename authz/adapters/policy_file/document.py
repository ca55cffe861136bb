"""The shape of a policy file, as pydantic models: what fields there are, their types and their meaning.

They give the JSON Schema and the checks of shape; what rows mean together is `core/policy_rules.py`.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from authz.core.policy.policy import INVALID_KEYS
from authz.core.policy.route import Access, AccountBinding, BindingLocation, ErrorFormat
from authz.core.throttles import DEFAULT_THROTTLES, Attempt, Throttle, Throttles

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


OneOrMore = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Api(_Model):
    """The API that the policy is about."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Its short name; the realm of a 401."""
    domain: str = Field(pattern=r"^[a-z0-9.-]+$")
    """The domain of its error reasons (google.rpc.ErrorInfo)."""


class Keys(_Model):
    """How its API keys look and travel."""

    header: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    """The request header that carries the key, in lower case."""
    prefix: str = Field(pattern=r"^[a-z][a-z0-9]*_$")
    """What every key begins with, ending in an underscore."""
    active_max: int = Field(gt=0)
    """How many keys an account may have that are neither revoked nor expired."""


class LimitModel(_Model):
    """A token bucket."""

    capacity: int = Field(gt=0, le=1_000_000_000)
    """Its size in tokens."""
    refill_per_s: float = Field(ge=0.000_001, le=1_000_000_000, strict=False)
    """Tokens that come back each second; a fraction is fine."""


class RateHeadersModel(_Model):
    """Which rate headers are sent on allowed and on rate-limited requests."""

    ietf: bool = True
    """RateLimit-Policy and RateLimit, as the current IETF draft has them."""
    legacy: bool = True
    """X-RateLimit-Limit, -Remaining and -Reset."""


class ScopeModel(_Model):
    """A permission that a key may hold."""

    description: str = Field(min_length=1)
    """What it grants, in words for the key's owner."""
    write: bool = False
    """Whether it may change things; only such scopes may gate routes that yield credentials."""


class Stream(_Model):
    """A class of long-lived responses with caps on how many are open at once."""

    per_key: int = Field(gt=0, le=1000)
    """Streams of one key."""
    per_account: int = Field(gt=0, le=1000)
    """Streams of all keys of an account."""
    ttl_s: int = Field(ge=3, le=3600)
    """Seconds without a sign of life after which a stream's slot is free again."""
    title: str = Field(default="streams", pattern=r"^[A-Za-z][A-Za-z0-9 -]{0,39}$")
    """What its streams are called in a refusal: too many concurrent TITLE for this key."""

    @model_validator(mode="after")
    def _key_within_account(self) -> "Stream":
        if self.per_key > self.per_account:
            raise ValueError("per_key is more than per_account, which then rules alone")
        return self


class ThrottleModel(_Model):
    """How often something that needs no key may be tried."""

    per_address: int = Field(gt=0)
    """Attempts from one address, within `wait_s`."""
    per_subject: int = Field(default=0, ge=0)
    """Attempts on one subject: a login's e-mail address, a poll's code, an account. 0: not counted."""
    wait_s: int = Field(gt=0, le=86_400)
    """How long attempts count, and what Retry-After says."""
    message: str = Field(default="", max_length=200)
    """What too many are told; empty: what is built in."""


class Routes(_Model):
    """Routes with the same needs."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["scope"]}, {"required": ["access"]}]})

    scope: str | None = None
    """The scope that a key must hold, exactly. Either this or `access`."""
    access: Literal["any", "public", "session", "barred"] | None = None
    """any: any valid key. public: no key. session: passes without a key, refused with one. barred: nobody."""
    match: OneOrMore
    """`METHOD /template`, or `/package.Service/Method` and `/package.**` for gRPC; one or a list."""
    account: Annotated[OneOrMore | None, Field(default=None)] = None
    """Where an account id travels, which must be the key's own: `path:NAME`, `query:NAME`, `body:NAME`."""
    account_required: bool = False
    """Refuse requests that name no account."""
    yields_credential: bool = False
    """The answer lets its reader in elsewhere; needs a write scope."""
    cost: int = Field(default=1, gt=0)
    """Tokens that a request takes from the key's bucket."""
    errors: Literal["json", "text"] = "json"
    """How refusals are written: JSON, or one line of plain text."""
    stream: str = ""
    """The stream class, for responses that stay open."""
    shadow: bool = False
    """Decide and count, but let every request pass."""

    @model_validator(mode="after")
    def _one_need(self) -> "Routes":
        if (self.scope is None) == (self.access is None):
            raise ValueError("needs exactly one of scope and access")
        return self

    def need(self) -> Access:
        """Return what the routes ask of a caller."""
        return Access.SCOPE if self.access is None else Access(self.access)

    def error_format(self) -> ErrorFormat:
        """Return how refusals are written."""
        return ErrorFormat(self.errors)

    def bindings(self) -> tuple[AccountBinding, ...]:
        """Return the account bindings; raises `ValueError` for one that is not PLACE:NAME."""
        return tuple(_binding(text) for text in self.account or ())


class Document(_Model):
    """A policy: what an API's routes are, what each needs, and what a key may spend."""

    version: Literal[1]
    """The grammar's version."""
    api: Api
    keys: Keys
    limit: LimitModel
    """The bucket of every key that has no limit of its own."""
    invalid_keys: LimitModel = LimitModel(capacity=INVALID_KEYS.capacity, refill_per_s=INVALID_KEYS.refill_per_s)
    """The bucket of every source address, from which each key that opens nothing takes a token."""
    rate_headers: RateHeadersModel = RateHeadersModel()
    methods: list[Method] = Field(default=list(METHODS), min_length=1)
    """The HTTP methods that may pass at all."""
    scopes: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(:[a-z][a-z0-9-]*)?$")], ScopeModel]
    """The scopes there are, by name."""
    streams: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], Stream] = {}
    """The stream classes there are, by name."""
    throttles: dict[Annotated[Attempt, Field(strict=False)], ThrottleModel] = {}
    """How often the portal's open doors may be tried, where that differs from what is built in."""
    routes: list[Routes] = Field(min_length=1)
    """The table."""

    def all_throttles(self) -> Throttles:
        """Return every throttle, the built-in ones where the document says nothing."""
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
    """Return the name of every field there is, to suggest one for a misspelt other."""
    models = (Document, Api, Keys, LimitModel, RateHeadersModel, ScopeModel, Stream, ThrottleModel, Routes)
    return {name for model in models for name in model.model_fields}


def _binding(text: str) -> AccountBinding:
    place, colon, name = text.partition(":")
    if not colon or not name or place not in set(BindingLocation):
        raise ValueError(f"{text!r} is not path:NAME, query:NAME or body:NAME")
    return AccountBinding(BindingLocation(place), name)
