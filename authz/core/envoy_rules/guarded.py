"""The connection managers that authz guards, and what of them is guarded.

What their settings must be is for the rules.
"""

from dataclasses import dataclass

from authz.core.envoy_rules.model import Configuration, Entry, Filter, Manager
from authz.core.envoy_rules.needs import Needs
from authz.core.envoy_rules.node import Node


@dataclass(frozen=True, slots=True)
class Guarded:
    """A connection manager with the ext_authz filter that asks authz."""

    manager: Manager
    authz: Filter
    configuration: Configuration
    needs: Needs

    @property
    def config(self) -> Node:
        """The settings of the connection manager."""
        return self.manager.config

    @property
    def position(self) -> int:
        """The index of the ext_authz filter in the chain."""
        return self.manager.filters.index(self.authz)

    @property
    def before(self) -> tuple[Filter, ...]:
        """The filters before ext_authz."""
        return self.manager.filters[: self.position]

    @property
    def after(self) -> tuple[Filter, ...]:
        """The filters behind ext_authz."""
        return self.manager.filters[self.position + 1 :]

    def is_checked(self, entry: Entry) -> bool:
        """Tell whether the filter runs on a route."""
        return is_checked(self.authz, entry)

    @property
    def is_inbound(self) -> bool:
        """Whether a service mesh has set the listener for requests to its own workload."""
        return self.manager.listener["traffic_direction"].text == "INBOUND"

    @property
    def clusters(self) -> set[str]:
        """The clusters to which checked routes forward."""
        return {name for entry in self.manager.entries() for name in entry.clusters if self.is_checked(entry)}


def is_checked(authz: Filter, entry: Entry) -> bool:
    """Tell whether an ext_authz filter runs on a route."""
    settings = entry.per_filter(authz.name)
    if is_disabled(settings):
        return False
    return bool(settings) or not authz.entry["disabled"].is_on


def is_disabled(settings: Node) -> bool:
    """Tell whether per-route settings disable a filter, directly or wrapped as `FilterConfig`."""
    return settings["disabled"].is_on or settings.message["disabled"].is_on or settings.at("config", "disabled").is_on


def cluster_of(authz: Filter) -> str:
    """Return the cluster that a filter asks, "" if it asks none by gRPC."""
    return authz.config.at("grpc_service", "envoy_grpc", "cluster_name").text


def guarded_of(manager: Manager, configuration: Configuration, needs: Needs, cluster: str) -> Guarded | None:
    """Return a connection manager as guarded by authz; None if it has no ext_authz filter.

    Of several filters, the one that asks `cluster` is meant; without a name, one that asks by gRPC, preferably a
    cluster with authz in its name.
    """
    found = [each for each in manager.filters if each.short == "ext_authz"]
    if cluster:
        found = [each for each in found if cluster_of(each) == cluster]
    found.sort(key=lambda each: (not each.config["grpc_service"], "authz" not in cluster_of(each)))
    return Guarded(manager, found[0], configuration, needs) if found else None
