"""An Envoy configuration as the rules see it: connection managers with their filters and routes, and clusters.

Where the parts come from, a bootstrap or a dump, is `adapters/envoy_config/`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from authz.core.envoy_rules.node import Node

EXT_AUTHZ = "envoy.filters.http.ext_authz"
_HTTP = "envoy.extensions.filters.http."
NOTHING = Node()
"""A value that is missing."""

_LOOPBACK = ("127.", "::1", "localhost")
_MANAGER, _TCP = "HttpConnectionManager", "TcpProxy"


@dataclass(frozen=True, slots=True)
class Sources:
    """The parts of a configuration: listeners, route tables, scopes, clusters, and filters with discovery.

    `discovery` says where listeners come from that the input does not contain. `has_clusters` is unset where the input
    cannot contain clusters.
    """

    listeners: list[Node] = field(default_factory=list)
    tables: list[Node] = field(default_factory=list)
    scopes: list[Node] = field(default_factory=list)
    clusters: list[Node] = field(default_factory=list)
    filters: list[Node] = field(default_factory=list)
    admin: Node = NOTHING
    discovery: Node = NOTHING
    has_clusters: bool = True


@dataclass(frozen=True, slots=True)
class Filter:
    """An HTTP filter: its entry in the chain, its name and its settings.

    `is_hidden` is set if its settings come by discovery and the input does not contain them.
    """

    entry: Node
    name: str
    config: Node
    type_name: str
    is_hidden: bool = False

    @property
    def short(self) -> str:
        """The folder of the extension, such as `ext_authz`; the last word of the name where the type is unknown."""
        if self.type_name.startswith(_HTTP):
            return self.type_name.removeprefix(_HTTP).partition(".")[0]
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Entry:
    """A route in its virtual host and table."""

    table: Node
    host: Node
    route: Node

    def per_filter(self, name: str) -> Node:
        """Return the most specific settings of a filter."""
        levels = (self.route, self.host, self.table)
        return next((found for level in levels if (found := level["typed_per_filter_config"][name])), Node())

    @property
    def clusters(self) -> set[str]:
        """The clusters to which the route forwards; `*` for one that the configuration does not name."""
        action = self.route["route"]
        names = {each["name"].text for each in action.at("weighted_clusters", "clusters")}
        if action["cluster"]:
            names.add(action["cluster"].text)
        return names or ({"*"} if action else set())


@dataclass(frozen=True, slots=True)
class Manager:
    """An HTTP connection manager: its listener and chain, its filters and its route tables.

    `is_hidden` is set if a route table, or a part of one, comes by discovery and the input does not contain it.
    """

    listener: Node
    chain: Node
    config: Node
    filters: tuple[Filter, ...]
    tables: tuple[Node, ...]
    is_hidden: bool

    def entries(self) -> Iterator[Entry]:
        """Iterate over all routes, also those in match trees."""
        for table in self.tables:
            for host in table["virtual_hosts"]:
                for route in host["routes"]:
                    yield Entry(table, host, route)
                for node in host["matcher"].walk():
                    if node.kind == "Route":
                        yield Entry(table, host, node.message)
                    elif node.kind == "RouteList":
                        for route in node.message["routes"]:
                            yield Entry(table, host, route)

    @property
    def type_name(self) -> str:
        """The message type of its settings."""
        return self.config.type_name or self.chain.type_name

    @property
    def name(self) -> str:
        """How messages name it."""
        listener = self.listener["name"].text or "without a name"
        return f"listener {listener}"


@dataclass(frozen=True, slots=True)
class TcpProxy:
    """A TCP proxy in a filter chain."""

    listener: Node
    chain: Node
    config: Node

    @property
    def clusters(self) -> set[str]:
        """The clusters to which it forwards."""
        names = {each["name"].text for each in self.config.at("weighted_clusters", "clusters")}
        return names | {self.config["cluster"].text} - {""}


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole configuration."""

    managers: tuple[Manager, ...]
    tcp_proxies: tuple[TcpProxy, ...]
    clusters: dict[str, Node]
    admin: Node
    discovery: Node
    has_clusters: bool


def configuration_of(sources: Sources) -> Configuration:
    """Build the model of a configuration."""
    managers: list[Manager] = []
    proxies: list[TcpProxy] = []
    for listener in sources.listeners:
        for chain in (*listener["filter_chains"], listener["default_filter_chain"]):
            for each in chain["filters"]:
                config = each["typed_config"].message
                if each["typed_config"].kind == _MANAGER:
                    managers.append(_manager(sources, listener, chain, config))
                elif each["typed_config"].kind == _TCP:
                    proxies.append(TcpProxy(listener, chain, config))
        api = listener.at("api_listener", "api_listener")
        if api.kind == _MANAGER:
            managers.append(_manager(sources, listener, api, api.message))
    clusters = {cluster["name"].text: cluster for cluster in sources.clusters}
    return Configuration(
        tuple(managers), tuple(proxies), clusters, sources.admin, sources.discovery, sources.has_clusters
    )


def _manager(sources: Sources, listener: Node, chain: Node, config: Node) -> Manager:
    filters = tuple(_filter(sources, entry) for entry in config["http_filters"])
    tables, is_hidden = _tables(sources, config)
    return Manager(listener, chain, config, filters, tables, is_hidden)


def filter_of(entry: Node) -> Filter:
    """Return a filter whose settings are in the configuration."""
    return _filter(Sources(), entry)


def _filter(sources: Sources, entry: Node) -> Filter:
    name, typed = entry["name"].text, entry["typed_config"]
    if discovery := entry["config_discovery"]:
        found = next((each for each in sources.filters if each["name"].text == name), Node())
        typed = found["typed_config"] or discovery["default_config"]
        if not typed:
            types = [each.text.rpartition("/")[2] for each in discovery["type_urls"]]
            return Filter(entry, name, NOTHING, types[0] if len(types) == 1 else "", is_hidden=True)
    type_name = typed.type_name
    if typed.kind == "ExtensionWithMatcher":
        typed = typed.at("extension_config", "typed_config")
        type_name = typed.type_name
    return Filter(entry, name, typed.message, type_name)


def _tables(sources: Sources, config: Node) -> tuple[tuple[Node, ...], bool]:
    """Return the route tables of a connection manager, and whether one of them is missing."""
    if table := config["route_config"]:
        return (table,), bool(table["vhds"])
    wanted = {config.at("rds", "route_config_name").text} - {""}
    if scoped := config["scoped_routes"]:
        lists = scoped.at("scoped_route_configurations_list", "scoped_route_configurations")
        scopes = [*lists, *sources.scopes]
        wanted |= {scope["route_configuration_name"].text for scope in scopes} - {""}
        inline = tuple(table for scope in scopes if (table := scope["route_configuration"]))
        named = _named(sources, wanted)
        return (*inline, *named), len(named) < len(wanted) or not (inline or named)
    named = _named(sources, wanted)
    return named, len(named) < len(wanted) or any(table["vhds"] for table in named)


def _named(sources: Sources, names: set[str]) -> tuple[Node, ...]:
    return tuple({table["name"].text: table for table in sources.tables if table["name"].text in names}.values())


def addresses_of(cluster: Node) -> list[Node]:
    """Return the addresses of the endpoints of a cluster."""
    found = [
        each.at("endpoint", "address")
        for group in cluster.at("load_assignment", "endpoints")
        for each in group["lb_endpoints"]
    ]
    return [address for address in found if address]


def is_loopback(address: Node) -> bool:
    """Tell whether an address can be connected to from this machine only."""
    host = address.at("socket_address", "address").text
    is_inside = bool(address["pipe"] or address["envoy_internal_address"])
    return is_inside or host.startswith(_LOOPBACK)


def is_open_address(address: Node) -> bool:
    """Tell whether other machines can connect to an address."""
    return bool(address["socket_address"]) and not is_loopback(address)
