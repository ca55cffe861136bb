"""Rules: identity headers, keys and addresses come from Envoy and authz, and not from a client.

Which headers authz sees is `visible.py`.
"""

import re
from collections.abc import Iterator

from authz.core.envoy_rules.finding import Finding, Rule, Severity
from authz.core.envoy_rules.guarded import Guarded
from authz.core.envoy_rules.matching import string_matches
from authz.core.envoy_rules.model import addresses_of
from authz.core.envoy_rules.node import Node
from authz.core.envoy_rules.visible import advice, is_hidden, is_removed_early, is_visible, underscores_refused

IDENTITY = Rule(
    "EA221",
    Severity.ERROR,
    "client-sent x-authz-* headers are removed",
    "Envoy does not send them to authz, which therefore cannot remove them: a client would choose its identity.",
    "early_header_mutation_extensions: … remove_on_match: {key_matcher: {prefix: x-authz-, ignore_case: true}}",
)
ALIASES = Rule(
    "EA222",
    Severity.ERROR,
    "other spellings of identity headers and keys are removed",
    "Some backends read x.authz.scopes or x-api.key as x-authz-scopes or x-api-key, and authz does not see them.",
    'early_header_mutation_extensions: … {safe_regex: {regex: "x[^a-z0-9]authz[^a-z0-9].*"}}',
)
UNDERSCORES = Rule(
    "EA223",
    Severity.ERROR,
    "headers with underscores are refused",
    "Backends that read CGI variables take x_authz_account_id for x-authz-account-id.",
    "common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}",
)
REMOTE_ADDRESS = Rule(
    "EA224",
    Severity.ERROR,
    "Envoy determines the client's address itself",
    "Otherwise a client chooses its address by X-Forwarded-For, and with it whose bucket of invalid keys it empties.",
    "use_remote_address: true, and the block of your load balancer in docs/envoy.md",
)
EXTERNAL_ADDRESS = Rule(
    "EA225",
    Severity.WARNING,
    "a client-sent x-envoy-external-address is removed",
    "authz takes the client's address from this header. Envoy overwrites it for public addresses only.",
    "early_header_mutation_extensions: … remove: x-envoy-external-address",
)
ENVOY_HEADERS = Rule(
    "EA226",
    Severity.WARNING,
    "client-sent x-envoy-* headers are removed",
    "They set timeouts and retries of the request. Envoy removes them only where it knows the client as external.",
    "early_header_mutation_extensions: … remove_on_match: {key_matcher: {prefix: x-envoy-, ignore_case: true}}",
)
HOPS = Rule(
    "EA227",
    Severity.WARNING,
    "behind a load balancer, authz gets the client's address",
    "authz would take the load balancer for the client that sends all invalid keys, and throttle everybody.",
    "allowed_headers: {patterns: [{exact: x-envoy-external-address}, …]}",
)
PROXY_PROTOCOL = Rule(
    "EA228",
    Severity.ERROR,
    "connections without PROXY protocol are closed",
    "Otherwise a client that connects itself can send the header, and with it any address.",
    "Remove `allow_requests_without_proxy_protocol`.",
)
TRAILERS = Rule(
    "EA229",
    Severity.ERROR,
    "request trailers are removed",
    "They arrive after the decision, and an HTTP/2 backend may merge them into the headers.",
    'http_filters: [{name: envoy.filters.http.header_mutation, … request_trailers_mutations: …}], regex: ".*"',
)
FORGED = Rule(
    "EA230",
    Severity.ERROR,
    "routes set no identity header, and overwrite those for the portal",
    "A route's header is added after the check. Appended to a client's own, the portal would read the client's.",
    "append_action: OVERWRITE_IF_EXISTS_OR_ADD",
)
REMOVED = Rule(
    "EA231",
    Severity.ERROR,
    "routes leave the headers of authz in place",
    "A route removes headers after the check, so it removes those that authz has set, and not a client's alone.",
    "Remove x-authz-* from `request_headers_to_remove`; use early_header_mutation_extensions.",
)
RULES: tuple[Rule, ...] = (
    IDENTITY,
    ALIASES,
    UNDERSCORES,
    REMOTE_ADDRESS,
    EXTERNAL_ADDRESS,
    ENVOY_HEADERS,
    HOPS,
    PROXY_PROTOCOL,
    TRAILERS,
    FORGED,
    REMOVED,
)

_PORTAL = {"x-authz-proxy": "%ENVIRONMENT(", "x-authz-client-address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}
_IDENTITY = ("x-authz-key-id", "x-authz-account-id", "x-authz-scopes", "x-authz-proxy", "x-authz-z9")
_ALIASES = ("x.authz.scopes", "x~authz~key-id", "x-authz.scopes")
_JOINT = re.compile("[-_]")
_EXTERNAL = "x-envoy-external-address"


def client_headers(guarded: Guarded) -> Iterator[Finding]:
    """Find client-sent headers that authz cannot remove because it does not see them."""
    early = guarded.config["early_header_mutation_extensions"]
    if hidden := [name for name in _IDENTITY if is_hidden(guarded, name)]:
        yield IDENTITY.at(early, f"a client's {hidden[0]} arrives at the backend")
    keys = guarded.needs.key_headers
    spellings = [_JOINT.sub(mark, key, count=1) for key in keys if _JOINT.search(key) for mark in ".~"]
    if hidden := [name for name in (*_ALIASES, *spellings) if is_hidden(guarded, name)]:
        yield ALIASES.at(early, f"a client's {hidden[0]} arrives at the backend")
    if not underscores_refused(guarded):
        is_seen = all(is_visible(guarded, name) for name in ("x_authz_scopes", "x_http_method"))
        is_needed = any("_" in key for key in guarded.needs.key_headers)
        severity = Severity.NOTE if is_seen or is_needed else None
        where = guarded.config.at("common_http_protocol_options", "headers_with_underscores_action")
        yield UNDERSCORES.at(where, "headers with underscores pass", severity)


def addresses(guarded: Guarded) -> Iterator[Finding]:
    """Find addresses and internal headers that a client may choose."""
    config = guarded.config
    trusts = not config["use_remote_address"].is_on
    detects = any(True for _ in config["original_ip_detection_extensions"])
    if trusts and not detects:
        severity = Severity.NOTE if guarded.is_inbound else None
        yield REMOTE_ADDRESS.at(config["use_remote_address"], "use_remote_address is not set", severity)
    is_set = any(_sets_external(each.config) for each in guarded.before)
    where = config["early_header_mutation_extensions"]
    if not is_removed_early(guarded, _EXTERNAL) and not is_set:
        is_used = trusts and is_visible(guarded, _EXTERNAL) and not guarded.is_inbound
        severity = Severity.ERROR if is_used else advice(guarded)
        yield EXTERNAL_ADDRESS.at(where, f"{_EXTERNAL} is not removed", severity)
    if not is_removed_early(guarded, "x-envoy-max-retries"):
        severity = None if trusts and not guarded.is_inbound else advice(guarded)
        yield ENVOY_HEADERS.at(where, "x-envoy-* is not removed", severity)
    hops = (config["xff_num_trusted_hops"].number or 0) > 0
    if (hops or detects) and not is_visible(guarded, _EXTERNAL):
        yield HOPS.at(guarded.authz.config["allowed_headers"], f"authz does not see {_EXTERNAL}")
    for each in guarded.manager.listener["listener_filters"]:
        if each["typed_config"].message["allow_requests_without_proxy_protocol"].is_on:
            yield PROXY_PROTOCOL.at(each["typed_config"], "allow_requests_without_proxy_protocol is true")


def trailers(guarded: Guarded) -> Iterator[Finding]:
    """Find request trailers that arrive at a backend."""
    for each in guarded.manager.filters:
        for mutation in each.config.at("mutations", "request_trailers_mutations"):
            matcher = mutation.at("remove_on_match", "key_matcher")
            if all(string_matches(matcher, name) for name in ("x-authz-scopes", *guarded.needs.key_headers)):
                return
    if names := sorted(name for name in guarded.clusters if _takes_trailers(guarded, name)):
        where = guarded.config["http_filters"]
        yield TRAILERS.at(where, f"request trailers arrive at the cluster {names[0]}")


def forged(guarded: Guarded) -> Iterator[Finding]:
    """Find headers that a route sets in the name of authz."""
    for node in _levels(guarded):
        for option in node["request_headers_to_add"]:
            name, action = option.at("header", "key").text.lower(), option["append_action"].text
            if not name.startswith("x-authz-"):
                continue
            if name not in _PORTAL:
                yield FORGED.at(option, f"a route sets {name}", fix="Remove the header: authz sets it.")
            elif action != "OVERWRITE_IF_EXISTS_OR_ADD" and not is_removed_early(guarded, name):
                yield FORGED.at(option, f"{name} is appended to what a client has sent")
            elif not option.at("header", "value").text.startswith(_PORTAL[name]):
                fix = f'value: "{_PORTAL[name]}{"NAME)%" if name == "x-authz-proxy" else ""}"'
                yield FORGED.at(option, f"{name} does not come from where the portal trusts it", fix=fix)
        for header in node["request_headers_to_remove"]:
            if header.text.lower().startswith("x-authz-"):
                yield REMOVED.at(header, f"a route removes {header.text}")
        added = {option.at("header", "key").text.lower() for option in node["request_headers_to_add"]}
        if len(added & set(_PORTAL)) == 1:
            missing = (set(_PORTAL) - added).pop()
            yield FORGED.at(
                node["request_headers_to_add"], f"{missing} is missing", fix=f"header: {{key: {missing}, …}}"
            )


def _levels(guarded: Guarded) -> list[Node]:
    found: dict[tuple[str | int, ...], Node] = {}
    for entry in guarded.manager.entries():
        found |= {node.path: node for node in (entry.table, entry.host, entry.route)}
    return list(found.values())


def _sets_external(config: Node) -> bool:
    """Tell whether a filter before ext_authz sets the address itself."""
    return any(_EXTERNAL in node.text for node in config.walk())


def _takes_trailers(guarded: Guarded, name: str) -> bool:
    """Tell whether a cluster is known to speak HTTP/2, which carries trailers."""
    cluster = guarded.configuration.clusters.get(name, Node())
    if not cluster:
        return False
    options = Node()
    for _, each in cluster["typed_extension_protocol_options"].fields():
        options = each if each.kind == "HttpProtocolOptions" else options
    forms = [options[form] for form in ("explicit_http_config", "use_downstream_protocol_config", "auto_config")]
    speaks = any(form["http2_protocol_options"] for form in forms) or bool(options["auto_config"])
    enabled = any(form.at("http_protocol_options", "enable_trailers").is_on for form in forms)
    return speaks or enabled or (bool(cluster["http2_protocol_options"]) and bool(addresses_of(cluster)))
