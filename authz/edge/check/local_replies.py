"""Envoy's `local_reply_config` for a policy: the responses that Envoy itself writes, in the format of the API.

Envoy writes them where authz does not decide: a malformed request, no route, no sidecar, no backend. The refusals of
authz are local replies as well, and are excluded by their metadata. gRPC callers keep Envoy's mapping of statuses.
"""

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from authz.core.error_body import error_body
from authz.core.errors import GrpcCode
from authz.core.policy.policy import Policy
from authz.core.policy.route import ErrorFormat
from authz.core.policy.template import ANY_DEPTH, ONE, Template

_JSON, _TEXT = "application/json", "text/plain; charset=utf-8"
_INTERNAL = int(HTTPStatus.INTERNAL_SERVER_ERROR)


@dataclass(frozen=True, slots=True)
class _Reply:
    """A status of Envoy, 0 for any other, and what the client gets."""

    http: int
    code: GrpcCode
    line: str
    retry_after_s: int = 0


_REPLIES = (
    _Reply(400, GrpcCode.INVALID_ARGUMENT, "bad request"),
    _Reply(403, GrpcCode.PERMISSION_DENIED, "forbidden"),
    _Reply(404, GrpcCode.NOT_FOUND, "not found"),
    _Reply(408, GrpcCode.DEADLINE_EXCEEDED, "request timeout"),
    _Reply(413, GrpcCode.INVALID_ARGUMENT, "request body too large"),
    _Reply(426, GrpcCode.INVALID_ARGUMENT, "http version not supported"),
    _Reply(429, GrpcCode.RESOURCE_EXHAUSTED, "rate limit exceeded", 1),
    _Reply(431, GrpcCode.INVALID_ARGUMENT, "request headers too large"),
    _Reply(_INTERNAL, GrpcCode.INTERNAL, "internal error"),
    _Reply(502, GrpcCode.UNAVAILABLE, "unavailable", 1),
    _Reply(503, GrpcCode.UNAVAILABLE, "unavailable", 1),
    _Reply(504, GrpcCode.DEADLINE_EXCEEDED, "timeout"),
    _Reply(0, GrpcCode.INTERNAL, "error"),
)

# True if authz allowed the request or has not decided. Its refusals keep their bodies. It never refuses with 500: that
# is an invalid response to a check.
_NOT_REFUSED: dict[str, Any] = {
    "metadata_filter": {
        "matcher": {
            "filter": "envoy.filters.http.ext_authz",
            "path": [{"key": "decision"}],
            "value": {"string_match": {"exact": "allow"}},
        },
        "match_if_key_not_found": True,
    }
}
_NOT_GRPC: dict[str, Any] = {
    "header_filter": {
        "header": {
            "name": "content-type",
            "string_match": {"safe_regex": {"regex": "application/grpc([+].*)?"}},
            "invert_match": True,
            "treat_missing_header_as_empty": True,
        }
    }
}


def local_reply_config(policy: Policy) -> str:
    """Return the configuration as YAML: a mapper for each status, first those of routes whose errors are text."""
    anchors = _Anchors()
    paths = sorted({_pattern(route.template) for route in policy.routes if route.errors is ErrorFormat.TEXT})
    lines = ["local_reply_config:", "  mappers:"]
    if paths:
        match = {"safe_regex": {"regex": f"({'|'.join(paths)})([?].*)?"}}
        is_text = anchors("authz-text", {"header_filter": {"header": {"name": ":path", "string_match": match}}})
        for reply in _REPLIES:
            lines += _mapper(reply, f"{reply.line}\n", _TEXT, anchors, is_text)
            is_text = anchors("authz-text", {})
    for reply in _REPLIES:
        body = json.dumps(error_body(policy.domain, reply.code, reply.line, reply.line), separators=(",", ":"))
        lines += _mapper(reply, body, _JSON, anchors)
    return "\n".join(lines) + "\n"


class _Anchors:
    """Writes a value with an anchor, and from the second time on as an alias of it."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def __call__(self, name: str, value: object) -> str:
        if name in self._names:
            return f"*{name}"
        self._names.add(name)
        return f"&{name} {json.dumps(value)}"


def _mapper(reply: _Reply, body: str, content_type: str, anchors: _Anchors, *filters: str) -> list[str]:
    conditions = [anchors("authz-not-grpc", _NOT_GRPC), *filters]
    if reply.http != _INTERNAL:
        conditions.append(anchors("authz-not-refused", _NOT_REFUSED))
    if reply.http:
        value = {"default_value": reply.http, "runtime_key": f"authz.local_reply.{reply.http}"}
        conditions.append(json.dumps({"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}))
    headers = [anchors("authz-no-store", _header("cache-control", "no-store"))]
    if reply.retry_after_s:
        headers.append(anchors("authz-retry", _header("retry-after", str(reply.retry_after_s))))
    # A percent sign starts an operator of Envoy's format.
    text = {"text_format_source": {"inline_string": body.replace("%", "%%")}, "content_type": content_type}
    return [
        # The blank before a comma ends the name of an alias in every YAML parser.
        f"  - filter: {{and_filter: {{filters: [{' , '.join(conditions)}]}}}}",
        f"    headers_to_add: [{' , '.join(headers)}]",
        f"    body_format_override: {json.dumps(text)}",
    ]


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _pattern(template: str) -> str:
    """Return a regular expression that matches the paths of a template."""
    parsed = Template.parse(template)
    parts = {ONE: "[^/?]+", ANY_DEPTH: "[^?]*"}
    path = "".join(f"/{parts.get(part) or re.escape(part)}" for part in parsed.parts)
    return path + (f":{re.escape(parsed.verb)}" if parsed.verb else "")
