"""A bootstrap with one listener and one backend, into which the blocks of a policy are put.

The blocks themselves are `blocks.py`.
"""

from typing import Any

from authz.adapters.envoy_config.blocks import endpoint_cluster, typed

_BACKEND = "backend"


def skeleton(backend: str) -> dict[str, Any]:
    """Return the bootstrap for a backend at HOST:PORT, without anything of authz."""
    router = {"name": "envoy.filters.http.router", "typed_config": typed("filters.http.router.v3.Router")}
    route = {"match": {"prefix": "/"}, "route": {"cluster": _BACKEND, "timeout": "30s"}}
    host = {"name": "api", "domains": ["*"], "routes": [route]}
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="api",
        codec_type="AUTO",
        http_filters=[router],
        route_config={"name": "api", "virtual_hosts": [host]},
    )
    connections = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    listener = {
        "name": "api",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 8000}},  # noqa: S104 -- Envoy's own listener
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": [{"filters": [connections]}],
    }
    return {
        "node": {"id": "edge", "cluster": "edge"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}},
        "static_resources": {
            "listeners": [listener],
            "clusters": [endpoint_cluster(_BACKEND, backend) | {"connect_timeout": "1s"}],
        },
    }
