"""The accounts that a request names, in the locations that its route declares.

`decision.py` compares them with the caller's account, after the key proved valid.
"""

import json
from collections.abc import Mapping

from authz.core.check import RequestAttributes
from authz.core.errors import DenyReason
from authz.core.policy.path import Target, query_values
from authz.core.policy.route import BindingLocation, Route

Claims = tuple[tuple[str, ...], DenyReason | None]


class _Ambiguous(Exception):  # noqa: N818 -- a signal inside this module
    """The location has more than one reading."""

    def __init__(self, reason: DenyReason) -> None:
        self.reason = reason


def claimed_accounts(
    route: Route, variables: Mapping[str, str], target: Target, attributes: RequestAttributes
) -> Claims:
    """Return every account id that the request names and, for an ambiguous location, the refusal.

    `variables` are the path's, by their names in the template.
    """
    claims: list[str] = []
    try:
        for location in BindingLocation:
            names = _names(route, location)
            if not names:
                continue
            if location is BindingLocation.PATH:
                claims += [variables[name] for name in names]
            elif location is BindingLocation.QUERY:
                claims += _single([value for name in names for value in query_values(target.query, name)])
            else:
                claims += _single(_body_values(attributes, names))
    except _Ambiguous as ambiguous:
        return (), ambiguous.reason
    if route.account_required and not claims:
        return (), DenyReason.ACCOUNT_ABSENT
    return tuple(claims), None


def _names(route: Route, location: BindingLocation) -> list[str]:
    return [binding.name for binding in route.accounts if binding.location is location]


def _single(values: list[str]) -> list[str]:
    # Of a repeated parameter one backend reads the first and another the last value.
    if len(values) > 1:
        raise _Ambiguous(DenyReason.ACCOUNT_REPEATED)
    return values


class _Object(list[tuple[str, object]]):
    """A JSON object as its pairs, repeated names included."""


def _body_values(attributes: RequestAttributes, names: list[str]) -> list[str]:
    if not attributes.body:
        # Envoy has a body and did not send it: a body that cannot be read cannot be checked.
        if attributes.has_body:
            raise _Ambiguous(DenyReason.BODY_UNREADABLE)
        return []
    try:
        document = json.loads(attributes.body.decode(), object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, _Object):
        raise _Ambiguous(DenyReason.BODY_UNREADABLE)
    wanted = {_folded(name) for name in names}
    values = [value for name, value in document if _folded(name) in wanted and value is not None]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        raise _Ambiguous(DenyReason.BODY_UNREADABLE)
    return texts


def _folded(name: str) -> str:
    # JSON readers differ on case, and protobuf's take account_id for accountId.
    return name.replace("_", "").casefold()
