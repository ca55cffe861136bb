"""The shape of the section `keys` of a policy file: headers, schemes, prefixes, and their values in the core.

The other sections are `document.py`.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from authz.adapters.policy_file.foreign_keys import ForeignKeysModel
from authz.adapters.policy_file.shape import Shape
from authz.core.keys import KeyFormat, KeyFormats
from authz.core.policy.header_names import key_header_fault
from authz.core.policy.policy import KeyForm, KeyRules, KeyScheme
from authz.core.reserved_headers import folded

_SCHEMES = {"": KeyScheme.PLAIN, "bearer": KeyScheme.BEARER, "basic": KeyScheme.BASIC}
_PREFIX = r"^[a-z][a-z0-9]*(_[a-z0-9]+){0,3}_$"


class QueryKey(Shape):
    """A query parameter that carries keys, for clients that cannot send a header. URLs are logged on their way."""

    parameter: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=64)
    """The name of the parameter, as it is spelled."""
    exposure: Literal["accepted"]
    """That clients, proxies and histories will keep keys in URLs is accepted."""


class Keys(Shape):
    """The format of its API keys, and the header that carries them."""

    header: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9-]*$", max_length=64)
    """The request header that carries the key, in lower case; not one that HTTP, Envoy or authz owns."""
    headers: list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*( (bearer|basic))?$", max_length=64)]] | None = Field(
        default=None, min_length=1, max_length=8
    )
    """Grammar 2, instead of `header`: several headers, the first that a request has decides. `authorization bearer` and
    `authorization basic` (the key as user name, without a password) carry the key after that scheme."""
    query: QueryKey | None = None
    """Grammar 2: also accept the key in a query parameter, where no header has one. `authz policy lint` warns of it."""
    prefix: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9]*_$", max_length=32)
    """The beginning of every key, ending in an underscore."""
    prefixes: (
        dict[
            Annotated[str, Field(pattern=_PREFIX, max_length=32)],
            Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=32)],
        ]
        | None
    ) = Field(default=None, min_length=1, max_length=8)
    """Grammar 2, instead of `prefix`: several prefixes, such as `sk_live_`, each with the environment that the backend
    gets in `x-authz-environment`. New keys have the first one unless another is chosen."""
    active_max: int = Field(gt=0, le=10_000)
    """The most keys of an account that are neither revoked nor expired."""

    foreign: list[ForeignKeysModel] = Field(default=[], max_length=16)
    """The formats of keys of another system that may be presented, too. They have no checksum, so each one that does
    not exist costs a lookup, as an unknown key does."""

    @field_validator("header")
    @classmethod
    def _free_header(cls, name: str | None) -> str | None:
        fault = None if name is None else key_header_fault(name)
        if fault is not None:
            raise ValueError(fault)
        return name

    @field_validator("headers")
    @classmethod
    def _free_headers(cls, forms: list[str] | None) -> list[str] | None:
        by_folded: dict[str, str] = {}
        for form in forms or ():
            name, space, _ = form.partition(" ")
            fault = key_header_fault(name, has_scheme=bool(space))
            if fault is not None:
                raise ValueError(fault)
            if by_folded.setdefault(folded(name), name) != name:
                raise ValueError(f"{by_folded[folded(name)]} and {name} are one header to some backends")
        if forms is not None and len(set(forms)) < len(forms):
            raise ValueError("a header appears twice")
        return forms

    @model_validator(mode="after")
    def _one_of_each(self) -> "Keys":
        if (self.header is None) == (self.headers is None):
            raise ValueError("needs exactly one of header and headers")
        if (self.prefix is None) == (self.prefixes is None):
            raise ValueError("needs exactly one of prefix and prefixes")
        own = tuple(self.prefixes or (self.prefix or "",))
        if any(it.prefix.startswith(own) for it in self.foreign):
            raise ValueError("a foreign prefix begins as the policy's own keys, which have a checksum")
        return self

    def rules(self) -> KeyRules:
        """Return the core's values."""
        forms = tuple(_form(text) for text in self.headers or ())
        if forms == (KeyForm(forms[0].header),) if forms else False:
            forms = ()  # one plain header, which is read at less cost
        header = self.header or (self.headers or [""])[0].partition(" ")[0]
        environments = self.prefixes or {}
        formats = tuple(map(KeyFormat, environments or {self.prefix or "": ""}))
        one = formats[0] if len(formats) == 1 else KeyFormats(formats)
        foreign = tuple(it.format() for it in self.foreign)
        return KeyRules(
            header, one, self.active_max, foreign, forms, dict(environments), self.query.parameter if self.query else ""
        )


def _form(text: str) -> KeyForm:
    name, _, scheme = text.partition(" ")
    return KeyForm(name, _SCHEMES[scheme])
