"""What the recipe for Istio becomes in Envoy, as Pilot translated it; a real Envoy takes it."""

from pathlib import Path
from typing import Any

import pytest
from gateways.translated import assert_guarded, translated, untyped, validated

_HTTP = "envoy.filters.network.http_connection_manager"
# Istio's own filters, which other builds of Envoy do not have.
_OF_ISTIO = "istio.metadata_exchange"


@pytest.fixture
def listener() -> dict[str, Any]:
    (found,) = (each["activeState"]["listener"] for each in _section("dynamicListeners"))
    return dict(found)


@pytest.fixture
def managers(listener: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts that serve HTTP: with and without mTLS, on the application's port and on others."""
    chains = listener["filterChains"]
    found = [each["typedConfig"] for chain in chains for each in chain["filters"] if each["name"] == _HTTP]
    assert len(found) == 4
    return found


def test_every_guarantee_that_the_recipe_names_is_in_each_filter(managers: list[dict[str, Any]]) -> None:
    for manager in managers:
        (filter_,) = (each["typedConfig"] for each in manager["httpFilters"] if each["name"].endswith("ext_authz"))
        assert_guarded(filter_)


def test_no_request_passes_without_a_check(managers: list[dict[str, Any]]) -> None:
    for manager in managers:
        by_name = {each["name"]: each["typedConfig"] for each in manager["httpFilters"]}
        # The filter is on where the rule matches, and the rule matches all.
        enabled = by_name["envoy.filters.http.ext_authz"]["filterEnabledMetadata"]
        (policy,) = by_name["envoy.filters.http.rbac"]["shadowRules"]["policies"].items()
        assert policy[0].startswith(enabled["value"]["stringMatch"]["prefix"])
        assert policy[1]["permissions"] == [{"andRules": {"rules": [{"any": True}]}}]
        assert policy[1]["principals"] == [{"andIds": {"ids": [{"any": True}]}}]


def test_authz_and_the_application_see_one_request(managers: list[dict[str, Any]]) -> None:
    for manager in managers:
        assert manager["normalizePath"]
        assert manager["mergeSlashes"]
        assert manager["pathWithEscapedSlashesAction"] == "REJECT_REQUEST"
        assert manager["commonHttpProtocolOptions"]["headersWithUnderscoresAction"] == "REJECT_REQUEST"
        first = manager["httpFilters"][0]
        assert first["name"] == "envoy.filters.http.header_mutation"
        assert first["typedConfig"]["mutations"]["requestTrailersMutations"]


def test_a_real_envoy_takes_it(listener: dict[str, Any], tmp_path: Path) -> None:
    for chain in listener["filterChains"]:
        # The certificates come from Istio's agent.
        chain.pop("transportSocket", None)
        chain["filters"] = [each for each in chain["filters"] if each["name"] != _OF_ISTIO]
        for each in chain["filters"]:
            own = each["typedConfig"].get("httpFilters", [])
            own[:] = [inner for inner in own if inner["name"] != _OF_ISTIO]
    clusters = [_static(each["cluster"]) for each in _section("dynamicActiveClusters")]
    validated([untyped(listener)], clusters, tmp_path)


def _static(cluster: dict[str, Any]) -> dict[str, Any]:
    left_out = {"edsClusterConfig", "transportSocket", "transportSocketMatches", "filters", "@type"}
    kind = "STATIC" if cluster["type"] == "EDS" else cluster["type"]
    return {name: part for name, part in cluster.items() if name not in left_out} | {"type": kind}


def _section(name: str) -> list[dict[str, Any]]:
    return next(config[name] for config in translated("istio")["configs"] if name in config)
