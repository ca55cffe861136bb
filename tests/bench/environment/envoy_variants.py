"""One Envoy with a listener for each compared variant: the shipped configuration with another authorization filter.

Allowed requests get a direct response, so that no backend is measured. Nothing is logged.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from authz.demo.servers import Server, accepts, free_port, package_folder, shipped

NONE, IN_PROCESS, CONSTANT, WHOLE = "no authz", "Envoy's own filters", "constant answer", "whole"
RECORD, CONSTANT_TRACED, WHOLE_TRACED = "record", "constant answer, traced", "whole, traced"

_ASKS = {RECORD: "recorder", CONSTANT: "constant", WHOLE: "authz", CONSTANT_TRACED: "constant", WHOLE_TRACED: "authz"}
"""Which service a listener asks; two of them ask nobody."""

_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters.http"
_TRACER = "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig"


class BenchEnvoy(Server):
    """An Envoy whose listeners are named by `urls`; `ports` are those of the services that they call."""

    def __init__(self, folder: Path, ports: Mapping[str, int], secrets: Sequence[str]) -> None:
        self._ports = {name: free_port() for name in (NONE, IN_PROCESS, *_ASKS)}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}
        admin_port = free_port()
        shipped_config = yaml.safe_load(shipped("envoy.yaml").read_text())
        config = _config(shipped_config, self._ports, ports, secrets, admin_port)
        path = folder / "bench-envoy.json"
        path.write_text(json.dumps(config))
        binary = package_folder("envoy") / "_bin" / "envoy"
        options = ["--concurrency", "2", "--disable-hot-restart", "--log-level", "error"]
        super().__init__("bench-envoy", [binary, "-c", path, *options], folder / "bench-envoy.log")

    def start_all(self) -> None:
        """Start, and wait until every listener accepts."""
        self.start(lambda: all(accepts(port) for port in self._ports.values()))


def _config(
    shipped_config: Any,  # noqa: ANN401 -- YAML
    listeners: Mapping[str, int],
    services: Mapping[str, int],
    secrets: Sequence[str],
    admin_port: int,
) -> Any:  # noqa: ANN401 -- YAML
    (listener,) = shipped_config["static_resources"]["listeners"]
    authz = next(item for item in shipped_config["static_resources"]["clusters"] if item["name"] == "authz")
    return {
        "node": shipped_config["node"],
        "admin": {"address": _address(admin_port)},
        "layered_runtime": {
            "layers": [{"name": "bench", "static_layer": {"tracing": {"opentelemetry": {"min_flush_spans": 512}}}}]
        },
        "static_resources": {
            "listeners": [_listener(listener, name, port, secrets) for name, port in listeners.items()],
            "clusters": [_cluster(authz, name, port) for name, port in services.items()],
        },
    }


def _listener(listener: Any, name: str, port: int, secrets: Sequence[str]) -> Any:  # noqa: ANN401 -- YAML
    listener = copy.deepcopy(listener)
    listener |= {"name": name, "address": _address(port)}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["access_log"]
    trailers, cors, ext_authz, router = manager["http_filters"]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        del route["route"]
        route["direct_response"] = {"status": 200, "body": {"inline_string": "ok"}}
        if name not in _ASKS:
            route.pop("typed_per_filter_config", None)
    if name in _ASKS:
        ext_authz["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] = _ASKS[name]
        asking = [ext_authz, _buffer()]
    else:
        asking = [_buffer(), *([_api_key_auth(secrets), _local_ratelimit()] if name == IN_PROCESS else [])]
    manager["http_filters"] = [trailers, cors, *asking, router]
    if name in {CONSTANT_TRACED, WHOLE_TRACED}:
        manager["tracing"] = {"provider": _tracer()}
    return listener


def _cluster(authz: Any, name: str, port: int) -> Any:  # noqa: ANN401 -- YAML
    cluster = copy.deepcopy(authz)
    cluster["name"] = cluster["load_assignment"]["cluster_name"] = name
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    if name == "collector":
        del cluster["health_checks"]
    return cluster


def _buffer() -> Any:  # noqa: ANN401 -- YAML
    """Answer no request before its body has arrived: without a check to wait for, Envoy would close the connection."""
    return {
        "name": "envoy.filters.http.buffer",
        "typed_config": {"@type": f"{_EXTENSIONS}.buffer.v3.Buffer", "max_request_bytes": 65_536},
    }


def _api_key_auth(secrets: Sequence[str]) -> Any:  # noqa: ANN401 -- YAML
    return {
        "name": "envoy.filters.http.api_key_auth",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.api_key_auth.v3.ApiKeyAuth",
            "credentials": [{"key": secret, "client": f"client {number}"} for number, secret in enumerate(secrets)],
            "key_sources": [{"header": "x-api-key"}],
        },
    }


def _local_ratelimit() -> Any:  # noqa: ANN401 -- YAML
    roomy = {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"}
    on_all = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "bench",
            "token_bucket": roomy,
            "filter_enabled": on_all,
            "filter_enforced": on_all,
            # A bucket a key, made when the key is first seen.
            "max_dynamic_descriptors": 10_000,
            "rate_limits": [{"actions": [{"request_headers": {"header_name": "x-api-key", "descriptor_key": "key"}}]}],
            "descriptors": [{"entries": [{"key": "key"}], "token_bucket": roomy}],
        },
    }


def _tracer() -> Any:  # noqa: ANN401 -- YAML
    return {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {
            "@type": _TRACER,
            "grpc_service": {"envoy_grpc": {"cluster_name": "collector"}, "timeout": "1s"},
            "service_name": "bench",
        },
    }


def _address(port: int) -> Any:  # noqa: ANN401 -- YAML
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
