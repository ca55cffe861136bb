"""Writes Envoy's configuration for one's own API: the shipped `envoy.yaml` with the policy's header, rows and backend.

The shipped file stays the only place that says what is secure; this module replaces the parts that depend on a policy
and takes out the portal. Every part is found by its text, and one that is missing is an error.
"""

import json
import re
from dataclasses import dataclass
from ipaddress import ip_address
from textwrap import indent
from urllib.parse import urlsplit

from authz.core.policy.policy import Policy
from authz.core.policy.route import BindingLocation, Route
from authz.core.policy.router import ANY_METHOD
from authz.core.policy.template import ANY_DEPTH, ONE, Template, is_grpc
from authz.edge.check.local_replies import local_reply_config

_SHIPPED_HEADER = "x-api-key"
_INDENT = 10
_HEAD = """\
# Envoy in front of {name}, with authz deciding about every request. Written by `authz init` for the policy beside it.
#
# A listener on :8000, authz on 127.0.0.1:9001, the backend on {backend}. After a change of keys.header, of account
# bindings to bodies, of stream classes or of error formats in the policy, write it again. What is marked SECURITY
# carries weight: without it a request can pass that the policy refuses.
"""
_ROUTE = """\
              - name: {name}
                match:
                  {match}
"""
_METHOD = """\
                  headers: [{{name: ":method", string_match: {{exact: {method}}}}}]
"""
_STREAM = """\
                route:
                  cluster: {cluster}
                  timeout: 0s          # a stream ends when it ends
                  idle_timeout: 60s    # four times the backend's ping
"""
_BODY = """\
                route: {{cluster: {cluster}, timeout: 30s}}
                typed_per_filter_config:
                  envoy.filters.http.ext_authz:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                    check_settings:
                      # SECURITY: the policy binds this route to the account that its body names.
                      with_request_body: {{max_request_bytes: 65536, allow_partial_message: false, pack_as_bytes: true}}
"""


@dataclass(frozen=True, slots=True)
class Backend:
    """The address of one's own API."""

    host: str
    port: int
    is_tls: bool = False

    def __str__(self) -> str:
        """Return host:port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parsed_backend(text: str) -> Backend:
    """Read `http://host:port`, or `host:port`; raises `ValueError` for anything else."""
    parts = urlsplit(text if "//" in text else f"//{text}", scheme="http")
    host = parts.hostname or ""
    known = (
        text.isprintable()
        and parts.scheme in {"http", "https"}
        and not (parts.username or parts.query or parts.fragment)
    )
    if not known or parts.path not in {"", "/"} or not re.fullmatch(r"[0-9A-Za-z.:_-]+", host):
        raise ValueError(f"{text!r} is not an address such as http://127.0.0.1:3000, without a path")
    is_tls = parts.scheme == "https"
    return Backend(host, parts.port or (443 if is_tls else 80), is_tls)


def envoy_text(shipped: str, policy: Policy, backend: Backend) -> str:
    """Return the configuration as text, with its comments; raises `ValueError` if the shipped file is another one."""
    text = _HEAD.format(name=policy.api, backend=backend) + shipped[_find(shipped, "node: {id: edge") :]
    text = _with_replies(text, policy)
    text = _with_header(text, policy.keys.header)
    start, end = _find(text, "              routes:\n"), _find(text, "  clusters:\n")
    text = f"{text[:start]}              routes:\n{_routes(policy)}\n{text[end:]}"
    return _with_backend(_without_portal(text), backend)


def _find(text: str, part: str, start: int = 0) -> int:
    position = text.find(part, start)
    if position < 0:
        raise ValueError(f"the shipped envoy.yaml has no {part.strip()!r}")
    return position


def _with_replies(text: str, policy: Policy) -> str:
    start, end = _find(text, "          local_reply_config:\n"), _find(text, "          http_filters:\n")
    replies = indent(local_reply_config(policy), " " * _INDENT)
    return f"{text[:start]}{replies}\n{text[end:]}"


def _with_header(text: str, header: str) -> str:
    """Replace the header of keys, and the pattern of its other spellings."""
    start = _find(text, '              - remove_on_match: {key_matcher: {safe_regex: {regex: "x[^a-z0-9-]api')
    end = text.index("\n", start) + 1
    words = header.split("-")
    spellings = []
    for joint in range(1, len(words)):
        # One joint is no hyphen; the others are anything.
        joined = [
            f"{'[^a-z0-9-]' if number == joint else '[^a-z0-9]'}{word}" for number, word in enumerate(words) if number
        ]
        spellings.append(words[0] + "".join(joined))
    line = f'              - remove_on_match: {{key_matcher: {{safe_regex: {{regex: "{"|".join(spellings)}"}}}}}}\n'
    text = f"{text[:start]}{line if spellings else ''}{text[end:]}"
    return text.replace(_SHIPPED_HEADER, header)


def _routes(policy: Policy) -> str:
    """Return the routes: streams and bodies that the policy binds, gRPC, and everything else."""
    found = ["              # Which of these need a key is the policy's business: authz decides on all of them.\n"]
    for number, route in enumerate(_special(policy), 1):
        found.append(_ROUTE.format(name=f"row-{number}", match=_match(route.template)))
        if route.method != ANY_METHOD:
            found.append(_METHOD.format(method=route.method))
        cluster = "backend-grpc" if is_grpc(route.template) else "backend"
        if route.stream:
            found.append(_STREAM.format(cluster=cluster))
        binds_body = any(it.location is BindingLocation.BODY for it in route.accounts)
        if binds_body:
            found.append((_BODY if not route.stream else _BODY.partition("\n")[2]).format(cluster=cluster))
    found.append(
        '              - name: grpc\n                match: {prefix: "/", grpc: {}}\n'
        "                route: {cluster: backend-grpc, timeout: 30s}\n"
        '              - name: everything-else\n                match: {prefix: "/"}\n'
        "                route: {cluster: backend, timeout: 30s}\n"
    )
    return "".join(found)


def _special(policy: Policy) -> list[Route]:
    """Return the rows that Envoy has to treat in another way, the most specific first."""
    rows = [it for it in policy.routes if it.stream or any(a.location is BindingLocation.BODY for a in it.accounts)]
    return sorted(rows, key=lambda it: [(part in {ONE, ANY_DEPTH}, part) for part in Template.parse(it.template).parts])


def _match(template: str) -> str:
    if is_grpc(template):
        return f"path: {json.dumps(template)}"
    return f"safe_regex: {{regex: {json.dumps(Template.parse(template).regex)}}}"


def _without_portal(text: str) -> str:
    """Take out the portal's cluster; what it shares with the backend moves there."""
    start, shared = _find(text, "  - name: portal\n"), _find(text, "    # Whoever answers must not be")
    end = _find(text, "  # The same sidecars, under")
    options = text[shared:end]
    text = text[:start] + text[end:]
    text = text.replace("    typed_extension_protocol_options: *quiet-connections\n", options, 1)
    return text.replace("&quiet-connections", "").replace("; the portal after 60", "")


def _with_backend(text: str, backend: Backend) -> str:
    for name in ("backend", "backend-grpc"):
        start = _find(text, f"  - name: {name}\n")
        tail = text[start:].replace("    type: STATIC\n", f"    type: {_discovery(backend.host)}\n", 1)
        tail = tail.replace(
            "{address: 127.0.0.1, port_value: 8081}",
            f"{{address: {json.dumps(backend.host)}, port_value: {backend.port}}}",
            1,
        )
        if backend.is_tls:
            tail = tail.replace(
                f"  - name: {name}\n", f"  - name: {name}\n{_tls(backend.host, http2=name != 'backend')}", 1
            )
        text = text[:start] + tail
    return text


def _discovery(host: str) -> str:
    try:
        ip_address(host)
    except ValueError:
        return "STRICT_DNS"
    return "STATIC"


def _tls(host: str, *, http2: bool) -> str:
    protocol = "h2" if http2 else "http/1.1"
    return (
        "    transport_socket:\n"
        "      name: envoy.transport_sockets.tls\n"
        "      typed_config:\n"
        '        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n'
        f"        sni: {json.dumps(host)}\n"
        "        # SECURITY: the certificate must be of the system's authorities, and for this host.\n"
        f"        common_tls_context: {{alpn_protocols: [{protocol}], validation_context: "
        "{trusted_ca: {filename: /etc/ssl/certs/ca-certificates.crt}, "
        f"match_typed_subject_alt_names: [{{san_type: {'IP_ADDRESS' if _discovery(host) == 'STATIC' else 'DNS'}, "
        f"matcher: {{exact: {json.dumps(host)}}}}}]}}}}\n"
    )
