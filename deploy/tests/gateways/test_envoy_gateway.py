"""What the recipe for Envoy Gateway becomes in Envoy, as its own tool translated it; a real Envoy takes it."""

import json
from pathlib import Path
from typing import Any

import pytest
from gateways.translated import assert_guarded, translated, untyped, validated

_EXT_AUTHZ = "envoy.filters.http.ext_authz"


@pytest.fixture(scope="module")
def dumped() -> dict[str, list[dict[str, Any]]]:
    """The resources by their kind: Listener, Cluster, RouteConfiguration."""
    (dump,) = translated("envoy-gateway")["xds"].values()
    sections = {config["@type"].rpartition(".")[2]: config for config in dump["configs"]}
    listeners = sections["ListenersConfigDump"]["dynamicListeners"]
    return {
        "listeners": [each["activeState"]["listener"] for each in listeners],
        "clusters": [each["cluster"] for each in sections["ClustersConfigDump"]["dynamicActiveClusters"]],
        "routes": [each["routeConfig"] for each in sections["RoutesConfigDump"]["dynamicRouteConfigs"]],
    }


@pytest.fixture(scope="module")
def manager(dumped: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    (listener,) = (each for each in dumped["listeners"] if each["name"] == "default/public/http")
    chain = listener.get("defaultFilterChain") or listener["filterChains"][0]
    found: dict[str, Any] = chain["filters"][0]["typedConfig"]
    return found


def test_every_guarantee_that_the_recipe_names_is_in_the_filter(manager: dict[str, Any]) -> None:
    first = manager["httpFilters"][0]
    assert first["name"].startswith(_EXT_AUTHZ)
    assert first["disabled"], "Envoy Gateway turns the filter on for each route"
    filter_ = first["typedConfig"]
    assert_guarded(filter_)


def test_authz_and_the_backend_see_one_request(manager: dict[str, Any]) -> None:
    assert manager["normalizePath"]
    assert manager["mergeSlashes"]
    assert manager["pathWithEscapedSlashesAction"] == "REJECT_REQUEST"
    assert manager["commonHttpProtocolOptions"]["headersWithUnderscoresAction"] == "REJECT_REQUEST"
    assert "x-authz-" in json.dumps(manager["earlyHeaderMutationExtensions"])


def test_no_route_is_without_a_check(dumped: dict[str, list[dict[str, Any]]]) -> None:
    routes = [route for config in dumped["routes"] for host in config["virtualHosts"] for route in host["routes"]]
    assert routes
    for route in routes:
        (name,) = (name for name in route["typedPerFilterConfig"] if name.startswith(_EXT_AUTHZ))
        assert not route["typedPerFilterConfig"][name].get("disabled")


def test_a_real_envoy_takes_it(
    dumped: dict[str, list[dict[str, Any]]], manager: dict[str, Any], tmp_path: Path
) -> None:
    # Without the control plane: routes and endpoints in the file itself.
    manager.pop("rds")
    (manager["routeConfig"],) = map(untyped, dumped["routes"])
    clusters = [{**untyped(each), "type": "STATIC"} for each in dumped["clusters"]]
    for cluster in clusters:
        cluster.pop("edsClusterConfig", None)
    validated([untyped(each) for each in dumped["listeners"]], clusters, tmp_path)
