"""What the recipe for Envoy Gateway becomes in Envoy, as its own tool translated it; a real Envoy takes it."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from gateways.around import text

from authz.demo.servers import package_folder

TRANSLATED = Path(__file__).parents[3] / "tests/data/envoy_gateway.yaml"
_EXT_AUTHZ = "envoy.filters.http.ext_authz"


@pytest.fixture(scope="module")
def dumped() -> dict[str, list[dict[str, Any]]]:
    """The resources by their kind: Listener, Cluster, RouteConfiguration."""
    (dump,) = yaml.safe_load(TRANSLATED.read_text())["xds"].values()
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


def test_the_translated_file_is_of_the_present_recipe() -> None:
    assert f"# Input: {hashlib.sha256(text().encode()).hexdigest()}\n" in TRANSLATED.read_text(), "run make gateways"


def test_every_guarantee_that_the_recipe_names_is_in_the_filter(manager: dict[str, Any]) -> None:
    first = manager["httpFilters"][0]
    assert first["name"].startswith(_EXT_AUTHZ)
    assert first["disabled"], "Envoy Gateway turns the filter on for each route"
    filter_ = first["typedConfig"]
    assert not filter_.get("failureModeAllow")
    assert filter_["statusOnError"] == {"code": "ServiceUnavailable"}
    assert filter_["grpcService"]["timeout"] == "0.200s"
    assert filter_["encodeRawHeaders"]
    assert filter_["validateMutations"]
    assert filter_["decoderHeaderMutationRules"]["disallowAll"]
    assert filter_["decoderHeaderMutationRules"]["disallowIsError"]


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
    (manager["routeConfig"],) = _untyped(dumped["routes"])
    clusters = [{**each, "type": "STATIC"} for each in _untyped(dumped["clusters"])]
    for cluster in clusters:
        cluster.pop("edsClusterConfig", None)
    listeners = _untyped(dumped["listeners"])
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}))
    envoy = package_folder("envoy") / "_bin" / "envoy"
    told = subprocess.run([envoy, "--mode", "validate", "-c", config], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-2_000:]


def _untyped(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: part for name, part in each.items() if name != "@type"} for each in resources]
