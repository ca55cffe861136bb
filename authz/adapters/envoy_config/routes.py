"""Puts the settings of a policy on routes: header lists, bodies of the rows that bind them, timeouts of streams.

A row gets a copy of the route that its requests take now, narrowed to the row. So everything else of that route stays.
"""

import copy
from typing import Any

from authz.adapters.envoy_config import blocks
from authz.adapters.envoy_config.fields import put, put_missing, spelled
from authz.core.envoy_rules.bodies import body_of, entries_of
from authz.core.envoy_rules.guarded import Guarded
from authz.core.envoy_rules.model import Entry
from authz.core.envoy_rules.needs import Row

_STREAM = {"timeout": "0s", "idle_timeout": "60s"}
_STREAM_MAX = {"max_stream_duration": "1860s"}


def apply(guarded: Guarded, name: str) -> None:
    """Put the settings on the routes of a connection manager whose ext_authz filter has this name."""
    for row in guarded.needs.bodies:
        for entry in list(entries_of(guarded, row)):
            if not _is_own(guarded, entry):
                _insert(entry, _with_body(entry, row, name))
    for row in guarded.needs.streams:
        for entry in list(entries_of(guarded, row)):
            if spelled(spelled(entry.route.value, "route"), "timeout") != "0s":
                _insert(entry, _with_stream(entry, row))
    for table in guarded.manager.tables:
        for host in table["virtual_hosts"]:
            if isinstance(host.value, dict):
                _host(host.value, guarded, name)


def _host(host: Any, guarded: Guarded, name: str) -> None:  # noqa: ANN401 -- any YAML
    headers = put_missing(host, "request_headers_to_remove", [])
    known = {each.lower() for each in headers if isinstance(each, str)}
    headers.extend(each for each in blocks.removed_headers(guarded.needs) if each not in known)
    if guarded.needs.bodies:
        settings = put_missing(host, "typed_per_filter_config", {})
        if name not in settings:
            settings[name] = blocks.per_route(disable_request_body_buffering=True)


def _is_own(guarded: Guarded, entry: Entry) -> bool:
    """Tell whether a route has body settings of its own, and not those of all routes."""
    body = body_of(guarded, entry)
    return bool(body) and body.path[: len(entry.route.path)] == entry.route.path


def _with_body(entry: Entry, row: Row, name: str) -> Any:  # noqa: ANN401 -- any YAML
    route = _narrowed(entry, row, "body")
    settings = dict(spelled(route, "typed_per_filter_config") or {})
    settings[name] = blocks.per_route(with_request_body=dict(blocks.BODY))
    put(route, "typed_per_filter_config", settings)
    return route


def _with_stream(entry: Entry, row: Row) -> Any:  # noqa: ANN401 -- any YAML
    route = _narrowed(entry, row, "stream")
    action = spelled(route, "route")
    for field, value in _STREAM.items():
        put(action, field, value)
    put_missing(action, "max_stream_duration", dict(_STREAM_MAX))
    return route


def _narrowed(entry: Entry, row: Row, purpose: str) -> Any:  # noqa: ANN401 -- any YAML
    """Return a copy of a route that matches the requests of a row only."""
    route = copy.deepcopy(entry.route.value)
    name = spelled(route, "name")
    put(route, "name", f"{name or 'authz'}-{purpose}")
    match = put_missing(route, "match", {"prefix": "/"})
    put_missing(match, "headers", []).extend(blocks.row_headers(row))
    return route


def _insert(entry: Entry, route: Any) -> None:  # noqa: ANN401 -- any YAML
    """Put a route before another one in its virtual host."""
    listed = spelled(entry.host.value, "routes") or []
    index = next((index for index, each in enumerate(listed) if each is entry.route.value), None)
    if index is not None:
        listed.insert(index, route)
