"""Which accounts a request names, in the places where its route says that one may travel.

Whether they are the caller's own is decided in `decision.py`, after the key has proven valid.
"""

import json
from collections.abc import Mapping

from authz.core.check import RequestAttributes
from authz.core.errors import DenyReason
from authz.core.policy.path import Target, query_values
from authz.core.policy.route import BindingPlace, Route

Claims = tuple[tuple[str, ...], DenyReason | None]


class _Ambiguous(Exception):  # noqa: N818 -- a signal inside this module
    """The place cannot be read in one way only."""

    def __init__(self, reason: DenyReason) -> None:
        self.reason = reason


def claimed_accounts(
    route: Route, variables: Mapping[str, str], target: Target, attributes: RequestAttributes
) -> Claims:
    """Return every account id the request names and, if a place cannot be trusted, the refusal that earns.

    `variables` are the path's, by the names in the route's template.
    """
    claims: list[str] = []
    try:
        for place in BindingPlace:
            names = _names(route, place)
            if not names:
                continue
            if place is BindingPlace.PATH:
                claims += [variables[name] for name in names]
            elif place is BindingPlace.QUERY:
                claims += _single([value for name in names for value in query_values(target.query, name)])
            else:
                claims += _single(_body_values(attributes, names))
    except _Ambiguous as ambiguous:
        return (), ambiguous.reason
    if route.account_required and not claims:
        return (), DenyReason.ACCOUNT_ABSENT
    return tuple(claims), None


def _names(route: Route, place: BindingPlace) -> list[str]:
    return [binding.name for binding in route.accounts if binding.place is place]


def _single(values: list[str]) -> list[str]:
    # Of a repeated parameter one backend reads the first and another the last value.
    if len(values) > 1:
        raise _Ambiguous(DenyReason.ACCOUNT_REPEATED)
    return values


class _Object(list[tuple[str, object]]):
    """A JSON object as its pairs, repeated names included."""


def _body_values(attributes: RequestAttributes, names: list[str]) -> list[str]:
    if not attributes.body:
        # Envoy saw a body and did not pass it on: what cannot be read cannot be vouched for.
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
