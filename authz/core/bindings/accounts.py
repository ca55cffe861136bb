"""The accounts that a request names, in the locations that its route declares.

They are read only after the key proved valid, once. Comparing them with the caller's own account is `decision.py`.
"""

from functools import lru_cache

from authz.core.bindings.json_body import BODY_BYTES_MAX, bound_texts, is_json
from authz.core.bindings.query import bound_values
from authz.core.bindings.spellings import Ambiguous, BoundNames
from authz.core.check import Named, RequestAttributes
from authz.core.errors import DenyReason
from authz.core.policy.route import WITHOUT_BODY, AccountBinding, BindingLocation, Route


class Unreadable(Exception):  # noqa: N818 -- a refusal, caught in `decision.py`
    """The named accounts cannot be read in one way only; `reason` is the refusal, str(error) the detail for the log."""

    def __init__(self, reason: DenyReason, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


def named_accounts(route: Route, named: Named) -> list[str]:
    """Return every account id that a request names where its route binds one; raises `Unreadable`."""
    in_path, in_query, in_body = _bound(route.accounts)
    accounts: list[str] = []
    if in_path and named.template is not None:
        variables = named.template.variables(named.target.decoded)
        accounts += [variables[name] for name in in_path]
    if in_query is not None:
        accounts += _in_query(named, in_query)
    if in_body is not None:
        accounts += _in_body(named, in_body)
    elif named.attributes.method in WITHOUT_BODY:
        _check_no_body(named.attributes)
    if route.account_required and not accounts:
        raise Unreadable(DenyReason.ACCOUNT_ABSENT)
    return accounts


def _check_no_body(attributes: RequestAttributes) -> None:
    # Some frameworks merge it into the parameters, where it wins over the query.
    if attributes.has_body or attributes.body:
        raise Unreadable(DenyReason.BODY_UNREADABLE, f"a {attributes.method} with a body")


@lru_cache(maxsize=1024)
def _bound(accounts: tuple[AccountBinding, ...]) -> tuple[tuple[str, ...], BoundNames | None, BoundNames | None]:
    """Sort the bindings of a row by location: path, query, body."""
    path, query, body = (
        tuple(it.name for it in accounts if it.location is location)
        for location in (BindingLocation.PATH, BindingLocation.QUERY, BindingLocation.BODY)
    )
    return path, BoundNames(query) if query else None, BoundNames(body) if body else None


def _in_query(named: Named, bound: BoundNames) -> list[str]:
    query = named.target.query
    if not query:
        return []
    try:
        values = bound_values(query, bound)
    except Ambiguous as error:
        raise Unreadable(DenyReason.ACCOUNT_AMBIGUOUS, str(error)) from None
    return _single(values)


def _in_body(named: Named, bound: BoundNames) -> list[str]:
    attributes = named.attributes
    body, form = attributes.body, attributes.body_form
    if form.is_partial or len(body) > BODY_BYTES_MAX:
        raise Unreadable(DenyReason.BODY_TOO_LARGE)
    if not body and not attributes.has_body:
        return []
    is_readable = is_json(form.content_type) and not attributes.is_grpc
    # What a backend finds in it depends on its decoder, also where these bytes look like JSON.
    if form.is_encoded or (not is_readable and form.content_type):
        raise Unreadable(DenyReason.BODY_NOT_JSON)
    if not body:
        # Envoy has a body and did not send it as bytes: what cannot be read cannot be checked.
        raise Unreadable(DenyReason.BODY_UNREADABLE, "Envoy sent no body: see docs/policy.md")
    try:
        texts = bound_texts(body, bound)
    except Ambiguous as error:
        raise Unreadable(DenyReason.BODY_UNREADABLE, str(error)) from None
    if not is_readable:  # JSON without a content type, which some backends take for something else
        raise Unreadable(DenyReason.BODY_NOT_JSON)
    return _single(texts)


def _single(values: list[str]) -> list[str]:
    # Of a repeated parameter one backend reads the first and another the last value.
    if len(values) > 1:
        raise Unreadable(DenyReason.ACCOUNT_REPEATED)
    return [value for value in values if value]  # as in proto3 JSON, "" is not set
