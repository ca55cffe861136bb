"""Rules: each request to the API is checked, on every listener, filter chain and route.

What the check itself must be like is `enforcement.py`.
"""

from collections.abc import Iterator

from authz.core.envoy_rules.finding import Finding, Rule, Severity
from authz.core.envoy_rules.guarded import Guarded, cluster_of, is_disabled
from authz.core.envoy_rules.model import (
    EXT_AUTHZ,
    Configuration,
    Entry,
    Filter,
    Manager,
    addresses_of,
    is_loopback,
)
from authz.core.envoy_rules.node import Node
from authz.core.envoy_rules.visible import is_removed_early

UNGUARDED = Rule(
    "EA101",
    Severity.ERROR,
    "each connection manager that forwards to the API has ext_authz",
    "Without the filter, every request on this listener or filter chain arrives at the backend without a check.",
    "http_filters: [{name: envoy.filters.http.ext_authz, …}, {name: envoy.filters.http.router, …}]",
)
ROUTE_SKIPS = Rule(
    "EA102",
    Severity.ERROR,
    "no route that forwards switches ext_authz off",
    "The policy decides which routes need no key. On a route without a check, client-sent x-authz-* headers and keys "
    "arrive at the backend, and another spelling of a path may match the route.",
    "Remove `disabled: true`, and give the path a row with `access: public` in the policy.",
)
NOT_SWITCHED_ON = Rule(
    "EA103",
    Severity.ERROR,
    "a filter that is disabled by default is enabled on each route",
    "With `http_filters[].disabled: true`, routes without per-route settings are not checked.",
    "Remove `disabled: true` of the filter, or add per-route settings to the route.",
)
UPGRADE_SKIPS = Rule(
    "EA104",
    Severity.ERROR,
    "filter chains of upgrades contain ext_authz",
    "An upgrade with `filters` of its own uses only those, so a WebSocket request is not checked.",
    "Remove `upgrade_configs[].filters`, or add ext_authz before the router there.",
)
TUNNEL = Rule(
    "EA105",
    Severity.ERROR,
    "no CONNECT request becomes a tunnel",
    "A CONNECT request has no path that the policy could decide on, and what the tunnel carries is not checked.",
    "Remove `connect_config` and the routes with `connect_matcher`.",
)
TCP_PROXY = Rule(
    "EA106",
    Severity.ERROR,
    "no TCP proxy forwards to a cluster that authz protects",
    "A TCP proxy does not know requests: its connections arrive at the same backend without a check.",
    "Remove the filter chain, or use a connection manager with ext_authz.",
)
HIDDEN_ROUTES = Rule(
    "EA107",
    Severity.NOTE,
    "the route tables and the listeners are known",
    "Routes that come by discovery can switch ext_authz off, listeners can lack it, and only a dump shows them.",
    "authz envoy check http://127.0.0.1:9901/config_dump",
)
LOCAL_ANSWER = Rule(
    "EA108",
    Severity.NOTE,
    "Envoy answers itself only where that is intended",
    "A redirect or direct response without a check tells strangers that the path exists. Nothing arrives at a backend.",
    "Remove `disabled: true`: ext_authz checks redirects and direct responses as well.",
)
MISNAMED = Rule(
    "EA109",
    Severity.ERROR,
    "per-route settings have the name of the filter",
    "Envoy ignores settings whose name is not that of a filter in the chain, without a message.",
    "typed_per_filter_config: {envoy.filters.http.ext_authz: …}, with the name in http_filters",
)
CONDITIONAL = Rule(
    "EA110",
    Severity.ERROR,
    "ext_authz runs without a condition",
    "A match tree around the filter can skip it for some requests.",
    "Use ext_authz itself in http_filters, without ExtensionWithMatcher.",
)
OTHER_SERVICE = Rule(
    "EA120",
    Severity.ERROR,
    "each route asks authz",
    "A route that names a service of its own is decided by that service, or by nobody.",
    "Remove `grpc_service` and `http_service` from `check_settings`.",
)
CHOSEN = Rule(
    "EA123",
    Severity.WARNING,
    "no header of a client names the cluster",
    "With `cluster_header`, a client that sends the header chooses where its request goes.",
    "Name the cluster in the route, or remove the header of clients in early_header_mutation_extensions.",
)
RULES: tuple[Rule, ...] = (
    UNGUARDED,
    ROUTE_SKIPS,
    NOT_SWITCHED_ON,
    UPGRADE_SKIPS,
    TUNNEL,
    TCP_PROXY,
    HIDDEN_ROUTES,
    LOCAL_ANSWER,
    MISNAMED,
    CONDITIONAL,
    OTHER_SERVICE,
    CHOSEN,
)

_PROBES = ("/healthz", "/health", "/ready", "/livez", "/stats", "/metrics", "/quitquitquit", "/app-health")


def unguarded(configuration: Configuration, managers: list[Manager], guarded: list[Guarded]) -> Iterator[Finding]:
    """Find connection managers and TCP proxies that forward without a check."""
    protected = _same_servers(configuration, {name for each in guarded for name in each.clusters} - {"*"})
    if configuration.discovery:
        yield HIDDEN_ROUTES.at(configuration.discovery, "listeners come by discovery, and are not visible")
    for manager in managers:
        if is_exempt(manager, configuration, protected):
            continue
        is_local = is_loopback(manager.listener["address"]) and not protected & _targets(manager)
        severity = Severity.WARNING if is_local else None
        if nested := _nested(manager):
            yield CONDITIONAL.at(
                nested.entry, f"ext_authz is inside {nested.name}, which runs it for some requests only"
            )
        else:
            yield UNGUARDED.at(manager.config["http_filters"], f"{manager.name} has no ext_authz for authz", severity)
    for proxy in configuration.tcp_proxies:
        is_checked = any(each["typed_config"].type_name.find(".ext_authz.") > 0 for each in proxy.chain["filters"])
        for name in sorted(proxy.clusters & protected):
            if not (is_checked or configuration.clusters.get(name, Node())["type"].text == "ORIGINAL_DST"):
                yield TCP_PROXY.at(proxy.config, f"a TCP proxy forwards to {name}, which authz protects elsewhere")


def _same_servers(configuration: Configuration, names: set[str]) -> set[str]:
    """Return the names of these clusters, and of all that have an address of theirs under another name."""
    addresses = {
        name: {repr(address.value) for address in addresses_of(cluster)}
        for name, cluster in configuration.clusters.items()
    }
    own = set[str]().union(*(addresses.get(name, ()) for name in names))
    return names | {name for name, found in addresses.items() if found & own}


def _nested(manager: Manager) -> Filter | None:
    """Return the filter that contains ext_authz and decides whether to run it."""
    containers = (each for each in manager.filters if each.short in {"composite", "filter_chain"})
    return next((each for each in containers if any(it.kind == "ExtAuthz" for it in each.entry.walk())), None)


def routes(guarded: Guarded) -> Iterator[Finding]:
    """Find routes, upgrades and tunnels that are not checked."""
    if guarded.manager.is_hidden:
        places = [guarded.config["rds"], guarded.config["scoped_routes"], guarded.config["route_config"]]
        yield HIDDEN_ROUTES.at(next(filter(None, places), guarded.config), "routes are not visible")
    for entry in guarded.manager.entries():
        yield from _of_route(guarded, entry)
    yield from _disabled_tables(guarded)
    yield from _upgrades(guarded)
    yield from _misnamed(guarded)
    typed = guarded.authz.entry["typed_config"]
    if typed.kind == "ExtensionWithMatcher":
        yield CONDITIONAL.at(typed, "ext_authz is behind a match tree")


def _of_route(guarded: Guarded, entry: Entry) -> Iterator[Finding]:
    name, route = guarded.authz.name, entry.route
    label = route["name"].text or f"in {entry.host['name'].text or 'a virtual host'}"
    if route["match"]["connect_matcher"]:
        yield TUNNEL.at(route["match"], f"route {label} accepts CONNECT")
    chosen = route.at("route", "cluster_header")
    if chosen and not is_removed_early(guarded, chosen.text.lower()):
        yield CHOSEN.at(chosen, f"a client's {chosen.text} chooses the cluster of route {label}")
    for weighted in route.at("route", "weighted_clusters", "clusters"):
        if is_disabled(settings := weighted["typed_per_filter_config"][name]):
            yield ROUTE_SKIPS.at(settings, f"route {label} switches ext_authz off for a part of its requests")
    settings = entry.per_filter(name)
    if guarded.is_checked(entry):
        yield from _other_service(guarded, settings, label)
        return
    if not entry.clusters:
        if route["redirect"] or route["direct_response"]:
            yield LOCAL_ANSWER.at(settings or route, f"route {label} is answered without a check")
    elif not settings:
        yield NOT_SWITCHED_ON.at(guarded.authz.entry["disabled"], f"route {label} does not enable ext_authz")
    elif settings.path[: len(route.path)] == route.path:
        is_exact = route["match"]["path"].text in _PROBES
        severity = Severity.NOTE if is_exact else None
        yield ROUTE_SKIPS.at(settings, f"route {label} switches ext_authz off", severity)


def _other_service(guarded: Guarded, settings: Node, label: str) -> Iterator[Finding]:
    check = (settings["config"] if settings.kind == "FilterConfig" else settings).message["check_settings"]
    asked = check.at("grpc_service", "envoy_grpc", "cluster_name").text
    if check["http_service"] or (check["grpc_service"] and asked != cluster_of(guarded.authz)):
        yield OTHER_SERVICE.at(check, f"route {label} asks {asked or 'another service'}")


def _disabled_tables(guarded: Guarded) -> Iterator[Finding]:
    """Find virtual hosts and tables that switch the filter off: every route that is added to them is open."""
    for table in guarded.manager.tables:
        for node in (table, *table["virtual_hosts"]):
            settings = node["typed_per_filter_config"][guarded.authz.name]
            if is_disabled(settings):
                name = node["name"].text or "without a name"
                yield ROUTE_SKIPS.at(settings, f"{name} switches ext_authz off for its routes")


def _upgrades(guarded: Guarded) -> Iterator[Finding]:
    for upgrade in guarded.config["upgrade_configs"]:
        filters = list(upgrade["filters"])
        if filters and not any(each["typed_config"].kind == "ExtAuthz" for each in filters):
            yield UPGRADE_SKIPS.at(upgrade["filters"], f"upgrade {upgrade['upgrade_type'].text} has its own filters")
    for entry in guarded.manager.entries():
        for upgrade in entry.route.at("route", "upgrade_configs"):
            if upgrade["connect_config"]:
                yield TUNNEL.at(upgrade, "an upgrade makes a tunnel of CONNECT")


def _misnamed(guarded: Guarded) -> Iterator[Finding]:
    names = {each.name for each in guarded.manager.filters}
    seen: set[tuple[str | int, ...]] = set()
    for entry in guarded.manager.entries():
        for level in (entry.table, entry.host, entry.route):
            for name, settings in level["typed_per_filter_config"].fields():
                is_ours = settings.kind == "ExtAuthzPerRoute" or name == EXT_AUTHZ
                if is_ours and name not in names and settings.path not in seen:
                    seen.add(settings.path)
                    yield MISNAMED.at(settings, f"{name} is the name of no filter; the filter is {guarded.authz.name}")


def is_exempt(manager: Manager, configuration: Configuration, protected: set[str]) -> bool:
    """Tell whether a connection manager needs no check: it forwards nothing, or only to Envoy's own pages."""
    if manager.listener["traffic_direction"].text == "OUTBOUND":
        return True
    targets = _targets(manager)
    if not targets:
        return not manager.is_hidden
    if targets & protected:
        return False
    return all(_is_probe(entry, configuration) for entry in manager.entries() if entry.clusters)


def _targets(manager: Manager) -> set[str]:
    return {name for entry in manager.entries() for name in entry.clusters}


def _is_probe(entry: Entry, configuration: Configuration) -> bool:
    """Tell whether a route forwards a page of probes or metrics to a server of this machine."""
    clusters = [configuration.clusters.get(name, Node()) for name in entry.clusters]
    addresses = [address for cluster in clusters for address in addresses_of(cluster)]
    match = entry.route["match"]
    path = match["path"].text or match["prefix"].text
    is_page = any(path == page or path.startswith(f"{page}/") for page in _PROBES)
    is_local = bool(addresses) and all(map(is_loopback, addresses))
    return is_page and (is_local or not configuration.has_clusters)
