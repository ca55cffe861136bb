"""Envoy's `local_reply_config` for a policy: the responses that Envoy itself writes, in the format of the API.

Envoy writes them where authz does not decide: a malformed request, no route, no sidecar, no backend. The refusals of
authz are local replies as well, and are excluded by their metadata. gRPC callers keep Envoy's mapping of statuses.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from authz.core.bodies.template import REQUEST_ID, RETRY_AFTER_S, ErrorTemplate, values_of
from authz.core.envoy_rules.needs import paths_regex
from authz.core.error_body import error_body, problem_body
from authz.core.errors import Denial, GrpcCode
from authz.core.hosts.names import host_regex
from authz.core.policy.policy import Policy
from authz.core.policy.route import ErrorFormat
from authz.core.policy.template import Template

_ID, _ID_OPERATOR = "request-id-of-envoy", "%REQ(X-REQUEST-ID)%"
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
    """Return the configuration as YAML: a mapper for each status, those of routes with a format of their own first."""
    anchors = _Anchors()
    lines = ["local_reply_config:", "  mappers:"]
    for form in ErrorFormat:
        if form is policy.errors:
            continue
        for number, filters in enumerate(_filters(policy, form)):
            name = f"authz-{form}-{number}" if number else f"authz-{form}"
            for reply in _REPLIES:
                lines += _mapper(reply, _format(policy, reply, form), anchors, anchors(name, filters))
    for reply in _REPLIES:
        lines += _mapper(reply, _format(policy, reply, policy.errors), anchors)
    return "\n".join(lines) + "\n"


def _filters(policy: Policy, form: ErrorFormat) -> Iterator[dict[str, Any]]:
    """Yield the filters of requests to rows with a format; rows of the same hosts have one."""
    paths: dict[tuple[str, ...], set[str]] = {}
    for route in policy.routes:
        if route.errors is form:
            # What Envoy's context extensions say of the host, no filter of a local reply can see.
            hosts = () if policy.host_extension else route.hosts
            paths.setdefault(hosts, set()).add(paths_regex(Template.parse(route.template), policy))
    for hosts, regexes in sorted(paths.items()):
        on_path = _header_regex(":path", f"({'|'.join(sorted(regexes))})([?].*)?")
        patterns = [host_regex(host) for host in hosts]
        if patterns:
            at_host = _header_regex(":authority", f"(?i)({'|'.join(patterns)})[.]?(:[0-9]*)?")
            yield {"and_filter": {"filters": [on_path, at_host]}}
        else:
            yield on_path


def _header_regex(name: str, regex: str) -> dict[str, Any]:
    return {"header_filter": {"header": {"name": name, "string_match": {"safe_regex": {"regex": regex}}}}}


def _format(policy: Policy, reply: _Reply, form: ErrorFormat) -> dict[str, Any]:
    """Return the format of a reply. A percent sign starts an operator of Envoy's formats."""
    if form is ErrorFormat.TEMPLATE and policy.error_template is not None:
        return _of_template(policy.error_template, policy.domain, reply)
    body, content_type = _body(policy.domain, reply, form)
    return _text(body.replace("%", "%%"), content_type)


def _text(text: str, content_type: str) -> dict[str, Any]:
    return {"text_format_source": {"inline_string": text}, "content_type": content_type}


def _of_template(template: ErrorTemplate, domain: str, reply: _Reply) -> dict[str, Any]:
    """Return the format of a reply by a template.

    Envoy escapes a request id in its JSON formats only, so it is left out of other ones except plain text.
    """
    denial = Denial(reply.code, reply.http, reply.line, reply.line)
    values = {**values_of(template, domain, denial, reply.line, {}), RETRY_AFTER_S: reply.retry_after_s or None}
    if REQUEST_ID in template.names and not template.is_markup:
        body = template.render({**values, REQUEST_ID: _ID})
        if not template.is_json:
            return _text(body.replace("%", "%%").replace(_ID, _ID_OPERATOR), template.content_type)
        content = json.loads(body)
        if isinstance(content, dict) and _is_expressible(content):
            return {"json_format": _operators(content), "content_type": template.content_type}
    return _text(template.render({**values, REQUEST_ID: ""}).replace("%", "%%"), template.content_type)


def _is_expressible(content: object) -> bool:
    """Tell whether Envoy's JSON formats can have a value; names have no operators there."""
    if isinstance(content, dict):
        return all(_ID not in name and _is_expressible(value) for name, value in content.items())
    if isinstance(content, list):
        return all(map(_is_expressible, content))
    return isinstance(content, str | int) and not isinstance(content, bool)


def _operators(content: Any) -> Any:  # noqa: ANN401 -- JSON
    if isinstance(content, dict):
        return {name: _operators(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_operators(value) for value in content]
    return content.replace("%", "%%").replace(_ID, _ID_OPERATOR) if isinstance(content, str) else content


def _body(domain: str, reply: _Reply, form: ErrorFormat) -> tuple[str, str]:
    """Return the body of a reply and its content type."""
    if form is ErrorFormat.TEXT:
        return f"{reply.line}\n", "text/plain; charset=utf-8"
    if form is ErrorFormat.PROBLEM:
        problem = problem_body(domain, Denial(reply.code, reply.http, reply.line, reply.line), reply.line, {})
        if not reply.http:
            del problem["status"]
        return json.dumps(problem, separators=(",", ":")), "application/problem+json"
    body = error_body(domain, reply.code, reply.line, reply.line)
    return json.dumps(body, separators=(",", ":")), "application/json"


class _Anchors:
    """Writes a value with an anchor, and from the second time on as an alias of it."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def __call__(self, name: str, value: object) -> str:
        if name in self._names:
            return f"*{name}"
        self._names.add(name)
        return f"&{name} {json.dumps(value)}"


def _mapper(reply: _Reply, body_format: dict[str, Any], anchors: _Anchors, *filters: str) -> list[str]:
    conditions = [anchors("authz-not-grpc", _NOT_GRPC), *filters]
    if reply.http != _INTERNAL:
        conditions.append(anchors("authz-not-refused", _NOT_REFUSED))
    if reply.http:
        value = {"default_value": reply.http, "runtime_key": f"authz.local_reply.{reply.http}"}
        conditions.append(json.dumps({"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}))
    headers = [anchors("authz-no-store", _header("cache-control", "no-store"))]
    if reply.retry_after_s:
        headers.append(anchors("authz-retry", _header("retry-after", str(reply.retry_after_s))))
    return [
        # The blank before a comma ends the name of an alias in every YAML parser.
        f"  - filter: {{and_filter: {{filters: [{' , '.join(conditions)}]}}}}",
        f"    headers_to_add: [{' , '.join(headers)}]",
        f"    body_format_override: {json.dumps(body_format)}",
    ]


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
