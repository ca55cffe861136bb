"""Rules: the check decides, whatever fails: settings of ext_authz, and of the filters around it.

Which requests are checked at all is `bypass.py`; what authz sees of them is `headers.py`.
"""

import re
from collections.abc import Iterator

from authz.core.envoy_rules.finding import Finding, Rule, Severity
from authz.core.envoy_rules.guarded import Guarded, cluster_of
from authz.core.envoy_rules.matching import any_matches, string_matches
from authz.core.envoy_rules.model import Filter, filter_of
from authz.core.envoy_rules.node import Node, Path
from authz.core.envoy_rules.visible import advice

FAILS_OPEN = Rule(
    "EA111",
    Severity.ERROR,
    "no answer is no permission",
    "With `failure_mode_allow`, a request passes while authz is unavailable, too slow or overloaded.",
    "failure_mode_allow: false",
)
ERROR_STATUS = Rule(
    "EA112",
    Severity.WARNING,
    "a failed check has a status of the server",
    "By default the client gets 403 while authz is unavailable, which it takes for a refusal.",
    "status_on_error: {code: ServiceUnavailable}",
)
PARTIAL = Rule(
    "EA113",
    Severity.ERROR,
    "each request is checked, and each refusal is final",
    "`filter_enabled`, `filter_enabled_metadata` and `shadow_mode` let requests pass without a decision.",
    "Remove `filter_enabled`, `filter_enabled_metadata` and `shadow_mode`; use `shadow: true` in the policy.",
)
NOT_GRPC = Rule(
    "EA114",
    Severity.ERROR,
    "Envoy asks authz by gRPC, version 3",
    "authz serves envoy.service.auth.v3.Authorization only. Other services get no decision.",
    "transport_api_version: V3\ngrpc_service: {envoy_grpc: {cluster_name: authz}, timeout: 0.2s}",
)
MUTATIONS = Rule(
    "EA115",
    Severity.ERROR,
    "mutations are validated",
    "A header value with a line break would split the response.",
    "validate_mutations: true",
)
MUTATION_RULES = Rule(
    "EA116",
    Severity.NOTE,
    "authz may set identity headers and remove the key, and nothing else",
    "Without rules, a compromised sidecar could change the path or the host of a request.",
    "decoder_header_mutation_rules: {disallow_all: true, allow_expression: {regex: KEYS}, disallow_is_error: true}",
)
ROUTE_CACHE = Rule(
    "EA117",
    Severity.ERROR,
    "the route is not selected again after the check",
    "The request could then match another route than the one that was checked, for instance one with other settings.",
    "Remove `clear_route_cache`, and put filters that select a route before ext_authz.",
)
ANSWERS_BEFORE = Rule(
    "EA118",
    Severity.ERROR,
    "no cache answers before the check",
    "A cache before ext_authz gives one caller's response to everybody.",
    "Put the cache behind ext_authz, and vary it by the account.",
)
CHANGES_AFTER = Rule(
    "EA119",
    Severity.WARNING,
    "no program changes the request after the check",
    "A filter behind ext_authz can change the path, the method or the identity headers that were decided on.",
    "Put the filter before ext_authz.",
)
HIDDEN_FILTER = Rule(
    "EA121",
    Severity.WARNING,
    "the settings of ext_authz are known",
    "They come by discovery, and the input does not contain them: nothing about the check itself was verified.",
    "authz envoy check http://127.0.0.1:9901/config_dump?include_eds",
)
TWICE = Rule(
    "EA122",
    Severity.WARNING,
    "one filter asks authz",
    "Each check takes tokens, so two filters charge a request twice. Without the key, which the first one removes, the "
    "second refuses.",
    "Remove the other ext_authz filter.",
)
OLD_API = Rule(
    "EA124",
    Severity.ERROR,
    "the configuration has version 3 of Envoy's API",
    "Envoy does not accept version 2 any more.",
    'typed_config: {"@type": type.googleapis.com/envoy.extensions.….v3.…}',
)
RULES: tuple[Rule, ...] = (
    FAILS_OPEN,
    ERROR_STATUS,
    PARTIAL,
    NOT_GRPC,
    MUTATIONS,
    MUTATION_RULES,
    ROUTE_CACHE,
    ANSWERS_BEFORE,
    CHANGES_AFTER,
    HIDDEN_FILTER,
    TWICE,
    OLD_API,
)

_STATUSES = {"ServiceUnavailable": 503, "BadGateway": 502, "GatewayTimeout": 504, "InternalServerError": 500}
_PROGRAMS = {"lua", "wasm", "golang", "ext_proc", "dynamic_modules"}
_TRANSCODERS = {"grpc_json_transcoder", "proto_message_extraction", "connect_grpc_bridge"}
_CACHES = {"cache", "cache_v2"}
_CLEARS = re.compile(r"clearRouteCache")


def filters(guarded: Guarded) -> Iterator[Finding]:
    """Find ext_authz filters that are of an old version, that nobody can see, or that ask authz twice."""
    for name in (guarded.manager.type_name, guarded.authz.type_name):
        if ".v2." in name or name.startswith("envoy.config.filter."):
            yield OLD_API.at(guarded.authz.entry, f"{name} is not of version 3")
    if guarded.authz.is_hidden:
        yield HIDDEN_FILTER.at(guarded.authz.entry, f"the settings of {guarded.authz.name} are not visible")
        return
    asked = cluster_of(guarded.authz)
    for each in guarded.manager.filters:
        if each is not guarded.authz and each.short == "ext_authz" and asked and cluster_of(each) == asked:
            yield TWICE.at(each.entry, f"{each.name} asks {asked} again")


def failures(guarded: Guarded) -> Iterator[Finding]:
    """Find settings by which a request passes without a decision."""
    config = guarded.authz.config
    for name in ("failure_mode_allow", "failure_mode_allow_header_add"):
        if config[name].is_on:
            yield FAILS_OPEN.at(config[name], f"{name} is true")
    status = config.at("status_on_error", "code")
    code = _STATUSES.get(status.text, status.number)
    if code is None or not 500 <= code <= 599:  # noqa: PLR2004 -- HTTP's statuses of a server
        severity = Severity.ERROR if (code is not None and code < 400) or status.text == "OK" else None  # noqa: PLR2004
        yield ERROR_STATUS.at(status or config, f"status_on_error is {status.value or '403'}", severity)
    if config["shadow_mode"].is_on:
        yield PARTIAL.at(config["shadow_mode"], "shadow_mode is true")
    enabled = config["filter_enabled"]
    if enabled and not _is_whole(enabled["default_value"]):
        yield PARTIAL.at(enabled, "filter_enabled is less than 100 %")
    if config["filter_enabled_metadata"] and not _is_mesh_wide(guarded):
        yield PARTIAL.at(config["filter_enabled_metadata"], "filter_enabled_metadata selects the requests")


def protocol(guarded: Guarded) -> Iterator[Finding]:
    """Find checks that authz cannot answer, and mutations without limits."""
    config = guarded.authz.config
    if not config["grpc_service"]:
        yield NOT_GRPC.at(config, "there is no grpc_service")
    elif config["transport_api_version"].text != "V3":
        yield NOT_GRPC.at(config["transport_api_version"], "transport_api_version is not V3")
    if not config["validate_mutations"].is_on:
        yield MUTATIONS.at(config["validate_mutations"], "validate_mutations is not set")
    yield from _mutation_rules(guarded)


def order(guarded: Guarded) -> Iterator[Finding]:
    """Find filters that answer before the check or change the request after it."""
    if guarded.authz.config["clear_route_cache"].is_on:
        yield ROUTE_CACHE.at(guarded.authz.config["clear_route_cache"], "ext_authz clears the route cache")
    for each in guarded.before:
        if each.short in _CACHES:
            yield ANSWERS_BEFORE.at(each.entry, f"{each.name} stands before ext_authz")
        for mutation in _mutations(guarded, each):
            if (name := _set_by(mutation)).startswith("x-authz-"):
                yield CHANGES_AFTER.at(mutation, f"{each.name} sets {name}, which only authz may set")
    for each in guarded.after:
        if reason := _reselects(each):
            yield ROUTE_CACHE.at(each.entry, f"{each.name}, behind ext_authz, {reason}")
        else:
            yield from _changes(guarded, each)
    for each in _upstream(guarded):
        yield from _changes(guarded, each)


def _changes(guarded: Guarded, each: Filter) -> Iterator[Finding]:
    """Find changes of a request by a filter behind ext_authz."""
    if each.short in _PROGRAMS:
        yield CHANGES_AFTER.at(each.entry, f"{each.name} stands behind ext_authz")
    elif each.short == "header_mutation":
        yield from _identity_changes(guarded, each)


def _upstream(guarded: Guarded) -> Iterator[Filter]:
    """Iterate over the filters of the router and of the clusters to which checked requests go."""
    for each in guarded.after:
        if each.short == "router":
            yield from map(filter_of, each.config["upstream_http_filters"])
    for name in sorted(guarded.clusters):
        for _, options in guarded.configuration.clusters.get(name, Node())["typed_extension_protocol_options"].fields():
            yield from map(filter_of, options.message["http_filters"])


def _reselects(each: Filter) -> str:
    """Tell how a filter makes Envoy select the route again; "" if it does not."""
    config = each.config
    if each.short == "lua":
        sources = [node.text for node in config.walk() if node.path[-1:] in {("inline_string",), ("inline_code",)}]
        return "calls clearRouteCache" if any(map(_CLEARS.search, sources)) else ""
    if each.short in _TRANSCODERS and not config["match_incoming_request_route"].is_on:
        return "changes the path and selects the route again"
    if config["clear_route_cache"].is_on or config["route_cache_action"].text == "CLEAR":
        return "clears the route cache"
    return ""


def _mutations(guarded: Guarded, each: Filter) -> Iterator[Node]:
    """Iterate over what a header_mutation filter does to requests, on all routes and on single ones."""
    if each.short != "header_mutation":
        return
    yield from each.config.at("mutations", "request_mutations")
    seen = set[Path]()
    for entry in guarded.manager.entries():
        settings = entry.per_filter(each.name)
        if settings and settings.path not in seen:
            seen.add(settings.path)
            own = settings["config"] if settings.kind == "FilterConfig" else settings
            yield from own.message.at("mutations", "request_mutations")


def _set_by(mutation: Node) -> str:
    return mutation.at("append", "header", "key").text.lower()


def _identity_changes(guarded: Guarded, each: Filter) -> Iterator[Finding]:
    for mutation in _mutations(guarded, each):
        name = _set_by(mutation)
        removed = mutation["remove"].text.lower()
        matcher = mutation.at("remove_on_match", "key_matcher")
        if name.startswith(("x-authz-", ":")) or removed.startswith("x-authz-"):
            yield CHANGES_AFTER.at(mutation, f"{each.name} changes {name or removed} behind ext_authz", Severity.ERROR)
        elif matcher and string_matches(matcher, "x-authz-key-id"):
            yield CHANGES_AFTER.at(mutation, f"{each.name} removes the headers that authz has set", Severity.ERROR)


def _mutation_rules(guarded: Guarded) -> Iterator[Finding]:
    rules = guarded.authz.config["decoder_header_mutation_rules"]
    keys = "|".join(guarded.needs.key_headers)
    fix = MUTATION_RULES.fix.replace("KEYS", f'"x-authz-[a-z0-9-]*|{keys}"')
    if not rules["disallow_all"].is_on:
        what = "decoder_header_mutation_rules do not disallow all other headers"
        yield MUTATION_RULES.at(rules, what, advice(guarded), fix)
        return
    needed = ("x-authz-key-id", *guarded.needs.key_headers)
    allowed = Node([{"safe_regex": {"regex": rules.at("allow_expression", "regex").text}}], rules.path)
    for name in needed:
        if not any_matches(allowed, name):
            what = f"decoder_header_mutation_rules do not allow {name}, so authz cannot set or remove it"
            yield MUTATION_RULES.at(rules, what, Severity.ERROR, fix)


def _is_whole(fraction: Node) -> bool:
    scale = {"TEN_THOUSAND": 10_000, "MILLION": 1_000_000}.get(fraction["denominator"].text, 100)
    return (fraction["numerator"].number or 0) >= scale


def _is_mesh_wide(guarded: Guarded) -> bool:
    """Tell whether a shadow rule before the filter selects every request, as Istio writes for `rules: [{}]`."""
    for each in guarded.before:
        for _, policy in each.config.at("shadow_rules", "policies").fields():
            if any(map(_is_any, policy["permissions"])) and any(map(_is_any, policy["principals"])):
                return True
    return False


def _is_any(condition: Node, depth: int = 8) -> bool:
    if condition["any"].is_on:
        return True
    if depth == 0:
        return False
    for name, quantifier in (("and_rules", all), ("and_ids", all), ("or_rules", any), ("or_ids", any)):
        children = [*condition.at(name, "rules"), *condition.at(name, "ids")]
        if children and quantifier(_is_any(child, depth - 1) for child in children):
            return True
    return False
