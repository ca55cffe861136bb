"""Headers that name another method or path, which some backends obey instead of the request line.

A policy refuses such requests, or has the headers removed. `core/bindings/query.py` finds such parameters.
"""

from dataclasses import dataclass
from enum import StrEnum

from authz.core.errors import DenyReason

METHOD_HEADERS = frozenset(
    {"x-http-method-override", "x-http-method", "x-method-override", "x-original-method", "x-forwarded-method"}
)
PATH_HEADERS = frozenset(
    {
        "x-original-url",
        "x-original-uri",
        "x-original-path",
        "x-rewrite-url",
        "x-rewrite-uri",
        "x-override-url",
        "x-http-path-override",
        "x-forwarded-uri",
        "x-forwarded-url",
        "x-forwarded-path",
        "x-forwarded-prefix",
        "x-script-name",
        "x-request-uri",
    }
)
HOST_HEADERS = frozenset(
    {"forwarded", "x-forwarded-host", "x-forwarded-server", "x-host", "x-http-host-override", "x-original-host"}
)
"""Headers that name another host; Envoy removes them where a policy distinguishes hosts."""

_ALL = METHOD_HEADERS | PATH_HEADERS


class Override(StrEnum):
    """What a header names; an alias is such a name with underscores, which CGI and WSGI cannot distinguish.

    `KEY` is a query with another spelling, or a second copy, of the parameter that carries the key.
    """

    METHOD = "method"
    PATH = "path"
    ALIAS = "alias"
    KEY = "key"


REFUSALS = {
    Override.METHOD: DenyReason.METHOD_OVERRIDDEN,
    Override.PATH: DenyReason.PATH_OVERRIDDEN,
    Override.ALIAS: DenyReason.METHOD_OVERRIDDEN,
    Override.KEY: DenyReason.PARAMETER_AMBIGUOUS,
}


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a policy does about them: `strip` removes the headers, otherwise such a request is refused.

    `in_query` tells whether a query parameter such as `_method` is refused. Aliases are always refused.
    """

    strip: bool = False
    in_query: bool = True

    def refuses(self, override: Override) -> bool:
        """Tell whether a request with this override is refused."""
        return not self.strip or override in {Override.ALIAS, Override.KEY}

    @property
    def removed_headers(self) -> tuple[str, ...]:
        """Return the headers to remove from every allowed request."""
        return tuple(sorted(_ALL)) if self.strip else ()


def override_of(name: str) -> Override | None:
    """Return what a lower-case header name overrides, or None."""
    if name in METHOD_HEADERS:
        return Override.METHOD
    if name in PATH_HEADERS:
        return Override.PATH
    if "_" in name and name.replace("_", "-") in _ALL:
        return Override.ALIAS
    return None
