"""Recognises the form of a configuration: a bootstrap, a dump of Envoy, or output of egctl or istioctl.

Each becomes the same parts (`core/envoy_rules/model.py`).
"""

from dataclasses import replace

from authz.adapters.envoy_config.document import UnreadableConfig
from authz.core.envoy_rules.model import Sources
from authz.core.envoy_rules.node import Node

_DEPTH_MAX = 6
_BOOTSTRAP = ("static_resources", "dynamic_resources", "admin", "layered_runtime", "overload_manager")
_CLUSTER = ("load_assignment", "lb_policy", "connect_timeout", "eds_cluster_config", "cluster_type")
# Of a dump: the fields of each part, on the way to the resource.
_LISTENERS = (("static_listeners", "listener"), ("dynamic_listeners", "active_state", "listener"))
_WARMING = ("dynamic_listeners", "warming_state", "listener")
_TABLES = (("static_route_configs", "route_config"), ("dynamic_route_configs", "route_config"))
_SCOPES = (("inline_scoped_route_configs",), ("dynamic_scoped_route_configs",))
_CLUSTERS = (("static_clusters", "cluster"), ("dynamic_active_clusters", "cluster"))
_FILTERS = ("ecds_filters", "ecds_filter")
# Of a dump of one resource: the field in each item.
_SINGLE = {
    "StaticListener": ("listener",),
    "DynamicListener": ("active_state", "listener"),
    "StaticRouteConfig": ("route_config",),
    "DynamicRouteConfig": ("route_config",),
    "StaticCluster": ("cluster",),
    "DynamicCluster": ("cluster",),
}
_KINDS = {"Listener": "listeners", "RouteConfiguration": "tables", "Cluster": "clusters"}


def sources_of(root: object) -> Sources:
    """Return the parts of a configuration of any form; raises `UnreadableConfig` where none is recognised."""
    found = Sources(has_clusters=False)
    is_known, found = _collected(Node(root), found, _DEPTH_MAX)
    if not is_known:
        raise UnreadableConfig(_unknown(Node(root)))
    return found


def without_managers(sources: Sources) -> str:
    """Tell why a configuration has no connection manager to check."""
    filters = [each for it in sources.listeners for chain in it["filter_chains"] for each in chain["filters"]]
    if any(each["config"] and not each["typed_config"] for each in filters):
        return "its filters have the field `config` of version 2 of Envoy's API, which Envoy does not accept any more"
    return "no HTTP connection manager in it; where listeners come by discovery, use /config_dump"


def _collected(node: Node, into: Sources, depth: int) -> tuple[bool, Sources]:
    """Add what a value contains; also tell whether it is of a known form."""
    if any(node[name] for name in _BOOTSTRAP) and not node["configs"]:
        return True, _bootstrap(node, into)
    if isinstance(node["configs"].value, list):
        return True, _dump(node, into)
    if _is_resource(node, into):
        return True, replace(into, has_clusters=bool(into.clusters))
    if depth == 0 or node["api_version"]:
        return False, into
    is_known = False
    for child in (*node, *(child for _, child in node.fields())):
        is_one, into = _collected(child, into, depth - 1)
        is_known = is_known or is_one
    return is_known, into


def _bootstrap(node: Node, into: Sources) -> Sources:
    static = node["static_resources"]
    into.listeners.extend(static["listeners"])
    into.clusters.extend(static["clusters"])
    is_whole = not node.at("dynamic_resources", "cds_config")
    discovery = node.at("dynamic_resources", "lds_config")
    return replace(into, admin=node["admin"], discovery=discovery, has_clusters=into.has_clusters or is_whole)


def _dump(node: Node, into: Sources) -> Sources:
    """Add a dump. Envoy repeats the listeners of its bootstrap among the others: each is added once."""
    bootstraps = [each["bootstrap"] for each in node["configs"] if each.kind == "BootstrapConfigDump"]
    for config in node["configs"]:
        into = _dumped(config, into)
    known = [listener["address"].value for listener in into.listeners]
    for bootstrap in bootstraps:
        static = bootstrap["static_resources"]
        into.listeners.extend(each for each in static["listeners"] if each["address"].value not in known)
        into.clusters.extend(static["clusters"])
        into = replace(into, admin=bootstrap["admin"])
    return into


def _dumped(config: Node, into: Sources) -> Sources:
    """Add one part of a dump."""
    kind = config.kind
    into.listeners.extend(_resources(config, *_LISTENERS) or _resources(config, _WARMING))
    into.tables.extend(_resources(config, *_TABLES))
    into.filters.extend(_resources(config, _FILTERS))
    into.scopes.extend(scope for each in _resources(config, *_SCOPES) for scope in each["scoped_route_configs"])
    into.clusters.extend(_resources(config, *_CLUSTERS))
    if kind == "ClustersConfigDump":
        return replace(into, has_clusters=True)
    if kind in _SINGLE:
        _is_resource(config.at(*_SINGLE[kind]), into)
    else:
        _is_resource(config, into)
    return into


def _resources(config: Node, *ways: tuple[str, ...]) -> list[Node]:
    return [found for first, *others in ways for each in config[first] if (found := each.at(*others))]


def _is_resource(node: Node, into: Sources) -> bool:
    """Add a listener, a route table or a cluster by its type or fields; returns False for anything else."""
    kind = _KINDS.get(node.kind, "")
    if not kind and isinstance(node["filter_chains"].value, list):
        kind = "listeners"
    elif not kind and isinstance(node["virtual_hosts"].value, list):
        kind = "tables"
    elif not kind and node["name"] and any(node[name] for name in _CLUSTER):
        kind = "clusters"
    if kind:
        getattr(into, kind).append(node)
    return bool(kind)


def _unknown(root: Node) -> str:
    first = next(iter(root), root)
    if first["api_version"] and first["kind"].text:
        return (
            f"a Kubernetes manifest of kind {first['kind'].text[:40]}, not a configuration of Envoy: check the output "
            "of `egctl x translate`, `istioctl proxy-config all POD -o json` or /config_dump"
        )
    return "not a configuration of Envoy: expected a bootstrap, a /config_dump, or output of egctl or istioctl"
