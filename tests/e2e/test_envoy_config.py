"""The shipped Envoy configuration: valid, and with every setting that the policy's safety rests on."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from authz.core.keys import KeyFormat
from authz.core.policy.overrides import METHOD_HEADERS, PATH_HEADERS
from authz.demo.envoy import configured
from authz.demo.servers import package_folder, shipped
from authz.settings import Settings


@pytest.fixture(scope="module")
def config() -> Any:  # noqa: ANN401 -- YAML
    return yaml.safe_load(shipped("envoy.yaml").read_text())


@pytest.fixture(scope="module")
def manager(config: Any) -> Any:  # noqa: ANN401 -- YAML
    (listener,) = config["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def walk(node: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 -- YAML
    if isinstance(node, dict):
        for name, value in node.items():
            yield name, value
            yield from walk(value)
    elif isinstance(node, list):
        for item in node:
            yield from walk(item)


def test_envoy_itself_finds_it_valid() -> None:
    envoy = package_folder("envoy") / "_bin" / "envoy"
    done = subprocess.run(
        [envoy, "--mode", "validate", "-c", shipped("envoy.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_paths_headers_and_addresses_are_normalised_before_anything_else(manager: Any) -> None:  # noqa: ANN401
    assert manager["normalize_path"] is True
    assert manager["merge_slashes"] is True
    assert manager["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
    assert manager["common_http_protocol_options"]["headers_with_underscores_action"] == "REJECT_REQUEST"
    assert manager["use_remote_address"] is True
    (mutation,) = manager["early_header_mutation_extensions"]
    stripped = mutation["typed_config"]["mutations"][0]["remove_on_match"]["key_matcher"]
    assert stripped == {"prefix": "x-authz-", "ignore_case": True}
    assert {"remove": "x-envoy-external-address"} in mutation["typed_config"]["mutations"]


def test_no_answer_is_no_permission(manager: Any) -> None:  # noqa: ANN401 -- YAML
    names = [item["name"] for item in manager["http_filters"]]
    assert names == [
        "envoy.filters.http.header_mutation",
        "envoy.filters.http.cors",
        "envoy.filters.http.ext_authz",
        "envoy.filters.http.router",
    ]
    authz = manager["http_filters"][2]["typed_config"]
    assert authz["failure_mode_allow"] is False
    assert authz["validate_mutations"] is True
    assert authz["encode_raw_headers"] is True
    assert authz["decoder_header_mutation_rules"]["disallow_all"] is True
    assert not {"filter_enabled", "shadow_mode", "clear_route_cache"} & authz.keys()
    assert authz["with_request_body"] == {
        "max_request_bytes": 65536,
        "allow_partial_message": False,
        "pack_as_bytes": True,
    }
    assert authz["grpc_service"]["timeout"] == "0.2s"


def test_no_route_goes_around_authz_or_carries_the_key_on(manager: Any, config: Any) -> None:  # noqa: ANN401 -- YAML
    assert not [value for name, value in walk(config) if name == "disabled"]
    (host,) = manager["route_config"]["virtual_hosts"]
    assert {"x-api-key", *METHOD_HEADERS, *PATH_HEADERS} == set(host["request_headers_to_remove"])
    assert host["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"] == {
        "disable_request_body_buffering": True
    }
    assert not [route for route in host["routes"] if "request_headers_to_remove" in route]
    assert not [name for name, _ in walk(config) if name in {"redirect", "direct_response", "prefix_rewrite"}]


def test_the_access_log_names_neither_key_nor_query(manager: Any) -> None:  # noqa: ANN401 -- YAML
    fields = manager["access_log"][1]["typed_config"]["log_format"]["json_format"]
    assert not [
        value for value in fields.values() if "API-KEY" in value.upper() or "PATH(WQ" in value or "REQ(:PATH" in value
    ]


def test_the_access_log_masks_words_as_long_as_a_secret(manager: Any) -> None:  # noqa: ANN401 -- YAML
    fields = manager["access_log"][1]["typed_config"]["log_format"]["json_format"]
    chars = KeyFormat("").chars
    for name in ("method", "path", "request_id"):
        assert f"matches('[0-~]{{{chars}}}')" in fields[name]


def test_other_addresses_change_nothing_else(config: Any) -> None:  # noqa: ANN401 -- YAML
    clusters = {"authz": [1, 2], "authz-streams": [1, 2], "backend": [3], "backend-grpc": [3], "portal": [4]}
    moved = configured(yaml.safe_load(shipped("envoy.yaml").read_text()), port=5, admin_port=6, clusters=clusters)
    ports = [value for name, value in walk(moved) if name == "port_value"]
    assert sorted(ports) == [1, 1, 2, 2, 3, 3, 4, 5, 6]

    def without_addresses(document: Any) -> list[tuple[str, Any]]:  # noqa: ANN401 -- YAML
        skipped = {
            "address",
            "socket_address",
            "endpoints",
            "load_assignment",
            "lb_endpoints",
            "endpoint",
            "port_value",
        }
        return [
            (name, value)
            for name, value in walk(document)
            if name not in skipped and not isinstance(value, dict | list)
        ]

    assert without_addresses(moved["static_resources"]["listeners"]) == without_addresses(
        config["static_resources"]["listeners"]
    )


def test_only_streams_that_hold_a_lease_are_reported_and_at_once(manager: Any) -> None:  # noqa: ANN401 -- YAML
    reports, lines = manager["access_log"]
    matcher = reports["filter"]["metadata_filter"]
    assert matcher["match_if_key_not_found"] is False
    assert matcher["matcher"]["filter"] == "envoy.filters.http.ext_authz"
    assert matcher["matcher"]["path"] == [{"key": "lease_id"}]
    assert reports["typed_config"]["common_config"]["buffer_size_bytes"] == 0
    assert lines["filter"] == {"log_type_filter": {"types": ["DownstreamEnd"]}}


def test_envoy_reports_as_often_as_authz_expects(manager: Any) -> None:  # noqa: ANN401 -- YAML
    interval = manager["access_log_options"]["access_log_flush_interval"]
    assert float(interval.removesuffix("s")) == Settings.model_fields["stream_heartbeat_s"].default
