"""What a new policy says about its API and its keys where nobody says otherwise."""

import re

from authz.adapters.policy_writer.document import Identity
from authz.core.imports.operation import Description
from authz.core.imports.scopes import slug

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_DOMAIN = re.compile(r"[a-z0-9.-]+")
_PREFIX = re.compile(r"[a-z][a-z0-9]*_")
_NAME_CHARS_MAX = 64
_TITLE_CHARS_MAX = 24
_PREFIX_CHARS_MAX = 12
_PREFIX_LIMIT_CHARS = 32
_DOMAIN_CHARS_MAX = 253
_HEADER = "x-api-key"


def identity(description: Description, name: str = "", prefix: str = "") -> Identity:
    """Return the identity of an API: of the options, or else of its title, its host and its security schemes.

    Raises `ValueError` for an invalid name or prefix.
    """
    chosen = name or _short(description.title)
    if not _NAME.fullmatch(chosen):
        raise ValueError(f"the name {chosen!r} must be lower-case letters, digits and hyphens")
    if len(chosen) > _NAME_CHARS_MAX:
        raise ValueError(f"the name has more than {_NAME_CHARS_MAX} characters")
    host = description.host.lower().partition(":")[0]
    domain = host if _DOMAIN.fullmatch(host) and len(host) <= _DOMAIN_CHARS_MAX else f"{chosen}.example"
    prefix = prefix or f"{slug(chosen).replace('-', '')[:_PREFIX_CHARS_MAX]}_"
    if not _PREFIX.fullmatch(prefix) or len(prefix) > _PREFIX_LIMIT_CHARS:
        raise ValueError(f"the prefix {prefix!r} must be lower-case letters and digits that end in an underscore")
    return Identity(chosen, domain, description.header or _HEADER, prefix)


def _short(title: str) -> str:
    """Return the first words of a title as a name."""
    words = slug(title.lower().replace("'", "").replace("\N{RIGHT SINGLE QUOTATION MARK}", "")).split("-")
    while len(words) > 1 and len("-".join(words)) > _TITLE_CHARS_MAX:
        words.pop()
    return "-".join(words)
